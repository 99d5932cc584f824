"""Record what follows from the judgement of a trial: on to the canary, champion, withdrawn, rolled back, confirmed.

What follows is recorded against the champion that the judgement was made against. Where the use
case's risks demand a person's approval, a promotion is recorded as awaiting it, once: the trial goes
on until somebody answers.

Artifact: `advance.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.model_life import approval_asked_for
from nightshift.core.risk import demands
from nightshift.core.trial_outcome import DECIDED_BY, approval_summary, deployment_of, night_rows
from nightshift.deployment import Deployment
from nightshift.errors import ChampionChanged
from nightshift.io.alerts import send_alert
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

TOLD = ("promoted", "withdrawn", "rolled_back")
"""Actions that people are told of: another model answers, or one that answered a share no longer does."""


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, judged: ArtifactRef
) -> ArtifactRef:
    """Record the decision of `judged` in deployments and trial_nights; commit `advance.json`.

    advance.json: action (as recorded, or "none"), approval_needed, summary (Markdown, for the person),
    reason, model_version, model and champion (the one judged against, or null). The people behind the
    alert webhook are told of another champion and of a trial that failed. Raises ChampionChanged,
    with nothing but the refusal recorded, if there is another champion by now.
    """
    trial = json.loads(store.read(judged, "trial.json"))
    warehouse = Warehouse(settings, use_case)
    decisions = warehouse.decisions()
    policy = use_case.risk
    made = deployment_of(trial, use_case.trial.canary_share, approval=demands(policy).approval)
    asked_on = None
    if made is not None and made.action == "awaiting_approval":
        asked_on = approval_asked_for(decisions, partition, made.model_version)
    recorded = made if asked_on is None else None
    advance: dict[str, Any] = {
        "action": recorded.action if recorded else "none",
        "approval_needed": recorded is not None
        and recorded.action == "awaiting_approval"
        and not _answered(decisions, recorded),
        "reason": trial["reason"] + (f"; approval was asked for on {asked_on}" if asked_on else ""),
        "model_version": made.model_version if made else None,
        "model": made.model.model_dump() if made and made.model else None,
        "champion": trial["champion"],
        "summary": "",
    }
    if advance["approval_needed"]:
        page = f"{judged.uri}trial.html"
        advance["summary"] = approval_summary(use_case.title, trial, hours=policy.approval_hours, page_uri=page)
    try:
        changed = _record(warehouse, decisions, partition, recorded, trial)
    except ChampionChanged as error:
        refused = _commit(use_case, store, partition, judged, advance | {"action": "refused", "reason": str(error)})
        store.decide(
            use_case.name, "advance_model", partition, Decision(status="rejected", ref=refused, reason=str(error))
        )
        raise
    if changed and recorded is not None and recorded.action in TOLD:
        _tell(use_case, settings, recorded)
    warehouse.record_trial_nights(partition, night_rows(trial))
    ref = _commit(use_case, store, partition, judged, advance)
    log.info("%s %s: %s (%s)", use_case.name, partition, advance["action"], advance["reason"])
    return ref


def _tell(use_case: UseCase, settings: Settings, made: Deployment) -> None:
    place = f" in place of {made.replaces}" if made.replaces else ""
    message = (
        f"{use_case.name}: {made.model_version} is {made.action}{place} after partition {made.partition}, "
        f"by {made.decided_by}: {made.reason['why']}"
    )
    log.warning(message)
    if settings.alert_webhook_url is not None:
        send_alert(settings.alert_webhook_url, message)


def _record(
    warehouse: Warehouse,
    decisions: Sequence[Deployment],
    partition: date,
    made: Deployment | None,
    trial: dict[str, Any],
) -> bool:
    """Append the decision, or take back what this step said for the partition before. Returns whether it wrote."""
    if made is None:
        said = [one for one in decisions if one.partition == partition and one.decided_by == DECIDED_BY]
        if not said or said[-1].action == "held":
            return False
        why = {"why": trial["reason"], "takes_back": said[-1].action}
        made = said[-1].model_copy(
            update={"action": "held", "role": "challenger", "model": None, "replaces": None, "reason": why}
        )
    return warehouse.record_deployment(made, expected_champion=trial["champion"])


def _answered(decisions: Sequence[Deployment], asked: Deployment) -> bool:
    """Whether a person answered this very question before."""
    return any(
        one.decided_by == "record_approval"
        and one.model_version == asked.model_version
        and one.reason.get("asked_on") == asked.partition.isoformat()
        for one in decisions
    )


def _commit(
    use_case: UseCase, store: ArtifactStore, partition: date, judged: ArtifactRef, advance: dict[str, Any]
) -> ArtifactRef:
    return store.commit(
        use_case=use_case.name,
        step="advance_model",
        partition=partition,
        kind="advance",
        files={"advance.json": json.dumps(advance, indent=1).encode()},
        inputs={"judged": [judged]},
        metrics={"action": advance["action"], "approval_needed": advance["approval_needed"]},
    )
