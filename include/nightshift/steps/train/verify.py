"""Hold one exported candidate to every gate it can pass or fail by itself, and measure it.

Artifact (variant: the candidate): `verification.json` with the verdicts, and what they come from. Verdicts that
rest on a clock or on memory, and all costs, differ from run to run: they are in the manifest's metrics, where
`gates` has every verdict, and no part of the artifact's identity. The first verification of the same graph on the
same rows is the one that stays on record.

A candidate that is refused is a result, not an error: `select_model` leaves it out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import onnxruntime

from nightshift.artifact import ArtifactRef, canonical_json, sha256_hex
from nightshift.core.estimators import FITTED_MODEL, HOLDOUT_METRICS, FittedModel
from nightshift.core.execution import Execution, tune
from nightshift.core.measurement import measure_native
from nightshift.core.model_package import FULL_PRECISION, MODEL, SIGNATURE
from nightshift.core.onnx_model import Signature
from nightshift.core.training_split import TRAINING_SET, split_training_set
from nightshift.core.verification import (
    BATCH_ROWS,
    Floats,
    Subject,
    complete,
    cost_gates,
    parity_gates,
    quality_gates,
    runtime_gates,
)
from nightshift.deployment import GateResult
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.execution_cache import remember_execution, remembered_execution
from nightshift.io.runtimes import RuntimeAnswer, ask_runtime, probe_inputs, require_runtimes
from nightshift.policies import VerificationPolicy
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

VERIFICATION = "verification.json"
NOT_APPLICABLE = "not_applicable"
REASON_FILE = "not_applicable.json"
TIMED_GATES = ("memory", "latency", "throughput")
PATIENCE = 4.0
"""A clean process may take this many times as long as the declared rows per second need."""


@dataclass(frozen=True)
class Tuned:
    """How a graph is executed best, and what the manifest says about how that was found."""

    execution: Execution
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """verification.json, the manifest's metrics, and a verdict of each gate."""

    verification: Mapping[str, Any]
    metrics: Mapping[str, Any]
    gates: list[GateResult]


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    training_set: ArtifactRef,
    fitted: Sequence[ArtifactRef],
    exports: Sequence[ArtifactRef],
    candidate: str,
) -> ArtifactRef:
    """Commit the verification of one candidate. `fitted` are all artifacts of `fit`, `exports` all of `export`.

    Raises ConfigurationError if the candidate was not exported, or a clean environment is missing; a graph that
    fails does not raise.
    """
    exported = next((ref for ref in exports if store.manifest(ref).variant == candidate), None)
    if exported is None:
        raise ConfigurationError(f"{use_case.name}: {candidate} was not exported for {partition}; run `export` for it.")
    policy = use_case.verification
    verification: Mapping[str, Any]
    metrics: dict[str, Any]
    if exported.kind == NOT_APPLICABLE:
        reason = json.loads(store.read(exported, REASON_FILE))["reason"]
        gates = complete([], "not applicable", reason)
        verification, metrics = {"candidate": candidate, NOT_APPLICABLE: reason}, {}
        inputs, rows = {"exported": [exported]}, 0
    else:
        require_runtimes(policy.onnxruntime_versions)
        subject = _subject(use_case, store, training_set, exported, candidate)
        best = _teacher(store, fitted)
        judged = judge(
            subject,
            lambda: _tuned(subject, settings, store),
            lambda: FittedModel.from_bytes(store.read(best, FITTED_MODEL)).probability(subject.split.holdout),
        )
        verification, metrics, gates = judged.verification, dict(judged.metrics), judged.gates
        if exported_from(store, exported) in fitted:
            metrics |= measure_native(subject.fitted, subject.split.holdout)
        inputs = {"training_set": [training_set], "exported": [exported], "teacher": [best]}
        rows = subject.split.holdout.num_rows
    refused = [f"{result.gate}: {result.reason}" for result in gates if result.verdict == "fail"]
    log.info("%s %s %s: %s", use_case.name, partition, candidate, "; ".join(refused) or "every gate passed")
    return store.commit(
        use_case=use_case.name,
        step="verify",
        partition=partition,
        variant=candidate,
        kind="verification",
        files={VERIFICATION: canonical_json(verification)},
        inputs=inputs,
        parameters={
            "candidate": candidate,
            "parity_tolerance": use_case.training.parity_tolerance,
            "decision_threshold": use_case.decision_threshold,
            "verification": asdict(policy),
            "slices": asdict(use_case.slices),
        },
        metrics={**metrics, "gates": [result.model_dump() for result in gates]},
        rows=rows,
    )


def exported_from(store: ArtifactStore, exported: ArtifactRef) -> ArtifactRef:
    """The fitted or compressed model that a graph was exported from."""
    return store.manifest(exported).inputs["fitted"][0]


def _subject(
    use_case: UseCase, store: ArtifactStore, training_set: ArtifactRef, exported: ArtifactRef, candidate: str
) -> Subject:
    files = {entry.path for entry in store.manifest(exported).files}
    return Subject(
        use_case,
        candidate,
        model=store.read(exported, MODEL),
        signature=Signature.from_json(store.read(exported, SIGNATURE)),
        fitted=FittedModel.from_bytes(store.read(exported_from(store, exported), FITTED_MODEL)),
        split=split_training_set(store.read_table(training_set, TRAINING_SET), use_case.label),
        full_precision=store.read(exported, FULL_PRECISION) if FULL_PRECISION in files else None,
    )


def _teacher(store: ArtifactStore, fitted: Sequence[ArtifactRef]) -> ArtifactRef:
    losses = {ref: json.loads(store.read(ref, HOLDOUT_METRICS))["log_loss"] for ref in fitted}
    return min(losses, key=lambda ref: (losses[ref], ref.sha256))


def judge(subject: Subject, execution: Callable[[], Tuned], teacher: Callable[[], Floats]) -> Judged:
    """Every verdict on a candidate. `execution` is asked how the graph is executed best, once it is known that it can
    be; `teacher` for the teacher's probabilities for the holdout rows.

    Raises ConfigurationError if a clean environment is missing or is none.
    """
    answered = _ask_runtimes(subject)
    silent = [one for one in answered if one.answers is None]
    # A graph that breaks this process's onnxruntime in a clean process must not be loaded in this one.
    if len(silent) == len(answered) or onnxruntime.__version__ in [one.version for one in silent]:
        return _unusable(subject, answered, [], f"it cannot be asked: {silent[0].error}")
    with subject.timed("runtime"):
        gates, runtimes = runtime_gates(subject, answered)
    with subject.timed("tuning"):
        tuned = execution()
    more, parity = parity_gates(subject, tuned.execution)
    gates += more
    scores = subject.holdout_scores
    if not ((scores >= 0) & (scores <= 1)).all():
        return _unusable(subject, answered, gates, "it answers holdout rows with what is no probability")
    with subject.timed("disagreement"):
        expected = teacher()
    more, found = quality_gates(subject, expected)
    gates = complete([*gates, *more], "fail", "it was not asked, which is a refusal")
    verification = {
        "candidate": subject.candidate,
        "gates": [result.model_dump() for result in gates if result.gate not in TIMED_GATES],
        **found,
        "parity": parity | {"runtimes": runtimes},
        "bytes": len(subject.model),
    }
    metrics = {
        **found["holdout"],
        "bytes": len(subject.model),
        **_costs(answered),
        "execution": tuned.report,
        "seconds": {name: round(seconds, 3) for name, seconds in subject.seconds.items()},
    }
    return Judged(verification, metrics, gates)


def _ask_runtimes(subject: Subject) -> list[RuntimeAnswer]:
    policy = subject.use_case.verification
    allowed = PATIENCE * (len(subject.probes.strangeness) + 8 * BATCH_ROWS) / policy.least_rows_per_second
    with subject.timed("runtime"), probe_inputs(subject.feed) as inputs:

        def ask(version: str) -> RuntimeAnswer:
            return ask_runtime(
                version,
                subject.model,
                inputs,
                batch_rows=BATCH_ROWS,
                memory_mb=policy.largest_memory_mb,
                seconds=allowed,
                cost_rows=subject.split.holdout.num_rows,
            )

        return [_asked_twice_if_slow(ask, version, policy) for version in policy.onnxruntime_versions]


def _asked_twice_if_slow(
    ask: Callable[[str], RuntimeAnswer], version: str, policy: VerificationPolicy
) -> RuntimeAnswer:
    """What a version said, asked again if it was too slow: a verdict stays on record, and a neighbour on the same
    cores may have been the reason."""
    first = ask(version)
    timed = cost_gates(
        [first], policy.largest_memory_mb, policy.largest_single_row_p99_ms, policy.least_rows_per_second
    )
    slow = any(gate.verdict == "fail" for gate in timed if gate.gate != "memory")
    if not first.too_slow and (first.answers is None or not slow):
        return first
    second = ask(version)
    if first.answers is None or second.answers is None:
        return first if second.answers is None else second
    best = {name: max if name == "rows_per_second" else min for name in second.costs}
    return replace(second, costs={name: best[name](first.costs[name], second.costs[name]) for name in second.costs})


def _unusable(subject: Subject, answered: Sequence[RuntimeAnswer], gates: Sequence[GateResult], reason: str) -> Judged:
    """The result for a graph that cannot be judged any further."""
    policy = subject.use_case.verification
    if not gates:
        why = "; ".join(f"onnxruntime {one.version}: {one.error}" for one in answered if one.answers is None)
        gates = [
            GateResult(gate="runtime", verdict="fail", reason=f"it gave no answers in a clean process with {why}"),
            *cost_gates(
                answered, policy.largest_memory_mb, policy.largest_single_row_p99_ms, policy.least_rows_per_second
            ),
        ]
    gates = complete(gates, "fail", f"not asked: {reason}")
    kept = [result.model_dump() for result in gates if result.gate not in TIMED_GATES]
    verification = {"candidate": subject.candidate, NOT_APPLICABLE: reason, "gates": kept}
    return Judged(verification, {"bytes": len(subject.model)}, list(gates))


def _tuned(subject: Subject, settings: Settings, store: ArtifactStore) -> Tuned:
    """Found anew only where nothing is remembered for this graph on this machine."""
    model, name = sha256_hex(subject.model), subject.use_case.name
    remembered = remembered_execution(store, name, model)
    if remembered is not None:
        report = {**remembered.execution.to_json(), "gained": remembered.gained, "remembered": True}
        return Tuned(remembered.execution, report)
    tuning = tune(subject.model, subject.signature, subject.split.holdout, most_threads=settings.threads)
    remember_execution(store, name, model, tuning.execution, tuning.gained)
    return Tuned(tuning.execution, {**tuning.to_json(), "remembered": False})


def _costs(answered: Sequence[RuntimeAnswer]) -> Mapping[str, float]:
    """The record that candidates are compared by: of the first declared version that answered."""
    costs = next(one.costs for one in answered if one.answers is not None)
    names = ("rows_per_second", "single_row_p50_ms", "single_row_p99_ms", "peak_memory_mb", "load_ms")
    return {name: costs[name] for name in names}
