"""Record a partition's drift in the warehouse, and choose the response to it. Artifact: `response.json`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.drift import describe, response
from nightshift.documents.check_drift import ColumnDrift, Drift, DriftResponse, Response
from nightshift.io.alerts import send_alert
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

NAMED = 5
"""Columns named in a message."""

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


def run(context: StepContext, *, drift: ArtifactRef, report: ArtifactRef) -> ArtifactRef:
    """Replace the partition's rows of drift_daily and commit the response: `none`, `alert` or `retrain`.

    See core.monitoring.drift.response. A column that drifted in one of the `quiet_days` before goes on drifting: it has
    the date of its first partition, and causes no further response. The response is logged, and posted to
    `settings.alert_webhook_url`, if that is set, when the partition's drift is recorded for the first time or differs
    from what was recorded. Raises Superseded if the partition was compared again, WarehouseUnavailable.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    context.check_current("compare_drift", drift)
    warehouse = context.warehouse
    comparison = store.read_document(drift, Drift)
    earlier = warehouse.drifts_since(partition, use_case.drift.quiet_days)
    changed = warehouse.replace_partition("drift_daily", partition, _rows(comparison, earlier, drift))
    fresh = {
        kind: group.model_copy(update={"verdict": "stable"})
        if group.drifted and all((kind, one.source, one.column) in earlier for one in group.drifted)
        else group
        for kind, group in comparison.groups.items()
    }
    action = response(fresh)
    message = _message(comparison, earlier, action, f"{use_case.name} {partition}", report)
    log.log(logging.INFO if action == "none" else logging.WARNING, message)
    if action != "none" and changed:
        send_alert(settings.alert_webhook_url, message)
    return context.commit(
        "record_drift",
        kind="drift_record",
        files=DriftResponse(response=action, message=message).to_files(),
        inputs={"drift": [drift], "report": [report]},
        metrics={"response": action},
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


def _message(comparison: Drift, earlier: Since, action: Response, what: str, report: ArtifactRef) -> str:
    search = "a search for other specs is requested; look at the report"
    advice = {"none": "nothing to do", "alert": "look at the report", "retrain": search}

    def named(kind: str, one: ColumnDrift) -> str:
        since = earlier.get((kind, one.source, one.column))
        return f"{kind}: {describe(one)}" + (f" (since {since})" if since else "")

    drifted = [named(kind, one) for kind, group in comparison.groups.items() for one in group.drifted]
    more = f"; and {len(drifted) - NAMED} more" if len(drifted) > NAMED else ""
    found = "; ".join(drifted[:NAMED]) + more if drifted else comparison.verdict
    return (
        f"{what}, model {comparison.model_version}: {advice[action]}. Drift: {found}. Report: {report.uri}report.html"
    )
