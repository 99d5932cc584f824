"""Turn the kill switch on or off by hand: on, the fallback serves instead of the champion."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import in_force
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Action, Deployment
from nightshift.errors import ConfigurationError, UnknownModel
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.manual_decisions import check_in_reach, make_known, stated
from nightshift.steps.context import StepContext

SwitchState = Literal["on", "off"]

ACTIONS: dict[str, Action] = {"on": "killed", "off": "restored"}


def run(context: StepContext, *, state: SwitchState, reason: str, decided_by: str) -> ArtifactRef:
    """Record `killed` (on) or `restored` (off), which takes effect after `partition`; commit `kill_switch.json`.

    Nothing is recorded if the switch is in that state already. A change is an alert, and MLflow's
    aliases are synced. Raises UnknownModel if there is no version of the fallback, and
    ConfigurationError for another state, a partition later than the newest published one, or if the switch has the
    other state on a later partition.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    if state not in ACTIONS:
        raise ConfigurationError(
            "NS-DEPLOY-006", f"The kill switch of {use_case.name} cannot be set to {state!r}; choose on or off."
        )
    warehouse = context.warehouse
    check_in_reach(use_case, warehouse, partition)
    after = partition + timedelta(days=1)
    before = warehouse.state_as_of(after)
    if state == "on" and before.version(before.fallback) is None:
        raise UnknownModel(
            "NS-DEPLOY-007",
            f"{use_case.name} has no version of a fallback as of partition {partition}, so nothing would serve while "
            "the kill switch is on. Run train, which registers one; or roll back instead.",
        )
    _check_latest(use_case, warehouse, partition, state)
    changed = False
    if (state == "on") != (before.killed is not None):
        decision = Deployment(
            partition=partition,
            action=ACTIONS[state],
            role="champion",
            spec_id=before.champion or before.fallback or "",
            reason=stated(reason),
            decided_by=decided_by,
        )
        changed = warehouse.record_deployment(decision)
    elif (state == "on") != (warehouse.state_as_of(date.max).killed is not None):
        raise ConfigurationError(
            "NS-DEPLOY-021",
            f"{use_case.name}: after partition {partition} the kill switch is {state} already, and later partitions "
            f"have it the other way, because a decision was annulled. Trigger it again with the newest partition.",
        )
    primary = warehouse.state_as_of(after).primary
    serves = primary[1].model_version if primary else "nothing"
    return make_known(
        use_case, settings, store, warehouse, partition,
        f"the kill switch is {state}; after partition {partition} {serves} serves",
        changed=changed,
        result={"state": state, "serves": serves, "reason": reason, "decided_by": decided_by},
        step="kill_switch",
        kind="kill_switch",
        inputs={"model": [primary[1].model] if primary else []},
        parameters={"state": state},
    )  # fmt: skip


def _check_latest(use_case: UseCase, warehouse: Warehouse, partition: date, state: SwitchState) -> None:
    """Raise ConfigurationError if a later partition has the other state, which would take precedence."""
    decisions = in_force(warehouse.decisions(), date.max)
    later = [one for one in decisions if one.partition > partition and one.action in ACTIONS.values()]
    newest = max(later, key=lambda one: one.partition, default=None)
    if newest is not None and newest.action != ACTIONS[state]:
        raise ConfigurationError(
            "NS-DEPLOY-008",
            f"{use_case.name}: {newest.decided_by} recorded {newest.action} on partition {newest.partition}, so "
            f"{state} on {partition} would have no effect. Trigger it again with partition "
            f"{newest.partition}, or trigger {use_case.name}.annul_decision with {newest.deployment_id}.",
        )
