"""Record a partition's drift, outcomes and performance in the warehouse, and choose the response to drift."""

from __future__ import annotations

import logging
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.monitoring.drift import response
from nightshift.declare.use_case import UseCase
from nightshift.documents.check_drift import Drift, DriftResponse, Response
from nightshift.io.alerts import send_alert
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.publications import MODEL_VERSION
from nightshift.services.live_scores import ALL_SCORES, losses
from nightshift.services.outcomes import Outcomes, delivered_outcomes
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, drift: ArtifactRef, report: ArtifactRef) -> ArtifactRef:
    """Replace the partition's rows of drift_daily, add its outcomes, commit `response.json`.

    The rows of performance_daily are recomputed, from all labels recorded by now, for every day that the partition
    delivered labels for (the day that matured, and earlier ones with late or corrected labels), and for the day that
    it predicted: in a backfill later partitions may have delivered those labels before it was published.

    The response is `none`, `alert` or `retrain` (see core.drift.response). It is logged, and posted
    to `settings.alert_webhook_url`, if that is set, when the partition's drift is recorded for the
    first time or differs from what was recorded. Raises WarehouseUnavailable.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    warehouse = context.warehouse
    comparison = store.read_document(drift, Drift)
    outcomes = delivered_outcomes(use_case, store, partition)
    warehouse.record_outcomes(partition, outcomes.table)
    performance = _performance(context, outcomes)
    for day, rows in performance.items():
        warehouse.record_performance(day, rows)
    changed = warehouse.replace_partition("drift_daily", partition, _drift_rows(comparison, drift))
    action = response({name: group.verdict for name, group in comparison.groups.items()})
    message = _message(use_case, partition, comparison, action, report)
    log.log(logging.INFO if action == "none" else logging.WARNING, message)
    if action != "none" and changed:
        send_alert(settings.alert_webhook_url, message)
    return context.commit(
        "record_drift",
        kind="drift_record",
        files=DriftResponse(response=action, message=message).to_files(),
        inputs={"drift": [drift], "report": [report], "curated": outcomes.refs},
        metrics={"response": action, "days": {day.isoformat(): len(rows) for day, rows in performance.items()}},
        rows=outcomes.table.num_rows,
    )


def _drift_rows(comparison: Drift, drift: ArtifactRef) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "drift": name,
                "column_name": column.column,
                "psi": column.psi,
                "threshold": column.threshold,
                "exceeds": column.exceeds,
                "rows": column.rows,
                "verdict": group.verdict,
                "model_version": comparison.model_version,
                "comparison_uri": drift.uri,
            }
            for name, group in comparison.groups.items()
            for column in group.columns
        ]
    )


def _performance(context: StepContext, outcomes: Outcomes) -> dict[date, pa.Table]:
    """Rows of performance_daily by day, for every published day of the partition's labels and its predictions.

    One row of role `published` for each version that scored published rows, on those rows; and one for each
    version, in its role, on all rows.
    """
    use_case, store, warehouse = context.use_case, context.store, context.warehouse
    days = {*outcomes.table[use_case.prediction_date].unique().to_pylist(), context.partition + timedelta(days=1)}
    publications = {}
    for day in sorted(days):
        if (publication := warehouse.publication_of(day)) is not None:
            publications[day] = publication
    labels = warehouse.outcomes(list(publications))
    performance = {}
    for day, publication in publications.items():
        of_day = labels.filter(pc.equal(labels[use_case.prediction_date], pa.scalar(day, pa.date32())))
        if not of_day.num_rows:
            continue
        measured = losses(use_case, publication.partition, _scored_rows(use_case, store, publication.scores), of_day)
        known_on = pc.max(of_day[KNOWN_ON]).as_py()
        performance[day] = pa.Table.from_pylist([dict(one) | {"known_on": known_on} for one in measured])
    return performance


def _scored_rows(use_case: UseCase, store: ArtifactStore, scores: ArtifactRef) -> pa.Table:
    """key, role, spec_id, model_version, score: the published rows, then all rows of every version that scored."""
    everything = store.read_table(scores, ALL_SCORES).drop_columns(["raw_score"])
    published = store.read_table(scores, "scores.parquet").select(
        [*use_case.key_columns, use_case.score, MODEL_VERSION]
    )
    spec_of = dict(zip(everything[MODEL_VERSION].to_pylist(), everything["spec_id"].to_pylist(), strict=True))
    versions = published[MODEL_VERSION].to_pylist()
    published = published.rename_columns([*use_case.key_columns, "score", MODEL_VERSION])
    published = published.append_column("role", pa.array(["published"] * len(versions), pa.string()))
    published = published.append_column("spec_id", pa.array([spec_of[one] for one in versions], pa.string()))
    return pa.concat_tables([published.select(everything.column_names), everything])


def _message(use_case: UseCase, partition: date, comparison: Drift, action: Response, report: ArtifactRef) -> str:
    verdicts = "; ".join(f"{name} {group.verdict} ({group.reason})" for name, group in comparison.groups.items())
    search = "a search for other specs is requested; look at the report"
    advice = {"none": "nothing to do", "alert": "look at the report", "retrain": search}
    what = f"{use_case.name} {partition}, model {comparison.model_version}: {advice[action]}"
    return f"{what}. Drift: {verdicts}. Report: {report.uri}report.html"
