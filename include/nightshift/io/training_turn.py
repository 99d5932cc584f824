"""Trainings take turns: what one decides is what the next one is held against."""

from __future__ import annotations

from datetime import date, timedelta

from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.usecase import UseCase


def undecided_before(use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date) -> date | None:
    """The partition before, if its training may still promote a champion; None if there is nothing to wait for.

    Nothing to wait for: no model was ever decided on before, that partition is decided, or its data was refused.
    """
    before = partition - timedelta(days=1)
    first = warehouse.first_deployment()
    if first is None or before < first.partition or warehouse.training_decided(before):
        return None
    ingested = store.decision(use_case.name, "publish", before)
    return None if ingested is not None and ingested.status == "rejected" else before
