"""What the partition before has yet to decide. One whose data or features were rejected decides nothing: then the one
before it counts.

On schedule it was decided a day ago. In a backfill it may be under way: steps that wait for it leave the same as one
night at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.declare.use_case import UseCase
from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import TRAINING, Warehouse

STAGE_OF = {"register": "train", "advance": "promote", "publish_predictions": "predict"}
"""The steps that can be waited for, and the stages to run."""
LOOK_BACK = 7
"""Rejected partitions in a row after which none is waited for."""
UNDER_WAY = timedelta(hours=6)
"""Age of features from which on nothing that follows from them is expected any more: the time limit of a DAG run."""


def undecided_before(
    partition: date,
    steps: Sequence[str],
    use_case: UseCase,
    store: ArtifactStore,
    warehouse: Warehouse,
    *,
    allow_undecided: bool,
) -> date | None:
    """The partition before this one, if one of the steps (of STAGE_OF) is undecided for it and can still be decided.

    It cannot if there was no decision about models before it: nothing ran then. Raises PartitionNotReady in place of
    returning it if `allow_undecided` is False.

    Read `deployments` after this, not before: the awaited decision may be recorded meanwhile.
    """
    before, decisions = last_not_rejected(partition, use_case, store), warehouse.decisions()
    if before is None or not any(one.partition < before for one in decisions):
        return None
    trained = any(one.partition == before and one.decided_by in TRAINING for one in decisions)
    undecided = [
        step
        for step in steps
        if not (trained if step == "register" else store.decision(use_case.name, step, before) is not None)
    ]
    if undecided and not allow_undecided:
        stages = [STAGE_OF[step] for step in undecided]
        raise PartitionNotReady(
            "NS-PREDICT-001",
            f"{use_case.name}: {' and '.join(stages)} of partition {before} {'is' if len(stages) == 1 else 'are'} "
            f"undecided; results of {partition} depend on that. Run or clear "
            f"{' and '.join(f'{use_case.name}.{stage}' for stage in stages)} for {before}; after the last retry "
            f"{partition} goes on without.",
        )
    return before if undecided else None


def waits_for_an_hour(partition: date, use_case: UseCase, store: ArtifactStore) -> bool:
    """Whether a partition waits for an hour, not for minutes: one of the past, if the one before it is under way.

    Of the past is one whose next cutoff has passed: its predictions are late already. Under way is one whose features
    were published within UNDER_WAY: its training and predictions have begun, or are in Airflow's queue.
    """
    now = store.clock()
    if now < use_case.cutoff(partition + timedelta(days=1)):
        return False
    before = last_not_rejected(partition, use_case, store)
    published_at = store.decided_at(use_case.name, "publish_features", before) if before else None
    return published_at is not None and now - published_at < UNDER_WAY


def last_not_rejected(partition: date, use_case: UseCase, store: ArtifactStore) -> date | None:
    """The newest partition before this one, within LOOK_BACK days, whose data and features were not rejected."""
    for days in range(1, LOOK_BACK + 1):
        before = partition - timedelta(days=days)
        statuses = (store.decision(use_case.name, step, before) for step in ("publish", "publish_features"))
        if not any(one is not None and one.status == "rejected" for one in statuses):
            return before
    return None
