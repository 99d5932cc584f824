"""The audit of a feature table: keys, types, share of nulls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.features.feature_audit import audit_view
from nightshift.core.features.feature_computation import EVENT_TIMESTAMP_TYPE
from nightshift.errors import FeatureContractError
from support.errors import raises_code

CUTOFF = datetime(2013, 5, 21, 7, tzinfo=UTC)
DECLARED = {"flight_id": pa.string(), "seats": pa.float64()}
Audit = Callable[..., dict[str, float]]
SPINE = pa.table({"flight_id": ["a", "b"], "origin": ["EWR", "EWR"]})


def view(ids: list[str | None], seats: list[float | None], at: datetime = CUTOFF) -> pa.Table:
    return pa.table(
        {
            "flight_id": pa.array(ids, pa.string()),
            "seats": pa.array(seats, pa.float64()),
            "event_timestamp": pa.array([at] * len(ids), EVENT_TIMESTAMP_TYPE),
        }
    )


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    def run(table: pa.Table, declared: dict[str, pa.DataType] = DECLARED, key: str = "flight_id") -> dict[str, float]:
        path = tmp_path / "plane"
        pq.write_table(table, path)
        with duckdb_session(spine=SPINE) as session:
            return audit_view("plane", path, session, join_keys=[key], declared=declared, cutoff=CUTOFF)

    return run


def test_share_of_nulls(audit: Audit) -> None:
    assert audit(view(["a", "b"], [None, 100.0])) == {"seats": 0.5}


@pytest.mark.parametrize(
    ("table", "code", "named"),
    [
        (view(["a", "a", "b"], [1, 1, 1]), "NS-FEATURE-001", "1 rows"),
        (view(["a", "b", None], [1, 1, 1]), "NS-FEATURE-001", "1 keys"),
        (view(["a"], [1]), "NS-FEATURE-004", "[('b',)]"),
        (view(["a", "b", "c"], [1, 1, 1]), "NS-FEATURE-004", "[('c',)]"),
        (view(["a", "b"], [1, 1], CUTOFF + timedelta(hours=1)), "NS-FEATURE-002", "2 rows"),
        (view(["a", "b"], [1, 1]).drop_columns(["seats"]), "NS-FEATURE-005", "seats is missing"),
        (view(["a", "b"], [1, 1]).append_column("age", [[1, 2]]), "NS-FEATURE-005", "age is int64"),
        (view(["a", "b"], [1, 1]).set_column(1, "seats", [[1, 2]]), "NS-FEATURE-005", "seats is int64"),
    ],
)
def test_table_that_breaks_its_contract_is_an_error(audit: Audit, table: pa.Table, code: str, named: str) -> None:
    with raises_code(FeatureContractError, code, "plane", named):
        audit(table)


def test_examples_are_of_the_rows_that_are_wrong(audit: Audit) -> None:
    with raises_code(FeatureContractError, "NS-FEATURE-001", "e.g. [('b',), (None,)]"):
        audit(view(["a", "b", "b", None], [1, 1, 1, 1]))


def test_a_view_of_entities_that_the_spine_lacks_is_an_error(audit: Audit) -> None:
    with raises_code(FeatureContractError, "NS-FEATURE-003", "tail, which the spine lacks"):
        audit(
            view(["a"], [1.0]).rename_columns({"flight_id": "tail"}),
            {"tail": pa.string(), "seats": pa.float64()},
            "tail",
        )


def test_a_view_of_coarser_entities_may_lack_some(audit: Audit) -> None:
    table = view(["JFK"], [1.0]).rename_columns({"flight_id": "origin"})
    assert audit(table, {"origin": pa.string(), "seats": pa.float64()}, "origin") == {"seats": 0.0}
