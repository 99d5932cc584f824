"""Hold the chosen model against the models in service, and record what becomes of it.

Asked about the same holdout rows it may be no worse than champion and fallback, and in no slice behind
the champion. If it passes, it goes on trial, or is champion at once where there was none. A rejected
model is no error: it is kept and recorded with its numbers, and predictions go on with the models they have.

Artifact: `registration.json`, `card.html` (the model card), `pareto.html` and `pareto.csv` (all candidates).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef, Decision, canonical_json
from nightshift.core import model_card, pareto_report
from nightshift.core.estimators import FITTED_MODEL, FittedModel
from nightshift.core.evaluation import evaluate
from nightshift.core.explanations import Explanation, explain
from nightshift.core.gates import refusals
from nightshift.core.model_life import Life, overtaken_by
from nightshift.core.model_package import CARD, MODEL, NO_MODEL, SIGNATURE
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.promotion import Outcome, Rival, judge, outcome
from nightshift.core.risk import demands
from nightshift.core.slices import slices_gate
from nightshift.core.training_split import PARTITION, TRAINING_SET, TrainingSplit, split_training_set
from nightshift.deployment import Deployment, GateResult, model_version
from nightshift.errors import ChampionChanged, FeatureContractError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.tracking import TrainingRecord, log_training, mirror_aliases
from nightshift.io.training_turn import take_turn
from nightshift.io.verified_candidates import VerifiedCandidate, read_verified
from nightshift.io.warehouse import TRAINING, Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

REGISTRATION, MODEL_CARD, PARETO_PAGE = "registration.json", "card.html", "pareto.html"
NO_VERSION = "none"


@dataclass(frozen=True)
class _Judged:
    """A chosen model and everything that was found out about it: by `verify` and against the models in service."""

    version: str
    candidate: VerifiedCandidate
    rivals: Sequence[Rival]
    gates: Sequence[GateResult]
    refused: Sequence[GateResult]
    outcome: Outcome
    explanation: Explanation


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    selected: ArtifactRef,
    allow_undecided: bool = False,
) -> ArtifactRef:
    """Commit the registration of what `select_model` chose and record it in gate_results, deployments and MLflow.

    A model whose training comes after later partitions put another one on trial or in charge is shelved:
    on trial as of its own partition, it would throw that one out.

    Raises PartitionNotReady while the partition before may still change which models there are, unless
    `allow_undecided`; and ChampionChanged, with the gates but no decision recorded, if a model was to
    become the first champion and there is one by now.
    """
    warehouse = Warehouse(settings, use_case)
    undecided = take_turn(use_case, store, warehouse, partition, allow_undecided=allow_undecided)
    candidates = read_verified(store, store.manifest(selected).inputs["verified"])
    for candidate in candidates.values():
        version = model_version(partition, candidate.exported)
        warehouse.record_gates(partition, version, candidate.gates, candidate=candidate.name)
    life = warehouse.life_as_of(partition)
    if selected.kind == NO_MODEL:
        return _reject_all(use_case, store, warehouse, partition, selected, candidates)

    chosen = candidates[store.manifest(selected).parameters["winner"]]
    judged = _judge(use_case, store, partition, training_set, selected, chosen, life)
    judged = replace(judged, outcome=_unless_overtaken(warehouse.decisions(), partition, judged))
    warehouse.record_gates(partition, judged.version, judged.gates, candidate=chosen.name)
    reason = _reason(store, selected, judged, undecided)
    files = _files(use_case, store, training_set, selected, candidates, judged, reason)
    ref = store.commit(
        use_case=use_case.name,
        step="register",
        partition=partition,
        kind="registration",
        files=files,
        inputs={"training_set": [training_set], "selected": [selected], **_asked(life)},
        parameters={"model_version": judged.version, "action": judged.outcome.action},
        metrics={**chosen.numbers, "action": judged.outcome.action},
        current=False,
    )
    made = Deployment(
        partition=partition,
        action=judged.outcome.action,
        role=judged.outcome.role,
        model_version=judged.version,
        model=selected,
        reason=reason,
        decided_by="register",
    )
    _record(use_case, store, warehouse, ref, made)
    _track(use_case, settings, store, partition, training_set, selected, candidates, judged, files)
    mirror_aliases(settings, use_case, warehouse.life_as_of(date.max))
    log.info(
        "%s %s: %s (%s) is %s: %s",
        use_case.name, partition, judged.version, chosen.name, judged.outcome.action, judged.outcome.why,
    )  # fmt: skip
    return ref


def _judge(
    use_case: UseCase,
    store: ArtifactStore,
    partition: date,
    training_set: ArtifactRef,
    selected: ArtifactRef,
    chosen: VerifiedCandidate,
    life: Life,
) -> _Judged:
    split = split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label)
    in_service = {"champion": life.champion, "fallback": life.fallback}
    rivals = [_rival(store, split, role, deployed) for role, deployed in in_service.items()]
    champion, holdout = rivals[0], chosen.verification["holdout"]
    slices = slices_gate(
        _scores(store, selected, split),
        champion.scores,
        split.holdout_labels,
        split.holdout,
        split.holdout[PARTITION].to_numpy(),
        use_case.slices,
        use_case.training.seed,
        rival=champion.model_version,
        absence=champion.absence,
    )
    gates = [*chosen.gates, *judge(holdout["auc"], holdout["log_loss"], rivals, use_case.promotion), slices]
    demanded = demands(use_case.risk)
    refused = refusals(gates, demanded.mandatory)
    return _Judged(
        version=model_version(partition, selected),
        candidate=chosen,
        rivals=rivals,
        gates=gates,
        refused=refused,
        outcome=outcome(life, refused, approval=demanded.approval),
        explanation=_explain(use_case, store, chosen.exported, split),
    )


def _unless_overtaken(decisions: Sequence[Deployment], partition: date, judged: _Judged) -> Outcome:
    """The outcome, or `shelved` if it came too late. What was recorded in time stands when it is run again."""
    made = judged.outcome
    if made.action not in ("shadow", "promoted"):
        return made
    said = [one for one in decisions if one.partition == partition and one.decided_by in TRAINING]
    if said and (said[-1].action, said[-1].model_version) == (made.action, judged.version):
        return made
    later = overtaken_by(decisions, partition)
    if later is None:
        return made
    return Outcome(
        "shelved",
        "challenger",
        f"it passed every mandatory gate, but came too late: {later.model_version} is {later.action} since "
        f"{later.partition}, and one model is on trial at a time",
    )


def _scores(store: ArtifactStore, model: ArtifactRef, split: TrainingSplit) -> Any:
    # One thread: how sums are split over threads shows in the last digits, and they are recorded.
    session = load_session(store.read(model, MODEL), threads=1)
    return score(session, Signature.from_json(store.read(model, SIGNATURE)), split.holdout)


def _rival(store: ArtifactStore, split: TrainingSplit, role: str, deployment: Deployment | None) -> Rival:
    """What a model in service answers for the holdout rows, or why it has no answers."""
    if deployment is None or deployment.model is None:
        return Rival(role, absence=f"there was no {role} as of this partition")
    try:
        answers = _scores(store, deployment.model, split)
    except FeatureContractError as error:
        reason = f"{deployment.model_version} cannot be asked about these rows: {error}"
        return Rival(role, deployment.model_version, absence=reason)
    metrics = evaluate(split.holdout_labels, answers)
    return Rival(role, deployment.model_version, metrics["log_loss"], metrics=metrics, scores=answers)


def _explain(use_case: UseCase, store: ArtifactStore, exported: ArtifactRef, split: TrainingSplit) -> Explanation:
    source = store.manifest(exported).inputs["fitted"][0]
    made_a_graph = MODEL in {entry.path for entry in store.manifest(source).files}
    fitted = FittedModel.from_bytes(
        store.read(source, FITTED_MODEL), store.read(source, MODEL) if made_a_graph else None
    )
    graph = store.read(exported, MODEL)
    return explain(fitted, graph, split.holdout, split.holdout_labels, seed=use_case.training.seed)


def _asked(life: Life) -> dict[str, list[ArtifactRef]]:
    """The models in service that were asked, by role."""
    in_service = {"champion": life.champion, "fallback": life.fallback}
    return {role: [made.model] for role, made in in_service.items() if made is not None and made.model is not None}


def _reason(store: ArtifactStore, selected: ArtifactRef, judged: _Judged, undecided: date | None) -> dict[str, Any]:
    """The numbers behind a deployment, JSON-safe."""
    selection = store.manifest(selected).metrics["selection"]
    reason: dict[str, Any] = {
        "why": judged.outcome.why,
        "winner": selection["winner"],
        "teacher": selection["teacher"],
        "holdout": judged.candidate.verification["holdout"],
        "candidates": selection["reasons"],
        "gates": {gate.gate: f"{gate.verdict}: {gate.reason}" for gate in judged.gates},
        "refused_by": [gate.gate for gate in judged.refused],
    }
    return reason | ({"went_on_without": undecided.isoformat()} if undecided else {})


def _files(
    use_case: UseCase,
    store: ArtifactStore,
    training_set: ArtifactRef,
    selected: ArtifactRef,
    candidates: Mapping[str, VerifiedCandidate],
    judged: _Judged,
    reason: Mapping[str, Any],
) -> dict[str, bytes]:
    demanded = demands(use_case.risk)
    registration = {
        **reason,
        "model_version": judged.version,
        "action": judged.outcome.action,
        "gates": [gate.model_dump() for gate in judged.gates],
        "demands": demanded.to_json(),
        "rivals": [
            {"role": r.role, "model_version": r.model_version, "holdout": r.metrics, "absence": r.absence}
            for r in judged.rivals
        ],
        "explanation": judged.explanation.to_json(),
    }
    about_teacher = reason["candidates"].get(reason["teacher"], "")
    records = model_card.Records(
        version=judged.version,
        outcome=judged.outcome,
        winner=judged.candidate.name,
        teacher=reason["teacher"],
        teacher_refused=about_teacher if about_teacher.startswith("refused") else "",
        chosen_because=reason["candidates"][judged.candidate.name],
        model=store.manifest(selected),
        training_set=store.manifest(training_set),
        card=store.read(selected, CARD),
        verification=judged.candidate.verification,
        metrics={name: candidate.numbers for name, candidate in candidates.items()},
        rivals=judged.rivals,
        gates=judged.gates,
        demands=demanded,
        explanation=judged.explanation,
    )
    return {
        REGISTRATION: canonical_json(registration),
        MODEL_CARD: model_card.render(use_case, records).encode(),
        **_pareto(use_case, store, selected, candidates),
    }


def _pareto(
    use_case: UseCase, store: ArtifactStore, selected: ArtifactRef, candidates: Mapping[str, VerifiedCandidate]
) -> dict[str, bytes]:
    """The report of all candidates, of which the chosen one may be none."""
    manifest = store.manifest(selected)
    selection = manifest.metrics["selection"]
    natives = [candidates[name].numbers for name in (selection["teacher"], *candidates) if name in candidates]
    native: Mapping[str, float] = next((numbers for numbers in natives if "native_rows_per_second" in numbers), {})
    return pareto_report.render(
        [candidate.record(use_case.risk) for candidate in candidates.values()],
        selection["reasons"],
        selection["winner"],
        selection["teacher"],
        use_case.compression,
        title=f"{use_case.title}: candidates of {manifest.partition}",
        native_rows_per_second=native.get("native_rows_per_second"),
        native_bytes=native.get("native_bytes"),
    )


def _reject_all(
    use_case: UseCase,
    store: ArtifactStore,
    warehouse: Warehouse,
    partition: date,
    selected: ArtifactRef,
    candidates: Mapping[str, VerifiedCandidate],
) -> ArtifactRef:
    """Record that no candidate of the partition may be chosen, and why."""
    reasons = store.manifest(selected).metrics["selection"]["reasons"]
    reason = {"why": "no candidate may be chosen", "winner": None, "candidates": reasons}
    title = f"{use_case.title}: no model of {partition}"
    files = {
        REGISTRATION: canonical_json({**reason, "model_version": NO_VERSION, "action": "rejected"}),
        MODEL_CARD: model_card.render_none(title, reasons).encode(),
        **_pareto(use_case, store, selected, candidates),
    }
    ref = store.commit(
        use_case=use_case.name,
        step="register",
        partition=partition,
        kind="registration",
        files=files,
        inputs={"selected": [selected]},
        parameters={"model_version": NO_VERSION, "action": "rejected"},
        metrics={"action": "rejected"},
        current=False,
    )
    made = Deployment(
        partition=partition,
        action="rejected",
        role="challenger",
        model_version=NO_VERSION,
        reason=reason,
        decided_by="register",
    )
    _record(use_case, store, warehouse, ref, made)
    log.info("%s %s: no candidate may be chosen: %s", use_case.name, partition, reasons)
    return ref


def _record(use_case: UseCase, store: ArtifactStore, warehouse: Warehouse, ref: ArtifactRef, made: Deployment) -> None:
    """Append the decision, and say in the store, too, what became of the partition's model."""
    why = str(made.reason["why"])
    try:
        if made.action == "promoted":
            warehouse.record_deployment(made, expected_champion=None)
        else:
            warehouse.record_deployment(made)
    except ChampionChanged as error:
        refused = Decision(status="rejected", ref=ref, reason=str(error))
        store.decide(use_case.name, "register", made.partition, refused)
        raise
    status = "rejected" if made.action == "rejected" else "published"
    decision = Decision(status=status, ref=ref, reason=why if made.action == "rejected" else "")
    store.decide(use_case.name, "register", made.partition, decision)


def _track(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    training_set: ArtifactRef,
    selected: ArtifactRef,
    candidates: Mapping[str, VerifiedCandidate],
    judged: _Judged,
    files: Mapping[str, bytes],
) -> None:
    parameters = {
        "winner": judged.candidate.name,
        "teacher": store.manifest(selected).parameters["teacher"],
        "training_set": training_set.uri,
        "train_rows": selected.rows,
        "holdout_rows": judged.candidate.verification["holdout"]["rows"],
        "seed": use_case.training.seed,
    }
    kept = {name: store.read(selected, name) for name in (SIGNATURE, CARD)}
    kept |= {name: files[name] for name in (MODEL_CARD, PARETO_PAGE)}
    record = TrainingRecord(
        partition=partition,
        model_version=judged.version,
        model_ref=selected,
        action=judged.outcome.action,
        parameters=parameters,
        metrics={name: candidate.numbers for name, candidate in candidates.items() if not candidate.not_applicable},
        model=store.read(selected, MODEL),
        files=kept,
    )
    log_training(settings, use_case, record)
