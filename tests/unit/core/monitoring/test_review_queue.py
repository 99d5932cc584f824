"""Which predictions a person reviews."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from nightshift.core.inference.certainty import CERTAINTY_SCHEMA
from nightshift.core.monitoring.review_queue import rows_to_review

COLUMNS = ["parcel", "p_late", *CERTAINTY_SCHEMA.names[:3]]


def predictions(*rows: tuple[Any, ...]) -> pa.Table:
    """Rows of (parcel, score, out_of_range, out_of_domain, certainty)."""
    schema = pa.schema([pa.field("parcel", pa.string()), pa.field("p_late", pa.float64()), *list(CERTAINTY_SCHEMA)[:3]])
    table = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=schema)
    for name in CERTAINTY_SCHEMA.names[3:]:
        table = table.append_column(name, pa.nulls(len(rows), pa.float64()))
    return table


def queued(table: pa.Table, most: int = 10) -> list[str]:
    names: list[str] = rows_to_review([table], ["parcel"], "p_late", most)["parcel"].to_pylist()
    return names


TABLE = predictions(
    ("sure", 0.1, 0, False, 1.0),
    ("unsure", 0.5, 0, False, 0.5),
    ("far", 0.1, 2, True, 0.9),
    ("beyond", 0.4, 1, False, 0.7),
    ("alike", 0.4, 1, False, 0.7),
    ("within", 0.4, None, False, 0.7),
    ("farther", 0.1, 0, True, 0.8),
    ("unknown", 0.3, None, None, None),
    ("far and sure", 0.0, 0, True, 1.0),
)
ORDER = ["farther", "far", "far and sure", "unsure", "alike", "beyond", "within"]


def test_out_of_domain_come_first_then_the_least_certain() -> None:
    assert queued(TABLE) == ORDER


def test_the_order_does_not_depend_on_that_of_the_rows() -> None:
    assert queued(TABLE.take(list(reversed(range(TABLE.num_rows))))) == ORDER


def test_the_order_does_not_depend_on_how_rows_are_divided() -> None:
    for size in (1, 2, 5):
        parts = [TABLE.slice(start, size) for start in range(0, TABLE.num_rows, size)]
        for most in (3, 10):
            assert rows_to_review(parts, ["parcel"], "p_late", most)["parcel"].to_pylist() == ORDER[:most]


def test_at_most_as_many_as_declared() -> None:
    assert queued(TABLE, 3) == ORDER[:3]
    assert queued(TABLE, 0) == []


def test_the_reason_names_all_that_is_unusual() -> None:
    rows = {row["parcel"]: row for row in rows_to_review([TABLE], ["parcel"], "p_late", 10).to_pylist()}
    assert rows["far"] == {
        "parcel": "far",
        "score": 0.1,
        "certainty": 0.9,
        "out_of_domain": True,
        "out_of_range": 2,
        "reason": "out of the domain of its version, certainty 90 %, 2 features out of range",
    }
    assert rows["beyond"]["reason"] == "certainty 70 %, 1 feature out of range"


def test_without_certainty_the_rows_out_of_the_domain_are_queued() -> None:
    assert queued(predictions(("a", 0.5, 3, None, None), ("b", 0.5, 0, True, None))) == ["b"]


def test_scores_without_these_columns_queue_nothing() -> None:
    assert queued(TABLE.select(["parcel", "p_late"])) == []
