"""List the training rows that are known as of a partition: compacted months, then days. No row is copied.

Artifact: `training_set.json`, a TrainingSet document. Months that are complete and have no compacted file, or of
which a day was made again since, are compacted first.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.documents import TrainingSet
from nightshift.errors import PartitionNotReady, TerminalError
from nightshift.services.curated import STEP as CURATED
from nightshift.services.training_rows import NOT_RUN, compact_months, known_rows
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, rows: ArtifactRef, allow_undecided: bool = False) -> ArtifactRef:
    """Commit the training set as of the partition, whose own `rows` are among them.

    Raises PartitionNotReady while the partition before was ingested and its rows are not appended, unless its
    training failed (with `allow_undecided` it goes on without them), TerminalError if labels of fewer than the use
    case's `minimum_days` partitions are known.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    compact_months(store, use_case, partition)
    known = known_rows(store, use_case, partition)
    before = partition - timedelta(days=1)
    if known.missing.get(before.isoformat()) == NOT_RUN and not allow_undecided:
        ingested = store.decision(use_case.name, CURATED, before)
        failed = context.warehouse.training_decided(before)
        if ingested is not None and ingested.status == "published" and not failed:
            raise PartitionNotReady(
                f"{use_case.name} {partition}: the training rows of {before} are not appended yet. Run or clear "
                f"{use_case.name}.train for {before}; after some minutes the training goes on without them."
            )
    needed = max(use_case.training.minimum_days, use_case.training.holdout_days + 1)
    if known.days < needed or known.first is None or known.last is None:
        span = f" ({known.first} to {known.last})" if known.days else ""
        raise TerminalError(
            f"{use_case.name} {partition}: labels of {known.days} partitions are known{span}; a training set takes at "
            f"least {needed}. Load more history with backfill_history, or wait."
        )
    training_set = TrainingSet(
        partition=partition,
        parts=tuple(known.parts),
        rows=sum(part.rows for part in known.parts),
        first=known.first,
        last=known.last,
        label=use_case.label,
        missing=known.missing,
    )
    if rows not in known.parts:
        raise TerminalError(
            f"{use_case.name} {partition}: {rows.uri} is not among the training rows that count for it, so another "
            f"run made them again meanwhile. Run the training of {partition} again."
        )
    log.info("%s %s: %d training rows in %d files", use_case.name, partition, training_set.rows, len(known.parts))
    return store.commit(
        use_case=use_case.name,
        step="build_training_set",
        partition=partition,
        kind="training_set",
        files=training_set.to_files(),
        inputs={"rows": known.parts},
        parameters={"label": use_case.label, "feature_service": use_case.features.service},
        metrics={"files": len(known.parts), "days": known.days, "missing": len(known.missing)},
        rows=training_set.rows,
    )
