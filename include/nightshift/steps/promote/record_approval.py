"""Record the approval, rejection or timeout of a promotion, and the decision that follows.

An approval comes hours later, so it takes effect after the newest partition whose versions are chosen already:
scored partitions do not change.

Artifact: `approval.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Literal

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.review import approval_decisions
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Action, Deployment
from nightshift.documents.promote import Advance, Approval
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.tracking import mirror_aliases
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.manual_decisions import newest_chosen
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

Answer = Literal["approved", "declined", "timed_out"]

ANSWERS: Mapping[str, Action] = {
    "approved": "approved",
    "declined": "declined",
    "timed_out": "approval_timed_out",
}
"""The action recorded for each answer."""


def run(context: StepContext, *, advanced: ArtifactRef, answer: Answer, decided_by: str) -> ArtifactRef:
    """Record the answer and, with it, the promotion or the withdrawal; commit the Approval.

    `advanced` is what `advance` committed, `decided_by` the person's user name ("" after a timeout). An answer
    recorded before is kept. If the spec is no longer on its way to champion, the answer is recorded without effect.
    Raises ChampionChanged if the champion is no longer the reviewed one, and ConfigurationError if no approval is
    pending or the answer is unknown.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    advance = store.read_document(advanced, Advance)
    if advance.action != "awaiting_approval" or answer not in ANSWERS:
        raise ConfigurationError(
            "NS-DEPLOY-005",
            f"{use_case.name} {partition}: {answer!r} cannot be recorded: advance recorded {advance.action!r}. An "
            f"answer is one of {sorted(ANSWERS)}, for a promotion that awaits approval.",
        )
    warehouse = context.warehouse
    recorded: Sequence[Deployment] = approval_decisions(warehouse.decisions(), advance.spec_id, advance.partition)
    if not recorded:
        recorded = _decisions(use_case, store, warehouse, advance, answer, decided_by)
        promoted = recorded[-1].action == "promoted"
        warehouse.record_deployments(recorded, expected_champion=advance.champion if promoted else ...)
    approval = Approval(
        partition=recorded[0].partition,
        spec_id=advance.spec_id,
        answer=recorded[0].action,
        answered_by=recorded[0].reason["answered_by"],
        recorded=tuple(one.action for one in recorded),
    )
    log.info("%s %s: %s", use_case.name, partition, approval)
    ref = context.commit(
        "record_approval",
        kind="approval",
        files=approval.to_files(),
        inputs={"advanced": [advanced]},
    )
    message = f"{use_case.name} {partition}: {', '.join(approval.recorded)} is recorded."
    mirror_aliases(settings, use_case, warehouse.state_as_of(date.max), message)
    return ref


def _decisions(
    use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, advance: Advance, answer: str, decided_by: str
) -> Sequence[Deployment]:
    """The answer and, if the spec is still on its way to champion, the promotion or withdrawal."""
    effective = newest_chosen(use_case, store, warehouse, advance.partition)
    challenge = warehouse.state_as_of(effective + timedelta(days=1)).challenge
    still = challenge is not None and challenge.spec_id == advance.spec_id
    lost = {} if still else {"without_effect": "the spec is no longer on its way to champion"}
    decision = Deployment(
        partition=effective,
        action=ANSWERS[answer],
        role="challenger",
        spec_id=advance.spec_id,
        reason={
            "answered_by": decided_by,
            "asked_on": advance.partition.isoformat(),
            "why": advance.why,
            **lost,
        },
        decided_by="record_approval",
    )
    if not still:
        return [decision]
    if answer == "approved":
        follows = {"action": "promoted", "role": "champion", "replaces": advance.champion}
    else:
        follows = {"action": "withdrawn"}
    return [decision, decision.model_copy(update=follows)]
