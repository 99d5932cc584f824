"""Summaries of the columns of a day."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.monitoring.day_summary import IDENTIFIER, SUMMARY_SCHEMA, rounded, summarise

DAY = date(2013, 4, 1)
CUTOFF = datetime(2013, 4, 2, 7, tzinfo=UTC)


def values(table: pa.Table) -> dict[object, int]:
    """Rows by value of the only column of a table; nulls under None."""
    rows = summarise("weather", table, partition=DAY, cutoff=CUTOFF)
    assert rows.schema == SUMMARY_SCHEMA
    return {row["text"] if row["text"] is not None else row["number"]: row["rows"] for row in rows.to_pylist()}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["b", "a", None, "a"]), {"a": 2, "b": 1, None: 1}),
        (pa.array([3, 1, 3], pa.int64()), {1.0: 1, 3.0: 2}),
        (pa.array([0.1 + 0.2, 0.3, float("nan"), None, 0.0, -0.3]), {0.3: 2, 0.0: 1, -0.3: 1, None: 2}),
        (pa.array([1234.0, 1232.0, 1226.0]), {1230.0: 3}),
        (pa.array([True, False, None]), {1.0: 1, 0.0: 1, None: 1}),
        (pa.array([date(2013, 3, 31), DAY], pa.date32()), {-1.0: 1, 0.0: 1}),
        (pa.array([datetime(2013, 4, 2, 4, tzinfo=UTC), None], pa.timestamp("us")), {3.0: 1, None: 1}),
        (pa.array([datetime(2013, 4, 2, 4, tzinfo=UTC)], pa.timestamp("us", "UTC")), {3.0: 1}),
        (pa.array([], pa.float64()), {None: 0}),
    ],
)
def test_values_are_counted(column, expected) -> None:
    assert values(pa.table({"column": column})) == expected


def test_identifiers_are_not_counted_one_by_one() -> None:
    assert values(pa.table({"tailnum": [f"N{i}" for i in range(200)] + [None]})) == {IDENTIFIER: 200, None: 1}
    assert len(values(pa.table({"dest": [f"D{i % 90}" for i in range(400)]}))) == 90


def test_summaries_of_parts_add_up_to_that_of_the_whole() -> None:
    numbers = np.random.default_rng(0).normal(size=500) * 40
    whole = values(pa.table({"x": numbers}))
    one, other = (values(pa.table({"x": part})) for part in (numbers[:180], numbers[180:]))
    assert {key: one.get(key, 0) + other.get(key, 0) for key in one | other} == whole


def test_rounding_keeps_three_digits() -> None:
    numbers = np.array([0.0, 1e-30, 12345.0, -0.0012345, np.inf])
    assert rounded(numbers).tolist() == [0.0, 1e-30, 12300.0, -0.00123, np.inf]
