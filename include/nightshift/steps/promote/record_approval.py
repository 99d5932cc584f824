"""Record what a person said about a promotion, or that nobody said anything in time, and what follows.

A person answers hours later, so the answer takes effect after the newest partition whose models are
chosen already: no night that was scored changes.

Artifact: `approval.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Literal

from nightshift.artifact import ArtifactRef
from nightshift.deployment import Action, Deployment
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.tracking import mirror_aliases, standing
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

Answer = Literal["approved", "declined", "timed_out"]

ANSWERS: Mapping[str, Action] = {
    "approved": "approved",
    "declined": "declined",
    "timed_out": "approval_timed_out",
}
"""What each answer is recorded as."""


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    advanced: ArtifactRef,
    answer: Answer,
    decided_by: str,
) -> ArtifactRef:
    """Record the answer and, with it, the promotion or the end of the trial; commit `approval.json`.

    `advanced` is what `advance_model` committed, `decided_by` the person's user name ("" if nobody
    answered). An answer recorded before stands. If the model is no longer on trial, the answer is
    recorded and nothing follows. Raises ChampionChanged if there is another champion by now than the
    one judged against, and ConfigurationError if nobody was asked or the answer is none.
    """
    advance = json.loads(store.read(advanced, "advance.json"))
    if advance["action"] != "awaiting_approval" or answer not in ANSWERS:
        raise ConfigurationError(
            f"{use_case.name} {partition}: {answer!r} answers nothing: advance_model recorded {advance['action']!r}. "
            f"An answer is one of {sorted(ANSWERS)}, to a promotion that awaits approval."
        )
    warehouse = Warehouse(settings, use_case)
    recorded = _recorded(warehouse, partition, advance["model_version"])
    if not recorded:
        recorded = _decisions(use_case, store, warehouse, partition, advance, answer, decided_by)
        promoted = recorded[-1].action == "promoted"
        warehouse.record_deployments(recorded, expected_champion=advance["champion"] if promoted else ...)
    approval = {
        "answer": recorded[0].action,
        "answered_by": recorded[0].reason["answered_by"],
        "model_version": advance["model_version"],
        "partition": recorded[0].partition.isoformat(),
        "recorded": [one.action for one in recorded],
    }
    log.info("%s %s: %s", use_case.name, partition, approval)
    ref = store.commit(
        use_case=use_case.name,
        step="record_approval",
        partition=partition,
        kind="approval",
        files={"approval.json": json.dumps(approval, indent=1).encode()},
        inputs={"advanced": [advanced]},
    )
    with standing(f"{use_case.name} {partition}: {', '.join(approval['recorded'])} is recorded."):
        mirror_aliases(settings, use_case, warehouse.life_as_of(date.max))
    return ref


def _recorded(warehouse: Warehouse, partition: date, version: str) -> list[Deployment]:
    """What was recorded before as the answer to this partition's question."""
    return [
        one
        for one in warehouse.decisions()
        if one.decided_by == "record_approval"
        and one.model_version == version
        and one.reason.get("asked_on") == partition.isoformat()
    ]


def _decisions(
    use_case: UseCase,
    store: ArtifactStore,
    warehouse: Warehouse,
    partition: date,
    advance: Mapping[str, Any],
    answer: str,
    decided_by: str,
) -> list[Deployment]:
    """The answer and what follows from it, if the model is still on trial."""
    effective = _newest_chosen(use_case, store, warehouse, partition)
    trial = warehouse.life_as_of(effective + timedelta(days=1)).trial
    on_trial = trial is not None and trial.stage != "standby"
    still = on_trial and trial is not None and trial.deployment.model_version == advance["model_version"]
    said = Deployment(
        partition=effective,
        action=ANSWERS[answer],
        role="challenger",
        model_version=advance["model_version"],
        model=ArtifactRef.model_validate(advance["model"]),
        reason={
            "answered_by": decided_by,
            "asked_on": partition.isoformat(),
            "why": advance["reason"],
            **({} if still else {"without_effect": "the model is no longer on trial"}),
        },
        decided_by="record_approval",
    )
    if not still:
        return [said]
    if answer == "approved":
        follows = {"action": "promoted", "role": "champion", "replaces": advance["champion"]}
    else:
        follows = {"action": "withdrawn"}
    return [said, said.model_copy(update=follows)]


def _newest_chosen(use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, partition: date) -> date:
    """The newest partition, from the one that asked on, whose models are chosen."""
    publication = warehouse.latest_publication()
    newest: date = max(partition, publication["partition"]) if publication else partition
    while store.decision(use_case.name, "resolve_model", newest + timedelta(days=1)) is not None:
        newest += timedelta(days=1)
    return newest
