"""Compare features, raw scores and delivered outcomes of a partition with the primary version's training reference.

Artifact: `drift.json`. The policy's `block_days` is the number of partitions, up to this one, that are compared
together; usually one. Scores are those of the primary for all rows, before calibration, as in the reference; scores
of a canary are not used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.drift import REFERENCE_TABLE, Reference, ReferenceBins, compare, overall_verdict
from nightshift.declare.use_case import UseCase
from nightshift.documents.check_drift import Drift, DriftKind
from nightshift.documents.predict import ModelChoice, ScoredModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import partition_range
from nightshift.services.live_scores import ALL_SCORES
from nightshift.services.outcomes import Outcomes, delivered_outcomes
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(
    context: StepContext,
) -> ArtifactRef:
    """Commit `drift.json` for the partition's published predictions and the outcomes delivered with it.

    Raises PartitionNotReady if the partition's predictions have not been published.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    publication = store.current(use_case.name, "publish_predictions", partition)
    (scores,) = store.manifest(publication).inputs["scores"]
    primary = _primary(store, scores)
    model = primary.model
    reference = Reference.from_files(
        store.read_document(model, ReferenceBins), store.read_table(model, REFERENCE_TABLE)
    )
    window = partition_range(partition - timedelta(days=use_case.drift.block_days - 1), partition)
    compared_scores = [*_published_scores(use_case, store, window[:-1]), scores]
    outcomes = [delivered_outcomes(use_case, store, day) for day in window if day >= use_case.first_partition]
    drift = _compared(context, primary.model_version, reference, compared_scores, outcomes)
    for name, group in drift.groups.items():
        log.info("%s %s: %s drift: %s (%s)", use_case.name, partition, name, group.verdict, group.reason)
    return context.commit(
        "compare_drift",
        kind="drift",
        files=drift.to_files(),
        inputs={
            "scores": compared_scores,
            "model": [model],
            "curated": [ref for one in outcomes for ref in one.refs],
        },
        metrics={"verdict": drift.verdict, **{name: group.verdict for name, group in drift.groups.items()}},
        rows=scores.rows,
    )


def _primary(store: ArtifactStore, scores: ArtifactRef) -> ScoredModel:
    """The primary version of a partition's scores."""
    (choice,) = store.manifest(scores).inputs["model_choice"]
    return store.read_document(choice, ModelChoice).primary


def _primary_scores(use_case: UseCase, store: ArtifactStore, scores: ArtifactRef) -> pa.Table:
    """The primary's raw scores for all rows, in a column of the score's name."""
    rows = store.read_table(scores, ALL_SCORES)
    own = rows.filter(pc.equal(rows["model_version"], _primary(store, scores).model_version))
    return pa.table({use_case.score: own["raw_score"]})


def _published_scores(use_case: UseCase, store: ArtifactStore, window: Sequence[date]) -> list[ArtifactRef]:
    decisions = store.decisions(use_case.name, "publish_predictions", window).values()
    published = [decision.published for decision in decisions if decision and decision.published]
    return [store.manifest(ref).inputs["scores"][0] for ref in published]


def _compared(
    context: StepContext,
    model_version: str,
    reference: Reference,
    refs: Sequence[ArtifactRef],
    outcomes: Sequence[Outcomes],
) -> Drift:
    """The verdicts, the counts per column and bin, and the rate of matured positive labels."""
    use_case, store = context.use_case, context.store
    tables = [store.read_table(ref, "features.parquet") for ref in refs]
    features = pa.concat_tables(tables, promote_options="default")  # primaries may have different features
    scores = pa.concat_tables([_primary_scores(use_case, store, ref) for ref in refs])
    labels = pa.concat_tables([one.matured(use_case) for one in outcomes])
    counts = reference.count(features) | reference.count(scores) | reference.count(labels.select([use_case.label]))
    names = [name for name in reference.bins if name not in (use_case.score, use_case.label)]
    columns_of: dict[DriftKind, list[str]] = {
        "data": names,
        "prediction": [use_case.score],
        "label": [use_case.label],
    }
    groups = {
        kind: compare(reference, counts, columns, use_case.drift, use_case.training.seed)
        for kind, columns in columns_of.items()
    }
    matured = labels[use_case.label].to_numpy()
    return Drift(
        use_case=use_case.name,
        partition=context.partition,
        model_version=model_version,
        quantile=use_case.drift.quantile,
        verdict=overall_verdict(list(groups.values())),
        groups=groups,
        counts={name: tuple(counted.tolist()) for name, counted in counts.items()},
        score=use_case.score,
        label=use_case.label,
        label_day=outcomes[-1].matured_day(use_case),
        label_rate=float(matured.mean()) if len(matured) else None,
    )
