"""Let the fallback answer instead of the champion, or the champion again, on a person's word."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.deployment import Action
from nightshift.errors import ConfigurationError, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.by_hand import chosen_already, make_known, stated, switch_decision
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

State = Literal["on", "off"]

ACTIONS: dict[str, Action] = {"on": "killed", "off": "restored"}


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    state: State,
    reason: str,
    decided_by: str,
) -> ArtifactRef:
    """Record `killed` (on) or `restored` (off), which takes effect after `partition`; commit `kill_switch.json`.

    Nothing is recorded if the switch is in that state already. The people behind the alert webhook
    are told of a change, and MLflow's aliases follow. Raises UnknownModel if there is no fallback to
    switch to, and ConfigurationError for another state or if a later partition turned it on.
    """
    if state not in ACTIONS:
        raise ConfigurationError(f"The kill switch of {use_case.name} cannot be turned {state!r}; say on or off.")
    warehouse = Warehouse(settings, use_case)
    after = partition + timedelta(days=1)
    life = warehouse.life_as_of(after)
    if state == "on" and (life.fallback is None or life.fallback.model is None):
        raise UnknownModel(
            f"{use_case.name} has no fallback model as of partition {partition}, so the kill switch would leave nobody "
            f"to answer. Run {use_case.name}.backfill_history, which registers one; or roll back instead."
        )
    latest = warehouse.life_as_of(date.max).killed
    if state == "off" and latest is not None and latest.partition > partition:
        raise ConfigurationError(
            f"{use_case.name}: the kill switch was turned on by {latest.decided_by} as of {latest.partition}; turned "
            f"off as of {partition}, it would stay on. Trigger it again with partition {latest.partition}."
        )
    changed = False
    if (state == "on") != (life.killed is not None):
        made = switch_decision(life, partition, ACTIONS[state], stated(reason), decided_by)
        changed = warehouse.record_deployment(made)
    serving = warehouse.life_as_of(after).serving
    answers = serving.model_version if serving else "nobody"
    message = (
        f"{use_case.name}: the kill switch is {state}; after partition {partition} {answers} answers. "
        f"Decided by {decided_by}: {reason}{chosen_already(use_case, store, partition)}"
    )
    make_known(settings, use_case, warehouse, message, changed=changed)
    result = {"state": state, "answers": answers, "reason": reason, "decided_by": decided_by, "message": message}
    return store.commit(
        use_case=use_case.name,
        step="kill_switch",
        partition=partition,
        kind="kill_switch",
        files={"kill_switch.json": canonical_json(result)},
        inputs={"model": [serving.model] if serving and serving.model else []},
        parameters={"state": state},
        metrics={"changed": changed},
    )
