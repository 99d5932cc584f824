"""Fit the calibration of every spec that scores a partition, from its scores of recent partitions and their labels.

The artifact also has the shifts of recent days, from which the certainty of the partition's predictions follows (see
core.inference.certainty).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.inference.calibration import LabelledScores, fit_calibration, window_days
from nightshift.core.inference.certainty import matured_shifts
from nightshift.declare.models import ModelSpec
from nightshift.documents.predict import Calibration, ModelChoice
from nightshift.errors import TerminalError
from nightshift.partitions import partition_range
from nightshift.services.live_scores import ScoredPartition, days_predicted, known_labels, scored_partitions
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, model_choice: ArtifactRef) -> ArtifactRef:
    """Commit a Calibration; its inputs are the choice, the past scores and the labels that were used.

    Scores of a spec's versions in any role are used, and labels delivered up to the partition: raw scores for
    the calibration, those calibrated at their time for the shifts. A spec without such history, or that declares no
    calibration, gets the identity. Past scores that cannot be read are left out
    with the reason in the metrics, so
    that they cannot stop the partition. The frozen version is not calibrated.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    choice = store.read_document(model_choice, ModelChoice)
    specs = {one.spec_id: store.read_document(one.model, ModelSpec) for one in choice.scored if one.role != "frozen"}
    scored, unreadable = _recent(context, specs)
    labels, delivered = known_labels(store, use_case, days_predicted(use_case, scored), partition)
    fitted = {}
    for spec_id, spec in specs.items():
        raw = _history(context, scored, labels, spec_id, "raw_score", window_days(spec.calibration))
        calibrated = _history(context, scored, labels, spec_id, "score", use_case.certainty.days)
        shifts = matured_shifts(calibrated, use_case.certainty)
        fitted[spec_id] = fit_calibration(spec.calibration, raw).model_copy(update={"shifts": shifts})
    for spec_id, one in fitted.items():
        log.info(
            "%s %s: %s is calibrated by intercept %+.4f, slope %.4f (%d labels of %d partitions); shifts of %d days",
            use_case.name, partition, spec_id, one.intercept, one.slope, one.rows, len(one.partitions), len(one.shifts),
        )  # fmt: skip
    return context.commit(
        "calibrate",
        kind="calibration",
        files=Calibration(partition=partition, specs=fitted).to_files(),
        inputs={
            "model_choice": [model_choice],
            "past_scores": [one.ref for one in scored],
            "labels": delivered,
        },
        metrics={"unreadable": unreadable} if unreadable else {},
        rows=max(one.rows for one in fitted.values()),
    )


def _recent(context: StepContext, specs: Mapping[str, ModelSpec]) -> tuple[list[ScoredPartition], dict[str, str]]:
    """The scored partitions within the longest window, oldest first, and those that cannot be read."""
    use_case, store, partition = context.use_case, context.store, context.partition
    days = max(use_case.certainty.days, *(window_days(spec.calibration) for spec in specs.values()))
    first = max(partition - timedelta(days=days), use_case.first_partition)
    window = partition_range(first, partition - timedelta(days=1))
    try:
        return scored_partitions(store, use_case, window), {}
    except TerminalError:
        scored, unreadable = [], {}
        for day in window:
            try:
                scored += scored_partitions(store, use_case, [day])
            except TerminalError as error:
                log.exception("%s %s: the scores of %s are not used", use_case.name, partition, day)
                unreadable[day.isoformat()] = f"{type(error).__name__}: {error}"
        return scored, unreadable


def _history(
    context: StepContext, scored: Sequence[ScoredPartition], labels: pa.Table, spec_id: str, column: str, days: int
) -> list[LabelledScores]:
    """One spec's scores in `column` of the last `days` partitions, with known labels, by partition.

    The age of a label is counted from the day it is about.
    """
    history = []
    use_case, partition = context.use_case, context.partition
    key = use_case.key_columns
    first = partition - timedelta(days=days)
    for one in scored:
        rows = one.rows.filter(pc.equal(one.rows["spec_id"], spec_id)).select([*key, column])
        rows = rows.filter((pc.field(column) >= 0) & (pc.field(column) <= 1))
        if one.partition < first or not rows.num_rows:
            continue
        labelled = rows.join(labels.select([*key, use_case.label]), keys=key, join_type="inner")
        labelled = labelled.sort_by([(name, "ascending") for name in key])
        day = pc.max(rows[use_case.prediction_date]).as_py()
        history.append(
            LabelledScores(
                partition=one.partition,
                age_days=(partition - day).days,
                scores=np.asarray(labelled[column], dtype=np.float64),
                labels=np.asarray(labelled[use_case.label], dtype=np.float64),
                predictions=rows.num_rows,
            )
        )
    return history
