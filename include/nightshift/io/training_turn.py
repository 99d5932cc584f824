"""Nights take turns: what one decides about models is what the next one starts from."""

from __future__ import annotations

from datetime import date, timedelta

from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.usecase import UseCase


def take_turn(
    use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date, *, allow_undecided: bool
) -> date | None:
    """The partition before, if it may still change which models serve or stand on trial; None if nobody need wait.

    It may while its training is undecided, or while a model was on trial and what follows from that
    night is not recorded. Nothing to wait for: no model was ever decided on before, or the partition's
    data was refused. Raises PartitionNotReady, naming the DAG to run, unless `allow_undecided`.
    """
    awaited = _awaited(use_case, store, warehouse, partition)
    before = partition - timedelta(days=1)
    if awaited and not allow_undecided:
        what = {"train": "training", "promote": "trial"}[awaited]
        raise PartitionNotReady(
            f"{use_case.name}: the {what} of partition {before} has not been decided yet, and it may change which "
            f"models there are for {partition}. Run or clear {use_case.name}.{awaited} for {before}."
        )
    return before if awaited else None


def _awaited(use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date) -> str:
    """The stage of the partition before that is still to decide; "" if none is."""
    before = partition - timedelta(days=1)
    first = warehouse.first_deployment()
    if first is None or before < first.partition:
        return ""
    ingested = store.decision(use_case.name, "publish", before)
    if ingested is not None and ingested.status == "rejected":
        return ""
    if not warehouse.training_decided(before):
        return "train"
    on_trial = warehouse.life_as_of(before).trial is not None
    if on_trial and store.decision(use_case.name, "advance_model", before) is None:
        return "promote"
    return ""
