"""Compare a partition's deliveries, features, scores and known outcomes with those of the partitions before it.

Besides, the newest training rows that are published for certain, those of the partition before, are compared with the
features that these rows were scored with. Artifact: `drift.json`. The same number of partitions is read however long
the history is: the reference and the longest window of the policy, and those that predicted the training rows.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.drift import (
    ColumnCounts,
    column_counts,
    curve,
    drift_of_columns,
    group,
    largest,
    overall_verdict,
)
from nightshift.core.monitoring.outcome_drift import EVERYTHING, concept_drift, label_drift
from nightshift.core.monitoring.skew import skew
from nightshift.documents.check_drift import ColumnDrift, Drift, DriftKind
from nightshift.documents.predict import ModelChoice
from nightshift.partitions import partition_range
from nightshift.services.day_summaries import read_summaries
from nightshift.services.drift_inputs import SUMMARIES, slice_days, source_of_features, used_features
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

PLOTTED = 6
REFERENCE_TOO_SHORT = "at least {days} earlier partitions are needed"


def run(context: StepContext, *, performance: ArtifactRef) -> ArtifactRef:
    """Commit `drift.json` of a published partition.

    `performance` has recorded the outcomes that the partition delivered. Raises PartitionNotReady if the partition's
    predictions have not been published.
    """
    use_case, store, partition, policy = context.use_case, context.store, context.partition, context.use_case.drift
    publication = store.current(use_case.name, "publish_predictions", partition)
    (scores,) = store.manifest(publication).inputs["scores"]
    (choice,) = store.manifest(scores).inputs["model_choice"]
    first = max(partition - timedelta(days=policy.days - 1), use_case.first_partition)
    window = partition_range(first, partition)
    columns: dict[DriftKind, list[ColumnDrift]] = {}
    counts: dict[tuple[str, str], ColumnCounts] = {}
    inputs = {"performance": [performance], "scores": [scores], "model_choice": [choice]}
    for kind, step in SUMMARIES.items():
        summaries, refs = read_summaries(store, use_case, step, window)
        counted = column_counts(summaries, window)
        counts |= counted
        found = drift_of_columns(counted, policy)
        # There are as many scores as rows to score: their number is that of a delivery.
        columns[kind] = [one for one in found if one.column] if kind == "prediction" else found
        inputs[f"{step}_summaries"] = refs
    plotted = largest([*columns["data"], *columns["prediction"]], PLOTTED)
    slices = slice_days(context.warehouse, use_case, first, partition)
    columns["label"] = label_drift(slices.get(EVERYTHING, ()), use_case.label, policy)
    columns["concept"] = concept_drift(slices, policy)
    reason = REFERENCE_TOO_SHORT.format(days=policy.least_reference_days + policy.recent_days - 1)
    groups = {kind: group(found, reason) for kind, found in columns.items()}
    parts, inputs["used_features"], nothing = used_features(store, use_case, partition - timedelta(days=1))
    groups["skew"] = skew(parts, use_case.key_columns, source_of_features(use_case), nothing)
    drift = Drift(
        use_case=use_case.name,
        partition=partition,
        model_version=store.read_document(choice, ModelChoice).primary.model_version,
        verdict=overall_verdict(list(groups.values())),
        groups=groups,
        curves=tuple(curve(counts, one, window, policy) for one in plotted),
    )
    for name, one in groups.items():
        log.info("%s %s: %s drift: %s (%s)", use_case.name, partition, name, one.verdict, one.reason)
    return context.commit(
        "compare_drift",
        kind="drift",
        files=drift.to_files(),
        inputs=inputs,
        metrics={"verdict": drift.verdict, **{name: one.verdict for name, one in groups.items()}},
        rows=scores.rows,
    )
