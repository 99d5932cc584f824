"""What decisions taken by hand have in common: runs that are tried again, people to be told, aliases to mirror."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from nightshift.core.model_life import Life
from nightshift.deployment import Action, Deployment
from nightshift.io.alerts import send_alert
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.tracking import mirror_aliases, standing
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

RUN_ID = "run_id"


def stated(reason: str) -> dict[str, str]:
    """The `reason` of a decision by hand: why, and the orchestrator's run, by which a second try finds it again."""
    attempt = CURRENT_ATTEMPT.get()
    return {"why": reason, RUN_ID: attempt.run_id if attempt else ""}


def recorded_by_this_run(decisions: Sequence[Deployment], action: Action, partition: date) -> Deployment | None:
    """What an earlier try of the current run decided already, or None."""
    attempt = CURRENT_ATTEMPT.get()
    if attempt is None or not attempt.run_id:
        return None
    found = [
        made
        for made in decisions
        if (made.action, made.partition, made.reason.get(RUN_ID)) == (action, partition, attempt.run_id)
    ]
    return found[-1] if found else None


def switch_decision(
    life: Life, partition: date, action: Action, reason: Mapping[str, str], decided_by: str
) -> Deployment:
    """The kill switch turned on (`killed`) or off (`restored`) after a partition.

    Names the champion that it takes away or gives back, or the fallback if there is no champion.
    """
    named = life.champion or life.fallback
    return Deployment(
        partition=partition,
        action=action,
        role="champion",
        model_version=named.model_version if named else "none",
        model=named.model if named else None,
        reason=reason,
        decided_by=decided_by,
    )


def make_known(settings: Settings, use_case: UseCase, warehouse: Warehouse, message: str, *, changed: bool) -> None:
    """Mirror the models' stages as MLflow aliases; if something `changed`, post the message to the alert webhook.

    Both follow what was recorded and do not undo it. Raises TrackingUnavailable if MLflow does not
    answer and ConfigurationError if it refuses, both saying that the decision stands; a second try then
    completes it.
    """
    log.warning(message) if changed else log.info(message)
    if changed and settings.alert_webhook_url is not None:
        send_alert(settings.alert_webhook_url, message)
    with standing(f"{message}."):
        mirror_aliases(settings, use_case, warehouse.life_as_of(date.max))


def chosen_already(use_case: UseCase, store: ArtifactStore, partition: date) -> str:
    """What to do about the night after a partition if its models were chosen before the decision; "" if they were not.

    To be appended to a message.
    """
    night = partition + timedelta(days=1)
    if store.decision(use_case.name, "resolve_model", night) is None:
        return ""
    return (
        f". The models of {night} were chosen before: clear {use_case.name}.predict for it from resolve_model, "
        "and they are chosen anew"
    )
