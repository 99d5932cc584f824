"""Record the decision that follows from a partition's review, if the champion is still the reviewed one, and alert.

A decision takes effect for the partitions after the reviewed one. If the versions of a later partition were chosen
already, nothing is recorded and the next review decides, so that scored partitions do not change.

Artifact: `advance.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.lifecycle.review import approval_decisions, approval_summary
from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Action, Deployment
from nightshift.documents.promote import Advance, Review, ReviewOutcome
from nightshift.errors import ChampionChanged
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.alerts import send_unsent
from nightshift.services.manual_decisions import newest_chosen
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

STEP = "advance"

ACTIONS: dict[ReviewOutcome, tuple[Action, ...]] = {
    "canary": ("canary",),
    "ask_approval": ("awaiting_approval",),
    "promote": ("promoted",),
    "withdraw": ("withdrawn",),
    "time_out": ("approval_timed_out", "withdrawn"),
    "confirm": ("confirmed",),
    "roll_back": ("rolled_back",),
}
"""Actions recorded for each outcome; other outcomes record nothing."""


def run(context: StepContext, *, reviewed: ArtifactRef) -> ArtifactRef:
    """Append the decision of `reviewed` to deployments and commit the Advance.

    A rerun replaces what it recorded for the partition; `held` reverts a decision that no longer follows.
    Having recorded nothing, raises ChampionChanged if the champion is no longer the reviewed one, Superseded if the
    partition was reviewed again.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    context.check_current("review", reviewed)
    review = store.read_document(reviewed, Review)
    warehouse = context.warehouse
    decisions = warehouse.decisions()
    rows = _rows(review) or _taken_back(review, decisions)
    chosen = newest_chosen(use_case, store, warehouse, partition)
    why = review.why
    if rows and not _recorded(decisions, rows):
        if chosen > partition:
            why = f"not recorded, since the versions of {chosen} were chosen before; the next review decides: {why}"
            log.warning("%s %s: %s", use_case.name, partition, why)
            rows = []
        else:
            _record(use_case, store, warehouse, rows, review.champion)
    action = rows[-1].action if rows else "none"
    log.info("%s %s: %s %s: %s", use_case.name, partition, action, review.spec_id, why)
    if review.alert:
        warehouse.record_alert(Alert(partition, "review", f"review of partition {partition}: {review.alert}"))
    send_unsent(settings, use_case, warehouse)
    approval_needed = action == "awaiting_approval" and not approval_decisions(decisions, review.spec_id, partition)
    hours, page = use_case.risk.approval_hours, f"{reviewed.uri}{Review.FILE}"
    advance = Advance(
        partition=partition,
        action=action,
        spec_id=review.spec_id,
        champion=review.champion,
        why=why,
        approval_needed=approval_needed,
        summary=approval_summary(use_case.title, review, hours=hours, page_uri=page) if approval_needed else "",
    )
    return context.commit(
        STEP,
        kind="advance",
        files=advance.to_files(),
        inputs={"reviewed": [reviewed]},
        metrics={"action": action, "approval_needed": approval_needed},
    )


def _rows(review: Review) -> list[Deployment]:
    """The decisions to record for an outcome; none for `nothing` and `hold`."""
    becomes_champion = review.outcome in ("promote", "roll_back")
    reason = {"why": review.why} | ({"share": review.share} if review.outcome == "canary" else {})
    return [
        Deployment(
            partition=review.partition,
            action=action,
            role="champion" if becomes_champion or review.outcome == "confirm" else "challenger",
            spec_id=review.spec_id,
            replaces=review.champion if becomes_champion else None,
            reason=reason,
            decided_by=STEP,
        )
        for action in ACTIONS.get(review.outcome, ())
    ]


def _taken_back(review: Review, decisions: Sequence[Deployment]) -> list[Deployment]:
    """A `held` decision if an earlier run recorded one for the partition that no longer follows; else none."""
    own = [one for one in decisions if one.partition == review.partition and one.decided_by == STEP]
    if not own or own[-1].action == "held":
        return []
    reason = {"why": review.why, "takes_back": own[-1].action}
    return [own[-1].model_copy(update={"action": "held", "role": "challenger", "replaces": None, "reason": reason})]


def _recorded(decisions: Sequence[Deployment], rows: Sequence[Deployment]) -> bool:
    """Whether the last decision of this step for the partition equals the last of `rows` in action and spec."""
    own = [one for one in decisions if one.partition == rows[-1].partition and one.decided_by == STEP]
    return bool(own) and (own[-1].action, own[-1].spec_id) == (rows[-1].action, rows[-1].spec_id)


def _record(
    use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, rows: Sequence[Deployment], champion: str | None
) -> None:
    try:
        warehouse.record_deployments(rows, expected_champion=champion)
    except ChampionChanged as error:
        store.decide(use_case.name, STEP, rows[0].partition, Decision(status="rejected", reason=str(error)))
        raise
