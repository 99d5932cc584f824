"""Put the night's drift, outcomes and performance into the warehouse, and say who should act."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.drift import Response, response
from nightshift.core.evaluation import area_under_curve, log_loss
from nightshift.io.alerts import send_alert
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.outcomes import Outcomes, delivered_outcomes
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Performance:
    """One row of performance_daily, without its partition. `auc` is None if all outcomes are alike."""

    prediction_date: date
    model_version: str
    rows: int
    predictions: int
    auc: float | None
    log_loss: float
    brier: float
    mean_score: float
    label_rate: float


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    drift: ArtifactRef,
    report: ArtifactRef,
) -> ArtifactRef:
    """Replace the partition's rows of drift_daily and performance_daily, add its outcomes, commit `response.json`.

    The response is `none`, `alert` or `retrain` (see core.drift.response). It is logged, and posted
    to `settings.alert_webhook_url`, if that is set, when the partition's drift is recorded for the
    first time or differs from what was recorded. Raises WarehouseUnavailable.
    """
    warehouse = Warehouse(settings, use_case)
    found = json.loads(store.read(drift, "drift.json"))
    outcomes = delivered_outcomes(use_case, store, partition)
    warehouse.record_outcomes(partition, outcomes.table)
    performance = _performance(use_case, store, warehouse, outcomes)
    warehouse.record_performance(partition, [asdict(performance)] if performance else [])
    changed = warehouse.record_drift(partition, _drift_rows(found, drift))
    wanted = response({name: group["verdict"] for name, group in found["groups"].items()})
    message = _message(use_case, partition, found, wanted, report)
    log.log(logging.INFO if wanted == "none" else logging.WARNING, message)
    if wanted != "none" and changed and settings.alert_webhook_url is not None:
        send_alert(settings.alert_webhook_url, message)
    result: dict[str, Any] = {"response": wanted, "message": message}
    return store.commit(
        use_case=use_case.name,
        step="record_drift",
        partition=partition,
        kind="drift_record",
        files={"response.json": canonical_json(result)},
        inputs={"drift": [drift], "report": [report], "curated": outcomes.refs},
        metrics={"response": wanted, "performance": asdict(performance) if performance else None},
        rows=outcomes.table.num_rows,
    )


def _drift_rows(found: dict[str, Any], drift: ArtifactRef) -> list[dict[str, Any]]:
    return [
        {
            "drift": name,
            "column_name": column["column"],
            "psi": column["psi"],
            "threshold": column["threshold"],
            "exceeds": column["exceeds"],
            "rows": column["rows"],
            "verdict": group["verdict"],
            "model_version": found["model_version"],
            "comparison_uri": drift.uri,
        }
        for name, group in found["groups"].items()
        for column in group["columns"]
    ]


def _performance(
    use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, outcomes: Outcomes
) -> Performance | None:
    """How the predictions for the matured day did on the outcomes delivered with this partition.

    None if there are no such outcomes or nothing was published for that day.
    """
    day = outcomes.matured_day(use_case)
    publication = warehouse.publication_of(day) if day else None
    if day is None or publication is None:
        return None
    scores = ArtifactRef(uri=publication["scores_uri"], sha256=publication["scores_sha256"], kind="scores")
    key = [column.name for column in use_case.prediction_key]
    table = store.read_table(scores, "scores.parquet").select([*key, use_case.score])
    joined = table.join(outcomes.matured(use_case), keys=key, join_type="inner").sort_by(
        [(k, "ascending") for k in key]
    )
    if not joined.num_rows:
        return None
    predicted = np.asarray(joined[use_case.score], dtype=np.float64)
    labels = np.asarray(joined[use_case.label], dtype=np.int64)
    return Performance(
        prediction_date=day,
        model_version=publication["model_version"],
        rows=joined.num_rows,
        predictions=table.num_rows,
        auc=area_under_curve(labels, predicted) if 0 < labels.sum() < len(labels) else None,
        log_loss=log_loss(labels, predicted),
        brier=float(((predicted - labels) ** 2).mean()),
        mean_score=float(predicted.mean()),
        label_rate=float(labels.mean()),
    )


def _message(use_case: UseCase, partition: date, found: dict[str, Any], wanted: Response, report: ArtifactRef) -> str:
    said = "; ".join(f"{name} {group['verdict']} ({group['reason']})" for name, group in found["groups"].items())
    act = {"none": "nothing to do", "alert": "look at the report", "retrain": "retrain, and look at the report"}[wanted]
    what = f"{use_case.name} {partition}, model {found['model_version']}: {act}"
    return f"{what}. Drift: {said}. Report: {report.uri}report.html"
