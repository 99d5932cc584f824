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
    late = f"count(*) FILTER ({EVENT_TIMESTAMP} IS DISTINCT FROM TIMESTAMPTZ '{cutoff.isoformat()}')"
    counts = ["count(*)", late, *(f'count("{column}")' for column in declared)]
    ((total, of_another, *known),) = rows.aggregate(", ".join(counts)).fetchall()
    nulls = {column: total - one for column, one in zip(declared, known, strict=True)}
    keys = rows.project(_names(join_keys))
    _check_keys(name, keys, total, sum(nulls[key] for key in join_keys))
    if of_another:
        raise FeatureContractError(
            "NS-FEATURE-002", f"Feature view {name}: {of_another} rows have another {EVENT_TIMESTAMP} than {cutoff}."
        )
    if not set(join_keys) <= set(spine.columns):
        raise FeatureContractError(
            "NS-FEATURE-003", f"Feature view {name} is keyed by {', '.join(join_keys)}, which the spine lacks."
        )
    _check_rows(name, keys, total, spine.project(_names(join_keys)))
    features = [column for column in declared if column not in join_keys]
    return {column: round(nulls[column] / total, 6) if total else 0.0 for column in features}


def _check_keys(name: str, keys: duckdb.DuckDBPyRelation, rows: int, nulls: int) -> None:
    """Join keys are unique and not null. `rows`: their number; `nulls`: of the keys."""
    repeated = rows - _count(keys.distinct())
    if nulls or repeated:
        null = " OR ".join(f'"{key}" IS NULL' for key in keys.columns)
        groups = keys.aggregate(f"{_names(keys.columns)}, count(*) > 1 OR {null} AS wrong", _names(keys.columns))
        raise FeatureContractError(
            "NS-FEATURE-001",
            f"Feature view {name}: {repeated} rows repeat their join keys {', '.join(keys.columns)} and {nulls} keys "
            f"are null, e.g. {_examples(groups.filter('wrong').project(_names(keys.columns)))}. "
            "Make its SQL return one row per entity.",
        )


def _check_rows(name: str, keys: duckdb.DuckDBPyRelation, rows: int, scheduled: duckdb.DuckDBPyRelation) -> None:
    """If the join keys identify a row of those scheduled, there is one for each of these and no others.

    `rows`: the number of `keys`, which are unique.
    """
    expected = _count(scheduled)
    if _count(scheduled.distinct()) != expected:
        return
    missing, extra = scheduled.except_(keys), keys.except_(scheduled)
    lacking = _count(missing)
    if lacking or rows != expected:
        raise FeatureContractError(
            "NS-FEATURE-004",
            f"Feature view {name}: {lacking} of {expected} rows to score have no features, e.g. {_examples(missing)}, "
            f"and {_count(extra)} rows are not in the spine, e.g. {_examples(extra)}. "
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


def _count(rows: duckdb.DuckDBPyRelation) -> int:
    ((count,),) = rows.aggregate("count(*)").fetchall()
    return int(count)


def _examples(rows: duckdb.DuckDBPyRelation) -> list[tuple[object, ...]]:
    return rows.order(_names(rows.columns)).limit(EXAMPLES).fetchall()
