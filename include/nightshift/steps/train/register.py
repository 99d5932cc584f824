"""Register the versions that passed every mandatory gate, and reject the others.

A registered version serves, or is scored, from the next partition on: it replaces the earlier version of its spec.
Where there is no champion, the declared one becomes champion with its first version, or goes into shadow if the
declared risks demand that a person approves it. A rejected version is recorded with its gates; the earlier version
of its spec goes on.

Artifact: `registration.json`, a Registration document. Besides, rows in `deployments` and `gate_results`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from types import EllipsisType

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.gates import failures
from nightshift.core.lifecycle.specs import first_champion
from nightshift.core.model_package import SPEC
from nightshift.core.risk import demands
from nightshift.declare.models import ModelSpec
from nightshift.deployment import Deployment, GateResult, model_version
from nightshift.documents import Registration, ScoringRole
from nightshift.errors import ChampionChanged
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Verified:
    """A version and its gates; `measured`: the same with what a clock measured."""

    ref: ArtifactRef
    spec: ModelSpec
    role: ScoringRole
    gates: Sequence[GateResult]
    measured: Sequence[GateResult]
    failed: Sequence[GateResult]


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    verified: Sequence[ArtifactRef],
) -> ArtifactRef:
    """Commit the registration and record it. Run again, nothing is recorded twice.

    Raises ChampionChanged, having recorded no decision, if a first champion was to be promoted and there is a
    champion by now; WarehouseUnavailable.
    """
    warehouse = Warehouse(settings, use_case)
    versions = [_read(use_case, store, ref) for ref in verified]
    for one in versions:
        name = model_version(partition, one.ref)
        warehouse.record_gates(partition, name, one.measured, candidate=one.spec.spec_id)
    entries = [_entry(partition, one) for one in versions]
    decisions = [_decision(partition, one, entry) for one, entry in zip(versions, entries, strict=True)]
    registered = [entry.spec_id for entry in entries if entry.action == "registered"]
    approval = demands(use_case.risk).approval
    champion = first_champion(warehouse.decisions(), partition, use_case, registered, approval=approval)
    decisions += [champion] if champion else []
    promoted = champion.spec_id if champion and champion.action == "promoted" else ""
    registration = Registration(partition=partition, versions=tuple(entries), promoted=promoted)
    ref = store.commit(
        use_case=use_case.name,
        step="register",
        partition=partition,
        kind="registration",
        files=registration.to_files(),
        inputs={"verified": list(verified)},
        metrics={entry.spec_id: entry.action for entry in entries},
        current=False,
    )
    expected: EllipsisType | None = None if promoted else ...
    try:
        warehouse.record_deployments(decisions, expected_champion=expected)
    except ChampionChanged as error:
        rejected = Decision(status="rejected", ref=ref, reason=str(error))
        store.decide(use_case.name, "register", partition, rejected)
        raise
    store.decide(use_case.name, "register", partition, Decision(status="published", ref=ref))
    for entry in entries:
        log.info(
            "%s %s: %s of %s is %s: %s",
            use_case.name, partition, entry.model_version, entry.spec_id, entry.action, entry.why,
        )  # fmt: skip
    return ref


def _read(use_case: UseCase, store: ArtifactStore, verified: ArtifactRef) -> _Verified:
    manifest = store.manifest(verified)
    (version,) = manifest.inputs["version"]
    gates = [GateResult.model_validate(one) for one in json.loads(store.read(verified, "verification.json"))["gates"]]
    return _Verified(
        version,
        ModelSpec.model_validate_json(store.read(version, SPEC)),
        store.manifest(version).parameters["role"],
        gates,
        [GateResult.model_validate(one) for one in manifest.metrics["gates"]],
        failures(gates, demands(use_case.risk).mandatory),
    )


def _entry(partition: date, one: _Verified) -> Registration.Entry:
    why = "; ".join(f"{gate.gate}: {gate.reason}" for gate in one.failed)
    return Registration.Entry(
        role=one.role,
        spec_id=one.spec.spec_id,
        model_version=model_version(partition, one.ref),
        model=one.ref,
        action="rejected" if one.failed else "registered",
        why=why or "it passed every mandatory gate",
    )


def _decision(partition: date, one: _Verified, entry: Registration.Entry) -> Deployment:
    return Deployment(
        partition=partition,
        action=entry.action,
        role=entry.role,
        spec_id=entry.spec_id,
        spec=one.spec,
        model_version=entry.model_version,
        model=entry.model,
        reason={
            "why": entry.why,
            "failed": [gate.gate for gate in one.failed],
            "gates": {gate.gate: f"{gate.verdict}: {gate.reason}" for gate in one.gates},
        },
        decided_by="register",
    )
