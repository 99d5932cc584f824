"""Audit of a partition's feature tables before they are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.core.features.feature_computation import EVENT_TIMESTAMP, EVENT_TIMESTAMP_TYPE
from nightshift.errors import FeatureContractError

EXAMPLES = 5


def audit_view(
    name: str,
    path: Path,
    session: duckdb.DuckDBPyConnection,
    *,
    join_keys: Sequence[str],
    declared: Mapping[str, pa.DataType],
    cutoff: datetime,
) -> dict[str, float]:
    """The share of nulls of each feature. Raises FeatureContractError if the table breaks its contract.

    `path`: the table's Parquet file. `session` has the rows to score as the table `spine`. Columns and types are those
    `declared` (plus event_timestamp, the cutoff); join keys are unique and not null; and if they identify a row of the
    spine, the table has one row for each of these and no others.
    """
    _check_schema(name, pq.read_schema(path), declared)
    rows, spine = session.read_parquet(str(path)), session.table("spine")
    _check_keys(name, rows, join_keys)
    stamp = duckdb.ColumnExpression(EVENT_TIMESTAMP)
    if late := _count(rows.filter(stamp.isnull() | (stamp != duckdb.ConstantExpression(cutoff)))):
        raise FeatureContractError(
            "NS-FEATURE-002", f"Feature view {name}: {late} rows have another {EVENT_TIMESTAMP} than {cutoff}."
        )
    _check_rows(name, rows, spine, join_keys)
    features = [column for column in declared if column not in join_keys]
    total, *known = _counts(rows, features)
    return {
        column: round((total - one) / total, 6) if total else 0.0 for column, one in zip(features, known, strict=True)
    }


def _check_keys(name: str, rows: duckdb.DuckDBPyRelation, join_keys: Sequence[str]) -> None:
    """Join keys are unique and not null."""
    keys = rows.project(_names(join_keys))
    total, *known = _counts(keys, join_keys)
    nulls, repeated = sum(total - one for one in known), total - _count(keys.distinct())
    if nulls or repeated:
        null = " OR ".join(f'"{key}" IS NULL' for key in join_keys)
        groups = keys.aggregate(f"{_names(join_keys)}, count(*) > 1 OR {null} AS wrong", _names(join_keys))
        raise FeatureContractError(
            "NS-FEATURE-001",
            f"Feature view {name}: {repeated} rows repeat their join keys {', '.join(join_keys)} and {nulls} keys are "
            f"null, e.g. {_examples(groups.filter('wrong').project(_names(join_keys)))}. "
            "Make its SQL return one row per entity.",
        )


def _check_rows(
    name: str, rows: duckdb.DuckDBPyRelation, spine: duckdb.DuckDBPyRelation, join_keys: Sequence[str]
) -> None:
    """If the join keys identify a row of the spine, there is one row for each of these and no others."""
    if not set(join_keys) <= set(spine.columns):
        raise FeatureContractError(
            "NS-FEATURE-003", f"Feature view {name} is keyed by {', '.join(join_keys)}, which the spine lacks."
        )
    keys, scheduled = (one.project(_names(join_keys)) for one in (rows, spine))
    if _count(scheduled.distinct()) != _count(scheduled):
        return
    missing, extra = scheduled.except_(keys), keys.except_(scheduled)
    if (lacking := _count(missing)) + (beyond := _count(extra)):
        raise FeatureContractError(
            "NS-FEATURE-004",
            f"Feature view {name}: {lacking} of {_count(scheduled)} rows to score have no features, e.g. "
            f"{_examples(missing)}, and {beyond} rows are not in the spine, e.g. {_examples(extra)}. "
            f"Compare its SQL with the scoring spine.",
        )


def _check_schema(name: str, schema: pa.Schema, declared: Mapping[str, pa.DataType]) -> None:
    expected = {**declared, EVENT_TIMESTAMP: EVENT_TIMESTAMP_TYPE}
    actual = {field.name: field.type for field in schema}
    wrong = [
        f"{column} is {actual.get(column, 'missing')}, declared {expected.get(column, 'nowhere')}"
        for column in dict.fromkeys([*expected, *actual])
        if actual.get(column) != expected.get(column)
    ]
    if wrong:
        raise FeatureContractError(
            "NS-FEATURE-005",
            f"Feature view {name} does not match its Feast definition: {'; '.join(wrong[:5])}. "
            f"Cast in its SQL, or change the definition.",
        )


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _counts(rows: duckdb.DuckDBPyRelation, columns: Sequence[str]) -> list[int]:
    """The number of rows, and of those in which each column is not null."""
    counts = ["count(*)", *(f'count("{column}")' for column in columns)]
    ((total, *known),) = rows.aggregate(", ".join(counts)).fetchall()
    return [total, *known]


def _count(rows: duckdb.DuckDBPyRelation) -> int:
    return _counts(rows, [])[0]


def _examples(rows: duckdb.DuckDBPyRelation) -> list[tuple[object, ...]]:
    return rows.order(_names(rows.columns)).limit(EXAMPLES).fetchall()
