"""Nights take turns: what one decides about models is what the next one starts from."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from nightshift.core.model_life import life_as_of
from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import TRAINING, Warehouse
from nightshift.usecase import UseCase

Awaited = Literal["train", "promote"]

WHAT: dict[Awaited, str] = {"train": "training", "promote": "trial"}


def take_turn(
    use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date, *, allow_undecided: bool
) -> date | None:
    """The partition that may still change which models serve or stand on trial; None if nobody need wait.

    It is the one before, while its training is undecided, or while a model was on trial and what follows
    from that night is not recorded. Where the data was refused or the training failed, nobody took a
    turn, and it is the one before that. Nothing to wait for: no model was ever decided on before.
    Raises PartitionNotReady, naming the DAG to run, unless `allow_undecided`.
    """
    awaited = _awaited(use_case, store, warehouse, partition)
    if awaited is None:
        return None
    stage, day = awaited
    if not allow_undecided:
        raise PartitionNotReady(
            f"{use_case.name}: the {WHAT[stage]} of partition {day} has not been decided yet, and it may change which "
            f"models there are for {partition}. Run or clear {use_case.name}.{stage} for {day}."
        )
    return day


def _awaited(
    use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date
) -> tuple[Awaited, date] | None:
    """The nearest earlier partition that is still to decide, and the stage that is; None if there is none."""
    decisions = warehouse.decisions()
    first = min((made.partition for made in decisions), default=partition)
    day = partition - timedelta(days=1)
    while day >= first:
        ingested = store.decision(use_case.name, "publish", day)
        if ingested is None or ingested.status != "rejected":
            trained = [made.action for made in decisions if made.partition == day and made.decided_by in TRAINING]
            if not trained:
                return "train", day
            on_trial = life_as_of(decisions, day).trial is not None
            if on_trial and store.decision(use_case.name, "advance_model", day) is None:
                return "promote", day
            if trained[-1] != "failed":
                return None
        day -= timedelta(days=1)
    return None
