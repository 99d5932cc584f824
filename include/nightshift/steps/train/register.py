"""Register the versions that passed every mandatory gate, and reject the others.

A registered version is used from the next partition on and replaces the earlier version of its spec. If there is no
champion, the declared one becomes champion with its first version, or goes into shadow if the declared risks demand
a person's approval. A rejected version is recorded with its gates; the earlier version of its spec stays in use.

Artifact: `registration.json`, a Registration document; also rows in `deployments` and `gate_results`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from types import EllipsisType

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.gates.registry import failures
from nightshift.core.gates.risk import demands
from nightshift.core.lifecycle.specs import first_champion
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment, GateResult, model_version
from nightshift.documents.train import Registration, Verification
from nightshift.errors import ArtifactCorrupt, ChampionChanged
from nightshift.io.artifact_store import ArtifactStore
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, verified: Sequence[ArtifactRef]) -> ArtifactRef:
    """Commit the registration and record it; idempotent.

    Raises Superseded, having recorded nothing, if a version was verified again; ChampionChanged, having recorded no
    decision, if a first champion is to be promoted and there is one meanwhile; ArtifactCorrupt; WarehouseUnavailable.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    warehouse = context.warehouse
    entries, decisions = [], []
    for ref in verified:
        context.check_current("verify", ref, variant=store.manifest(ref).variant)
    for ref in verified:
        entry, decision, measured = _decided(use_case, store, partition, ref)
        warehouse.record_gates(partition, entry.model_version, measured, candidate=entry.spec_id)
        entries.append(entry)
        decisions.append(decision)
    registered = [entry.spec_id for entry in entries if entry.action == "registered"]
    approval = demands(use_case.risk).approval
    champion = first_champion(warehouse.decisions(), partition, use_case, registered, approval=approval)
    decisions += [champion] if champion else []
    promoted = champion.spec_id if champion and champion.action == "promoted" else ""
    registration = Registration(partition=partition, versions=tuple(entries), promoted=promoted)
    ref = context.commit(
        "register",
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


def _decided(
    use_case: UseCase, store: ArtifactStore, partition: date, verified: ArtifactRef
) -> tuple[Registration.Entry, Deployment, Sequence[GateResult]]:
    """The entry and the decision about a version, and its gate results with the measured times."""
    manifest = store.manifest(verified)
    (version,) = manifest.inputs["version"]
    spec = store.read_document(version, ModelSpec)
    gates = store.read_document(verified, Verification).gates
    # With the measured times and memory, which differ from run to run and are therefore not hashed.
    measured = [GateResult.model_validate(one) for one in manifest.metrics["gates"]]
    if [(one.gate, one.verdict) for one in measured] != [(one.gate, one.verdict) for one in gates]:
        raise ArtifactCorrupt(
            "NS-STORE-066",
            f"The gate results in the metrics of {verified.uri}manifest.json are not those of its "
            f"{Verification.FILE}: they were changed after they were committed. Run `verify` of {partition} again.",
        )
    failed = failures(gates, demands(use_case.risk).mandatory)
    entry = Registration.Entry(
        role=store.manifest(version).parameters["role"],
        spec_id=spec.spec_id,
        model_version=model_version(partition, version),
        model=version,
        action="rejected" if failed else "registered",
        why="; ".join(map(str, failed)) or "it passed every mandatory gate",
    )
    decision = Deployment(
        partition=partition,
        spec=spec,
        reason={
            "why": entry.why,
            "failed": [gate.gate for gate in failed],
            "gates": {gate.gate: f"{gate.verdict}: {gate.reason}" for gate in gates},
        },
        decided_by="register",
        **entry.model_dump(exclude={"why"}),
    )
    return entry, decision, measured
