"""List the files of training rows known as of a partition: compacted months, then days. Rows are not copied.

Artifact: `training_set.json`, a TrainingSet document. Complete months without a current compacted file are
compacted first.
"""

from __future__ import annotations

import logging

from nightshift.artifact import ArtifactRef
from nightshift.documents.train import TrainingSet
from nightshift.errors import PartitionNotReady, TerminalError
from nightshift.services.curated import STEP as CURATED
from nightshift.services.night_before import last_not_rejected
from nightshift.services.training_rows import NOT_RUN, compact_months, known_rows
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, rows: ArtifactRef, allow_undecided: bool = False) -> ArtifactRef:
    """Commit the training set as of the partition, whose own `rows` are among them.

    Raises PartitionNotReady while the partition before (of those whose data and features were not rejected) was
    ingested and its rows are not appended, unless its training failed (with `allow_undecided` they are left out),
    TerminalError if labels of fewer than the use case's `minimum_days` partitions are known.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    compact_months(store, use_case, partition)
    rows_known = known_rows(store, use_case, partition)
    before = last_not_rejected(partition, use_case, store)
    if before is not None and rows_known.missing.get(before.isoformat()) == NOT_RUN and not allow_undecided:
        is_ingested = store.decision(use_case.name, CURATED, before) is not None
        if is_ingested and not context.warehouse.training_decided(before):
            raise PartitionNotReady(
                "NS-TRAIN-008",
                f"{use_case.name} {partition}: the training rows of {before} are not appended yet. Run or clear "
                f"{use_case.name}.train for {before}; after some minutes the training leaves them out.",
            )
    needed = max(use_case.training.minimum_days, use_case.training.holdout_days + 1)
    if rows_known.days < needed or rows_known.first is None or rows_known.last is None:
        span = f" ({rows_known.first} to {rows_known.last})" if rows_known.days else ""
        raise TerminalError(
            "NS-TRAIN-009",
            f"{use_case.name} {partition}: labels of {rows_known.days} partitions are known{span}; a training set "
            f"needs at least {needed}. Load more history with backfill_history, or wait.",
        )
    training_set = TrainingSet(
        partition=partition,
        parts=tuple(rows_known.parts),
        rows=sum(part.rows for part in rows_known.parts),
        first=rows_known.first,
        last=rows_known.last,
        label=use_case.label,
        missing=rows_known.missing,
    )
    if rows not in rows_known.parts:
        raise TerminalError(
            "NS-TRAIN-010",
            f"{use_case.name} {partition}: {rows.uri} is not among the current training rows, so another "
            f"run replaced them meanwhile. Run the training of {partition} again.",
        )
    log.info("%s %s: %d training rows in %d files", use_case.name, partition, training_set.rows, len(rows_known.parts))
    return context.commit(
        "build_training_set",
        kind="training_set",
        files=training_set.to_files(),
        inputs={"rows": rows_known.parts},
        parameters={"label": use_case.label, "feature_service": use_case.features.service},
        metrics={"files": len(rows_known.parts), "days": rows_known.days, "missing": len(rows_known.missing)},
        rows=training_set.rows,
    )
