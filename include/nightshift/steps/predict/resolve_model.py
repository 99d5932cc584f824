"""Choose the models of a partition: the one that answers, and the one that is scored beside it, if any.

The champion promoted before the partition answers, or the fallback if there is none or the kill
switch is on. Beside it is scored whatever is on trial: a challenger, or the former champion while
the fresh one is watched. While the kill switch is on, nothing but the fallback is asked.

Neither is ever one still in the making: what partition D decides can neither delay nor change the
predictions of D. It does count for D + 1, so that one waits until D came to its decisions; on its
last try it goes on with the models there are.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.model_life import Life
from nightshift.deployment import Deployment
from nightshift.errors import UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.training_turn import take_turn
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

MODEL_CHOICE = "model_choice.json"


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, allow_undecided: bool = False
) -> ArtifactRef:
    """Commit `model_choice.json`: model (ref), model_version, role, why; and beside, which is null or
    has model, model_version, stage and share (of the rows that it answers). Its inputs are the models.

    Raises PartitionNotReady if the partition before is still to decide about models and
    `allow_undecided` is False, and UnknownModel if no model was ever put in place.
    """
    warehouse = Warehouse(settings, use_case)
    undecided = take_turn(use_case, store, warehouse, partition, allow_undecided=allow_undecided)
    if undecided:
        log.warning("%s: went on without the decisions of %s", use_case.name, undecided)
    life = warehouse.life_as_of(partition)
    deployment = life.serving
    if deployment is None:
        raise UnknownModel(
            f"{use_case.name} has neither a champion nor a fallback model for partition {partition}. "
            f"Run {use_case.name}.backfill_history up to a partition before it, then {use_case.name}.train."
        )
    model = _model(use_case, deployment)
    choice: dict[str, Any] = {
        "model": model.model_dump(),
        "model_version": deployment.model_version,
        "role": life.serving_role,
        "why": _why(life, deployment),
        "beside": None,
    }
    inputs = {"model": [model]}
    trial = life.trial if life.killed is None else None
    if trial is not None:
        beside = _model(use_case, trial.deployment)
        choice["beside"] = {
            "model": beside.model_dump(),
            "model_version": trial.deployment.model_version,
            "stage": trial.stage,
            "share": trial.share,
        }
        inputs["beside"] = [beside]
    said = f"{choice['role']} {choice['model_version']} ({choice['why']})"
    beside_said = f", beside it {trial.deployment.model_version} ({trial.stage})" if trial else ""
    log.info("%s %s is answered by %s%s", use_case.name, partition, said, beside_said)
    return store.commit(
        use_case=use_case.name,
        step="resolve_model",
        partition=partition,
        kind="model_choice",
        files={MODEL_CHOICE: canonical_json(choice)},
        inputs=inputs,
        parameters={"undecided": undecided.isoformat()} if undecided else {},
    )


def _why(life: Life, deployment: Deployment) -> str:
    why = f"{deployment.action} by {deployment.decided_by} on partition {deployment.partition}"
    if life.killed is not None:
        why += f"; the kill switch is on since partition {life.killed.partition}, by {life.killed.decided_by}"
    return why


def _model(use_case: UseCase, deployment: Deployment) -> ArtifactRef:
    if deployment.model is None:
        raise UnknownModel(f"{use_case.name}: {deployment.model_version} was put in place without a model artifact.")
    return deployment.model
