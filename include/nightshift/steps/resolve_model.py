"""Choose the model that answers for a partition: the champion promoted before it, or the fallback.

A champion is never one still in the making: the training of partition D can neither delay nor
change the predictions of partition D. It does serve partition D + 1, so that one waits until the
training of D came to a decision; on its last try it goes on with the champion there is.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.deployment import Deployment
from nightshift.errors import PartitionNotReady, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.training_turn import undecided_before
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

MODEL_CHOICE = "model_choice.json"


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, allow_undecided: bool = False
) -> ArtifactRef:
    """Commit `model_choice.json`: model (ref), model_version, role, why. Its input is the model.

    Raises PartitionNotReady if the training of the partition before is still to be decided and
    `allow_undecided` is False, and UnknownModel if no model was ever put in place.
    """
    warehouse = Warehouse(settings, use_case)
    undecided = undecided_before(use_case, store, warehouse, partition)
    if undecided and not allow_undecided:
        raise PartitionNotReady(
            f"{use_case.name}: the training of partition {undecided} has not been decided yet, and it may give the "
            f"champion for {partition}. Run or clear {use_case.name}.train for {undecided}."
        )
    deployment = _deployed(use_case, warehouse, partition)
    model = deployment.model
    if model is None:
        raise UnknownModel(f"{use_case.name}: {deployment.model_version} was put in place without a model artifact.")
    why = f"{deployment.action} by {deployment.decided_by} on partition {deployment.partition}"
    choice: dict[str, Any] = {
        "model": model.model_dump(),
        "model_version": deployment.model_version,
        "role": deployment.role,
        "why": why,
    }
    parameters = {"undecided": undecided.isoformat()} if undecided else {}
    if undecided:
        log.warning("%s: went on without the training of %s", use_case.name, undecided)
    log.info("%s %s is answered by %s %s (%s)", use_case.name, partition, choice["role"], choice["model_version"], why)
    return store.commit(
        use_case=use_case.name,
        step="resolve_model",
        partition=partition,
        kind="model_choice",
        files={MODEL_CHOICE: canonical_json(choice)},
        inputs={"model": [model]},
        parameters=parameters,
    )


def _deployed(use_case: UseCase, warehouse: Warehouse, partition: date) -> Deployment:
    deployment = warehouse.champion_as_of(partition) or warehouse.fallback_as_of(partition)
    if deployment is None:
        raise UnknownModel(
            f"{use_case.name} has neither a champion nor a fallback model for partition {partition}. "
            f"Run {use_case.name}.backfill_history up to a partition before it, then {use_case.name}.train."
        )
    return deployment
