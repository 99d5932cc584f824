"""Audit of a partition's feature tables before they are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.features.feature_computation import EVENT_TIMESTAMP, EVENT_TIMESTAMP_TYPE
from nightshift.errors import FeatureContractError


def audit_view(
    name: str,
    table: pa.Table,
    *,
    join_keys: Sequence[str],
    declared: Mapping[str, pa.DataType],
    spine: pa.Table,
    cutoff: datetime,
) -> dict[str, float]:
    """The share of nulls of each feature. Raises FeatureContractError if the table violates its contract.

    Columns and types are those `declared` (plus event_timestamp, the cutoff); join keys are
    unique and not null; and if they identify a row of the spine (the rows to score), the table
    has one row for each of these and no others.
    """
    _check_schema(name, table, declared)
    keys = table.select(list(join_keys))
    nulls = sum(column.null_count for column in keys.columns)
    repeated = keys.num_rows - _distinct(keys).num_rows
    if nulls or repeated:
        raise FeatureContractError(
            "NS-FEATURE-001",
            f"Feature view {name}: {repeated} rows repeat their join keys {', '.join(join_keys)} and {nulls} keys are "
            f"null, e.g. {_examples(keys)}. Make its SQL return one row per entity.",
        )
    late = pc.sum(pc.not_equal(table[EVENT_TIMESTAMP], pa.scalar(cutoff, EVENT_TIMESTAMP_TYPE))).as_py()
    if late:
        raise FeatureContractError(
            "NS-FEATURE-002", f"Feature view {name}: {late} rows have another {EVENT_TIMESTAMP} than {cutoff}."
        )
    if not set(join_keys) <= set(spine.column_names):
        raise FeatureContractError(
            "NS-FEATURE-003", f"Feature view {name} is keyed by {', '.join(join_keys)}, which the spine lacks."
        )
    scheduled = spine.select(list(join_keys))
    if _distinct(scheduled).num_rows == scheduled.num_rows:
        missing = scheduled.join(keys, list(join_keys), join_type="left anti")
        extra = keys.join(scheduled, list(join_keys), join_type="left anti")
        if missing.num_rows or extra.num_rows:
            raise FeatureContractError(
                "NS-FEATURE-004",
                f"Feature view {name}: {missing.num_rows} of {scheduled.num_rows} rows to score have no features, e.g. "
                f"{_examples(missing)}, and {extra.num_rows} rows are not in the spine, e.g. {_examples(extra)}. "
                f"Compare its SQL with the scoring spine.",
            )
    features = [column for column in declared if column not in join_keys]
    return {column: _null_share(table[column]) for column in features}


def _check_schema(name: str, table: pa.Table, declared: Mapping[str, pa.DataType]) -> None:
    expected = {**declared, EVENT_TIMESTAMP: EVENT_TIMESTAMP_TYPE}
    actual = {field.name: field.type for field in table.schema}
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


def _distinct(table: pa.Table) -> pa.Table:
    return table.group_by(table.column_names).aggregate([])


def _examples(table: pa.Table) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in table.slice(0, 5).to_pylist()]


def _null_share(column: pa.ChunkedArray) -> float:
    return round(column.null_count / len(column), 6) if len(column) else 0.0
