"""Which decisions can be annulled, and the first partition that an annulment changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.core.lifecycle.state import by_hand, state_as_of
from nightshift.deployment import Deployment, SpecAction
from nightshift.errors import ConfigurationError

ANNULLABLE: tuple[SpecAction, ...] = ("rolled_back", "killed", "restored", "retired")
"""Actions that can be annulled if a person took them."""

SHOWN = 5


def decision_to_annul(use_case: str, decisions: Sequence[Deployment], deployment_id: int) -> Deployment:
    """The recorded decision of that number.

    Raises ConfigurationError if the use case has none, if it is an annulment, if no person took it or its action is
    none of ANNULLABLE, and if it is annulled already.
    """
    recorded = {one.deployment_id: one for one in decisions}
    annullable = [one for one in decisions if one.action in ANNULLABLE and by_hand(one)]
    if deployment_id not in recorded:
        raise ConfigurationError(
            "NS-DEPLOY-016",
            f"{use_case} has no decision {deployment_id}; each use case has numbers of its own. The newest that can "
            f"be annulled: {'; '.join(map(described, annullable[-SHOWN:])) or 'none'}.",
        )
    decision = recorded[deployment_id]
    if decision.annuls is not None:
        raise ConfigurationError(
            "NS-DEPLOY-017",
            f"{use_case}: decision {described(decision)} is an annulment, which cannot be annulled. Take the decision "
            f"that it annulled, {decision.annuls}, again.",
        )
    if decision not in annullable:
        raise ConfigurationError(
            "NS-DEPLOY-018",
            f"{use_case}: decision {described(decision)} cannot be annulled: only {', '.join(ANNULLABLE)} can, taken "
            f"by hand. Trigger {use_case}.rollback_model to undo a promotion, {use_case}.kill_switch to end what a "
            "rule turned on, and a step again to have it decide again.",
        )
    for one in decisions:
        if one.annuls == deployment_id:
            raise ConfigurationError(
                "NS-DEPLOY-019",
                f"{use_case}: decision {described(decision)} is annulled already, by {one.decided_by} after partition "
                f"{one.partition}. Nothing was recorded, and nothing has to be done.",
            )
    return decision


def first_affected(decisions: Sequence[Deployment], annulment: Deployment) -> date | None:
    """The first partition whose state the annulment changes, or None. `decisions`: all, it may be among them."""
    before = [one for one in decisions if one.annuls != annulment.annuls]
    after = [*before, annulment]
    changing = {one.partition for one in before if one.partition > annulment.partition}
    for day in sorted({annulment.partition, *changing}):
        affected = day + timedelta(days=1)
        if state_as_of(before, affected) != state_as_of(after, affected):
            return affected
    return None


def check_annulment(use_case: str, decisions: Sequence[Deployment], annulment: Deployment) -> None:
    """Raise ConfigurationError if it is an annulment that cannot be recorded, or that has no effect.

    `decisions`: those recorded before it. See `decision_to_annul`.
    """
    if annulment.annuls is None:
        return
    decision = decision_to_annul(use_case, decisions, annulment.annuls)
    if first_affected(decisions, annulment) is None:
        raise ConfigurationError(
            "NS-DEPLOY-020",
            f"{use_case}: decision {described(decision)} has no effect any more on partitions after "
            f"{annulment.partition}: without it the same specs would serve. Nothing was recorded, and nothing has to "
            "be done.",
        )


def described(decision: Deployment) -> str:
    """A decision in a few words: number, action, what it is about, partition and who took it."""
    what = f"{decision.action} {decision.model_version or decision.spec_id}".strip()
    return f"{decision.deployment_id} ({what} after {decision.partition}, {decision.decided_by})"
