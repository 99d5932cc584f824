"""Shared by decisions taken by hand: when they take effect, idempotent retries, notification, MLflow aliases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Action, Deployment
from nightshift.errors import ConfigurationError, TrackingUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.tracking import mirror_aliases
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.alerts import send_unsent
from nightshift.settings import Settings

log = logging.getLogger(__name__)

RUN_ID = "run_id"


def stated(reason: str) -> dict[str, str]:
    """The `reason` of a decision by hand: why, and the orchestrator's run, which identifies it in a retry."""
    attempt = CURRENT_ATTEMPT.get()
    return {"why": reason, RUN_ID: attempt.run_id if attempt else ""}


def recorded_by_this_run(decisions: Sequence[Deployment], action: Action) -> Deployment | None:
    """The decision that an earlier try of the current run recorded, or None."""
    attempt = CURRENT_ATTEMPT.get()
    if attempt is None or not attempt.run_id:
        return None
    own = [one for one in decisions if (one.action, one.reason.get(RUN_ID)) == (action, attempt.run_id)]
    return own[-1] if own else None


def make_known(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    warehouse: Warehouse,
    partition: date,
    what: str,
    *,
    changed: bool,
    result: Mapping[str, Any],
    effective: date | None = None,
    **committed: Any,
) -> ArtifactRef:
    """Notify people of a recorded decision, sync MLflow's aliases, and commit `<kind>.json`.

    The message says `what` happened, by whom and why (`decided_by` and `reason` of the result), and when it takes
    effect: after the partition `effective`, by default `partition`. The alert that was recorded with the decision is
    sent. `committed`: further arguments of `ArtifactStore.commit`. If MLflow does not answer, the next `mirror_models`
    sets the aliases; raises ConfigurationError if it rejects the request, which says that the decision is saved.
    """
    message = (
        f"{use_case.name}: {what}. Decided by {result['decided_by']}: {result['reason']}. "
        f"{_from_when(use_case, store, warehouse, effective or partition)}"
    )
    log.warning(message) if changed else log.info(message)
    send_unsent(settings, use_case, warehouse)
    try:
        mirror_aliases(settings, use_case, warehouse.state_as_of(date.max), f"{message}.")
    except TrackingUnavailable as error:
        # Retried for an hour, it would hold up the next decision by hand, such as turning the switch off again.
        log.error("%s", error)
    return store.commit(
        use_case=use_case.name,
        partition=partition,
        files={f"{committed['kind']}.json": canonical_json({**result, "message": message})},
        metrics={"changed": changed, **committed.pop("metrics", {})},
        **committed,
    )


def newest_chosen(use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date) -> date:
    """The newest partition whose versions are chosen or whose predictions are published; at least `partition`."""
    publication = warehouse.latest_publication()
    newest = max(partition, publication.partition) if publication else partition
    while store.decision(use_case.name, "resolve_model", newest + timedelta(days=1)) is not None:
        newest += timedelta(days=1)
    return newest


def check_in_reach(use_case: UseCase, warehouse: Warehouse, partition: date) -> None:
    """Raise ConfigurationError if a decision of this partition would have no effect on the next partition to come."""
    publication = warehouse.latest_publication()
    newest = publication.partition if publication else max((d.partition for d in warehouse.decisions()), default=None)
    if newest is not None and partition > newest:
        raise ConfigurationError(
            "NS-DEPLOY-004",
            f"{use_case.name}: a decision of partition {partition} would take effect from partition "
            f"{partition + timedelta(days=1)} on, but the newest published partition is {newest}: it would have no "
            f"effect on {newest + timedelta(days=1)}. Nothing was recorded. Trigger it again with partition {newest}, "
            "or leave the partition empty.",
        )


def _from_when(use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date) -> str:
    """For the message: the first partition affected, and how to apply the decision to a partition chosen before."""
    chosen = newest_chosen(use_case, store, warehouse, partition)
    first = f"The first partition affected is {chosen + timedelta(days=1)}"
    if chosen == partition:
        return first
    return (
        f"{first}. The versions of {chosen} were chosen before: to choose them again, clear {use_case.name}.predict "
        "for it from resolve_model"
    )
