"""Record a partition's drift in the warehouse. Artifact: `drift.parquet`, its rows of drift_daily."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.documents.check_drift import Drift
from nightshift.steps.context import StepContext

DRIFT_SCHEMA = pa.schema(
    [
        pa.field("drift", pa.string()),
        pa.field("source", pa.string()),
        pa.field("column_name", pa.string()),
        pa.field("statistic", pa.string()),
        pa.field("days", pa.int64()),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("excess", pa.float64()),
        pa.field("drifted", pa.bool_()),
        pa.field("since", pa.date32()),
        pa.field("comparison_uri", pa.string()),
    ]
)

Since = Mapping[tuple[str, str, str], date]


def run(context: StepContext, *, drift: ArtifactRef) -> ArtifactRef:
    """Replace the partition's rows of drift_daily and commit them.

    A column that drifted in one of the `quiet_days` before goes on drifting: its `since` is the first partition of it.
    Raises Superseded if the partition was compared again, WarehouseUnavailable.
    """
    use_case, partition, warehouse = context.use_case, context.partition, context.warehouse
    context.check_current("compare_drift", drift)
    comparison = context.store.read_document(drift, Drift)
    earlier = warehouse.drifts_since(partition, use_case.drift.quiet_days)
    rows = _rows(comparison, earlier, drift)
    warehouse.replace_partition("drift_daily", partition, rows)
    return context.commit(
        "record_drift",
        kind="drift_record",
        files={"drift.parquet": rows},
        inputs={"drift": [drift]},
        metrics={"verdict": comparison.verdict},
        rows=rows.num_rows,
    )


def _rows(comparison: Drift, earlier: Since, drift: ArtifactRef) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "drift": kind,
                "source": one.source,
                "column_name": one.column,
                "statistic": one.statistic,
                "days": one.days,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "excess": one.excess,
                "drifted": one.drifted,
                "since": earlier.get((kind, one.source, one.column), comparison.partition) if one.drifted else None,
                "comparison_uri": drift.uri,
            }
            for kind, group in comparison.groups.items()
            for one in group.columns
        ],
        schema=DRIFT_SCHEMA,
    )
