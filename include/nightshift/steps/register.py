"""Choose among the verified candidates, hold the winner against what is in service, and record the verdict.

The cheapest candidate within the use case's compression budget wins. It is promoted if the gates let
it: no worse than champion and fallback, asked about the same holdout rows. A rejected model is no
error: it is kept and recorded with its numbers, and predictions go on with the champion they have.

Artifact: a model artifact: `model.onnx`, `signature.json`, `card.json`, `reference.parquet`, `reference.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.candidates import estimators
from nightshift.core.evaluation import log_loss
from nightshift.core.model_package import CARD, MODEL, SIGNATURE, describe, package
from nightshift.core.model_selection import Measured, Selection, select_model
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.promotion import Rival, judge, passed
from nightshift.core.training_split import TRAINING_SET, TrainingSplit, split_training_set
from nightshift.deployment import Deployment, GateResult, model_version
from nightshift.errors import FeatureContractError, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.tracking import TrainingRecord, log_training
from nightshift.io.training_turn import undecided_before
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A verified candidate: its graph's artifact, its verification's file, and the recorded measurements."""

    exported: ArtifactRef
    verification: Mapping[str, Any]
    metrics: Mapping[str, float]


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    verified: Sequence[ArtifactRef],
    allow_undecided: bool = False,
) -> ArtifactRef:
    """Commit the winner as a model artifact and record it in gate_results, deployments and MLflow.

    `verified` are all artifacts of `verify`. Raises PartitionNotReady while the training of the
    partition before is undecided (its winner may be the champion to beat), unless `allow_undecided`.
    """
    warehouse = Warehouse(settings, use_case)
    undecided = undecided_before(use_case, store, warehouse, partition)
    if undecided and not allow_undecided:
        raise PartitionNotReady(
            f"{use_case.name}: the training of partition {undecided} has not been decided yet, and {partition}'s model "
            f"is held against what it promotes. Run or clear {use_case.name}.train for {undecided}."
        )
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    candidates = _candidates(store, verified)
    selection = _select(use_case, candidates)
    ref, files = _commit(use_case, store, partition, training_set, verified, candidates, selection, split)

    holdout = candidates[selection.winner].verification["holdout"]
    champion, fallback = warehouse.champion_as_of(partition), warehouse.fallback_as_of(partition)
    in_service = {"champion": champion, "fallback": fallback}
    rivals = [_rival(store, settings, split, role, deployed) for role, deployed in in_service.items()]
    gates = judge(holdout["auc"], holdout["log_loss"], rivals, use_case.promotion)
    version, promoted = model_version(partition, ref), passed(gates)
    _decide(use_case, store, partition, ref, gates)
    warehouse.record_gates(partition, version, gates)
    warehouse.record_deployment(
        Deployment(
            partition=partition,
            action="promoted" if promoted else "rejected",
            role="champion",
            model_version=version,
            model=ref,
            replaces=champion.model_version if champion and promoted else None,
            reason=_reason(selection, holdout, gates, undecided),
            decided_by="register",
        )
    )
    parameters = {
        "winner": selection.winner,
        "teacher": selection.teacher,
        "training_set": training_set.uri,
        "train_rows": split.train.num_rows,
        "holdout_rows": split.holdout.num_rows,
        "seed": use_case.training.seed,
    }
    metrics = {name: candidate.metrics for name, candidate in candidates.items()}
    kept = {SIGNATURE: files[SIGNATURE], CARD: files[CARD]}
    record = TrainingRecord(partition, version, ref, promoted, parameters, metrics, files[MODEL], kept)
    log_training(settings, use_case, record)
    log.info("%s %s: %s (%s) %s", use_case.name, partition, version, selection.winner, [g.reason for g in gates])
    return ref


def _reason(
    selection: Selection, holdout: Mapping[str, float], gates: Sequence[GateResult], undecided: date | None
) -> dict[str, Any]:
    """The numbers behind a deployment, JSON-safe."""
    reason: dict[str, Any] = {
        "winner": selection.winner,
        "teacher": selection.teacher,
        "holdout": holdout,
        "candidates": selection.reasons,
        "gates": {gate.gate: f"{gate.verdict}: {gate.reason}" for gate in gates},
    }
    return reason | ({"went_on_without": undecided.isoformat()} if undecided else {})


def _candidates(store: ArtifactStore, verified: Sequence[ArtifactRef]) -> dict[str, Candidate]:
    found = {}
    for ref in verified:
        manifest = store.manifest(ref)
        found[manifest.variant] = Candidate(
            exported=manifest.inputs["exported"][0],
            verification=json.loads(store.read(ref, "verification.json")),
            metrics=manifest.metrics,
        )
    return found


def _select(use_case: UseCase, candidates: Mapping[str, Candidate]) -> Selection:
    measured = [
        Measured(
            name=name,
            auc=candidate.metrics["auc"],
            log_loss=candidate.metrics["log_loss"],
            bytes=int(candidate.metrics["bytes"]),
            rows_per_second=candidate.metrics["rows_per_second"],
        )
        for name, candidate in candidates.items()
    ]
    return select_model(measured, estimators(use_case), use_case.compression)


def _commit(
    use_case: UseCase,
    store: ArtifactStore,
    partition: date,
    training_set: ArtifactRef,
    verified: Sequence[ArtifactRef],
    candidates: Mapping[str, Candidate],
    selection: Selection,
    split: TrainingSplit,
) -> tuple[ArtifactRef, dict[str, Any]]:
    """The winner's model artifact and its files. Nothing measured by a clock is part of its identity."""
    winner = candidates[selection.winner]
    graph = store.read(winner.exported, MODEL)
    signature = Signature.from_json(store.read(winner.exported, SIGNATURE))
    scores = score(load_session(graph, threads=1), signature, split.holdout)
    card = describe(
        use_case,
        signature,
        split,
        winner.verification["holdout"],
        role="champion",
        candidate=selection.winner,
        teacher=selection.teacher,
        candidates={name: candidate.verification for name, candidate in candidates.items()},
    )
    files = package(use_case, graph, signature, split, scores, card)
    ref = store.commit(
        use_case=use_case.name,
        step="register",
        partition=partition,
        kind="model",
        files=files,
        inputs={"training_set": [training_set], "exported": [winner.exported], "verified": list(verified)},
        parameters={
            "winner": selection.winner,
            "teacher": selection.teacher,
            "feature_service": signature.feature_service,
        },
        metrics={**winner.metrics, "candidates": {name: candidate.metrics for name, candidate in candidates.items()}},
        rows=split.train.num_rows,
        current=False,
    )
    return ref, files


def _rival(
    store: ArtifactStore, settings: Settings, split: TrainingSplit, role: str, deployment: Deployment | None
) -> Rival:
    """Log loss on the holdout rows of a model in service, or why it has none."""
    if deployment is None or deployment.model is None:
        return Rival(role, absence=f"there was no {role} as of this partition")
    session = load_session(store.read(deployment.model, MODEL), settings.threads)
    signature = Signature.from_json(store.read(deployment.model, SIGNATURE))
    try:
        answers = score(session, signature, split.holdout)
    except FeatureContractError as error:
        reason = f"{deployment.model_version} cannot be asked about these rows: {error}"
        return Rival(role, deployment.model_version, absence=reason)
    return Rival(role, deployment.model_version, log_loss(split.holdout_labels, answers))


def _decide(
    use_case: UseCase, store: ArtifactStore, partition: date, ref: ArtifactRef, gates: Sequence[GateResult]
) -> None:
    """Say in the store, too, what became of the partition's model."""
    failed = [f"{gate.gate}: {gate.reason}" for gate in gates if gate.verdict == "fail"]
    status = "rejected" if failed else "published"
    decision = Decision(status=status, ref=ref, reason="; ".join(failed))
    store.decide(use_case.name, "register", partition, decision)
