"""Scores of past partitions, the labels known for them, and the resulting losses.

The number of requests grows with the number of partitions requested, not with the length of the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef
from nightshift.core.evaluation import expected_log_loss, quality
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.ingest.landed_table import ARROW_TYPES
from nightshift.declare.use_case import UseCase
from nightshift.documents.predict import ModelChoice
from nightshift.documents.train import Quality
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.partitions import partition_range
from nightshift.services.outcomes import delivered_outcomes

SCORES = "scores.parquet"
ALL_SCORES = "all_scores.parquet"
VERSION_COLUMNS = ("role", "spec_id", "model_version")


@dataclass(frozen=True)
class ScoredPartition:
    """One partition's scores. `rows`: key, role, spec_id, model_version, raw_score, score; one row per key and version.

    Without those of the frozen version: what is decided about its spec, and its calibration, depend on newer ones.
    `ref`: the artifact of step `score`. A shadow that `choice` names but that failed has no rows.
    """

    partition: date
    ref: ArtifactRef
    choice: ModelChoice
    rows: pa.Table


class PartitionLoss(Quality):
    """Quality of one version's calibrated scores of one partition, on the known labels.

    `rows`: predictions with a known label; `predictions`: all of them. `expected_log_loss`: the log loss that the
    scores of those rows promise, the mean of -p ln p - (1 - p) ln(1 - p).
    """

    partition: date
    spec_id: str
    model_version: str
    role: str
    rows: int
    predictions: int
    expected_log_loss: float


def scored_partition(store: ArtifactStore, use_case: UseCase, partition: date) -> ScoredPartition | None:
    """The current scores of a partition; None if it has none (yet)."""
    decision = store.decision(use_case.name, "score", partition)
    if decision is None or (ref := decision.published) is None:
        return None
    (choice,) = store.manifest(ref).inputs["model_choice"]
    rows = store.read_table(ref, ALL_SCORES).filter(pc.field("role") != "frozen")
    return ScoredPartition(partition, ref, store.read_document(choice, ModelChoice), rows)


def scored_partitions(store: ArtifactStore, use_case: UseCase, partitions: Sequence[date]) -> list[ScoredPartition]:
    """`scored_partition` of many, read in parallel; partitions without scores are left out."""
    scored = in_parallel(lambda partition: scored_partition(store, use_case, partition), partitions)
    return [one for one in scored if one is not None]


def known_labels(
    store: ArtifactStore, use_case: UseCase, prediction_days: Sequence[date], as_of: date
) -> tuple[pa.Table, list[ArtifactRef]]:
    """Labels of the predictions for `prediction_days`, from the deliveries of partitions up to `as_of`.

    Returns the prediction key, the label (int64 0 or 1) and `known_on` (date32: the delivering partition), one row
    per key, sorted by key, and the curated artifacts read. Of a label delivered again, the newest delivery is
    returned; none if that is null, which withdraws it. Deliveries from the earliest of the days on are read; partitions
    without curated data are skipped.
    """
    key = use_case.key_columns
    first = max(min(prediction_days, default=as_of), use_case.first_partition)
    statuses = store.decisions(use_case.name, "publish", partition_range(first, as_of) if prediction_days else [])
    days = pa.array(sorted(set(prediction_days)), pa.date32())
    deliveries: list[pa.Table] = []
    refs: dict[str, ArtifactRef] = {}
    for partition, status in statuses.items():
        if status is None or status.status != "published":
            continue
        outcomes = delivered_outcomes(use_case, store, partition)
        rows = outcomes.table.filter(pc.is_in(outcomes.table[use_case.prediction_date], value_set=days))
        refs |= {ref.sha256: ref for ref in outcomes.refs}
        known_on = pa.array([partition] * rows.num_rows, pa.date32())
        deliveries.append(rows.select([*key, use_case.label]).append_column(KNOWN_ON, known_on))
    if not deliveries:
        return _no_labels(use_case), []
    order = [(name, "ascending") for name in key] + [(KNOWN_ON, "descending")]
    table = pa.concat_tables(deliveries).sort_by(order)
    nulls = pc.ScalarAggregateOptions(skip_nulls=False)
    firsts = [(name, "first", nulls) for name in (use_case.label, KNOWN_ON)]
    newest = table.group_by(key, use_threads=False).aggregate(firsts)
    newest = newest.rename_columns([*key, use_case.label, KNOWN_ON])
    newest = newest.filter(pc.is_valid(newest[use_case.label]))
    return newest.sort_by(order[:-1]), list(refs.values())


def losses(use_case: UseCase, partition: date, rows: pa.Table, labels: pa.Table) -> list[PartitionLoss]:
    """The loss of each version among `rows` (key, role, spec_id, model_version, score), on `labels` (key, label).

    In the order of the versions in `rows`; versions without known labels are left out.
    """
    key = use_case.key_columns
    measured = []
    for role, spec_id, version in _versions(rows):
        own = rows.filter((pc.field("role") == role) & (pc.field("model_version") == version))
        joined = own.select([*key, "score"]).join(labels.select([*key, use_case.label]), keys=key, join_type="inner")
        if not joined.num_rows:
            continue
        joined = joined.sort_by([(name, "ascending") for name in key])
        score = np.asarray(joined["score"], dtype=np.float64)
        label = np.asarray(joined[use_case.label], dtype=np.int64)
        measured.append(
            PartitionLoss(
                partition=partition,
                spec_id=spec_id,
                model_version=version,
                role=role,
                rows=len(label),
                predictions=own.num_rows,
                expected_log_loss=expected_log_loss(score),
                **dict(quality(label, score)),
            )
        )
    return measured


def partition_losses(
    store: ArtifactStore, use_case: UseCase, partitions: Sequence[date], as_of: date
) -> list[PartitionLoss]:
    """The loss of every version on every partition that it scored, on the labels delivered up to `as_of`.

    By partition, the primary first, then the shadows. Partitions without scores or known labels are left out.
    """
    scored = scored_partitions(store, use_case, sorted(set(partitions)))
    labels, _ = known_labels(store, use_case, days_predicted(use_case, scored), as_of)
    return [loss for one in scored for loss in losses(use_case, one.partition, one.rows, labels)]


def days_predicted(use_case: UseCase, scored: Sequence[ScoredPartition]) -> list[date]:
    """The days that these partitions predicted, ascending."""
    return sorted({day for one in scored for day in one.rows[use_case.prediction_date].unique().to_pylist()})


def _versions(rows: pa.Table) -> Iterator[tuple[str, str, str]]:
    """(role, spec_id, model_version) of each version, in the order of the rows."""
    # The order of Arrow's groups depends on hashes of their keys, also on one thread.
    numbered = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    first = numbered.group_by(list(VERSION_COLUMNS)).aggregate([("row", "min")])
    for row in first.sort_by("row_min").to_pylist():
        yield row["role"], row["spec_id"], row["model_version"]


def _no_labels(use_case: UseCase) -> pa.Table:
    fields = [pa.field(column.name, ARROW_TYPES[column.type]) for column in use_case.prediction_key]
    fields += [pa.field(use_case.label, pa.int64()), pa.field(KNOWN_ON, pa.date32())]
    return pa.schema(fields).empty_table()
