"""Evaluation of a version by every gate of GATES, and the measurements that the gates use.

Nothing here raises because of a fault of the version: that is a gate's result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa

from nightshift.core.arrays import Floats, evenly
from nightshift.core.compression.networks.quantization import TOLERANCE as QUANTIZED_TOLERANCE
from nightshift.core.evaluation import calibration_bins, evaluate, log_loss
from nightshift.core.gates.behaviour import check_behaviour, observe_behaviour
from nightshift.core.gates.change import (
    ReferenceRows,
    check_change,
    check_feature_values,
    check_new_rows,
    reference_rows,
)
from nightshift.core.gates.leakage import check_leakage
from nightshift.core.gates.parity import BATCH_ROWS, Probes, compare, probe_rows
from nightshift.core.gates.registry import Gate, RuntimeResult
from nightshift.core.gates.slices import slice_metrics, worst_slice
from nightshift.core.gates.stability import ROWS as BEHAVIOUR_ROWS
from nightshift.core.gates.stability import check_stability, step_moves
from nightshift.core.inference.onnx_model import (
    NUMERIC_INPUT,
    Feed,
    Signature,
    feed_of,
    load_session,
    score,
    score_in_batches,
)
from nightshift.core.models.training_split import PARTITION, TrainingSplit
from nightshift.declare.policies import VerificationPolicy
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.documents.train import Compared, HoldoutMetrics, ObservedBehaviour, Parity, StepMove, Verification
from nightshift.errors import FeatureContractError

SMALL_BATCHES = ((1, 300), (37, 5_000), (512, 1_000_000))
"""Rows scored at once, and of at most how many rows, evenly spread."""


@dataclass(frozen=True)
class Replaced:
    """The previous version of the same spec."""

    model_version: str
    model: bytes
    signature: Signature


@dataclass
class Subject:
    """A version and the rows it is evaluated on.

    `rows`: its training rows, with `partition` and `known_on`; `split`: those rows, the newest days held out;
    `holdout_scores`: of `split.holdout`, by a fit of the spec without them; `parity`: of graph and fitted model;
    `runtime_results`: results of clean processes that scored `feed`.
    """

    use_case: UseCase
    partition: date
    model: bytes
    signature: Signature
    rows: pa.Table
    split: TrainingSplit
    holdout_scores: Floats
    parity: Parity
    quantized: bool = False
    replaced: Replaced | None = None
    spec_id: str = ""
    runtime_results: Sequence[RuntimeResult] = field(default=(), init=False)

    @property
    def policy(self) -> VerificationPolicy:
        """The use case's verification policy."""
        return self.use_case.verification

    @cached_property
    def probes(self) -> Probes:
        """All holdout rows, then edge cases."""
        return probe_rows(self.split.holdout, self.signature)

    @cached_property
    def feed(self) -> Feed:
        """The probes as the graph's inputs by name."""
        return feed_of(self.probes.rows, self.signature)

    @cached_property
    def session(self) -> Any:
        """An onnxruntime session with the options used in production."""
        return load_session(self.model)

    @cached_property
    def scores(self) -> Floats:
        """The graph's scores of the probes."""
        return self.score(self.feed)

    def score(self, feed: Feed) -> Floats:
        """The graph's scores of inputs by name."""
        return score_in_batches(self.session, feed, BATCH_ROWS)

    @cached_property
    def unusable(self) -> dict[str, str]:
        """For each value of `Gate.needs`, why such gates cannot be evaluated; "" if they can."""
        failed = [one for one in self.runtime_results if one.scores is None]
        reason = improper = ""
        # A graph that crashes a clean process with this process's onnxruntime version must not be loaded here.
        if len(failed) == len(self.runtime_results) or onnxruntime.__version__ in [one.version for one in failed]:
            reason = f"it cannot be scored with: {failed[0].error}"
        elif not ((self.scores >= 0) & (self.scores <= 1)).all():
            improper = "it gives rows scores that are no probabilities"
        return {"runtimes": "", "scores": reason, "probabilities": reason or improper}

    @cached_property
    def runtimes(self) -> dict[str, Compared]:
        """The scores of each clean process compared with those of this one."""
        if self.unusable["scores"]:
            return {}
        return {
            one.version: self.compare(self.scores, one.scores, f"onnxruntime {one.version} in a clean process")
            for one in self.runtime_results
            if one.scores is not None
        }

    @property
    def bound(self) -> float:
        """The largest allowed difference between two ways of scoring with this graph."""
        return QUANTIZED_TOLERANCE if self.quantized else self.use_case.training.parity_tolerance

    def compare(self, expected: Floats, scores: Floats, against: str, probes: Probes | None = None) -> Compared:
        """Compare two scores of each of the probes; see `parity.compare`."""
        return compare(expected, scores, probes or self.probes, self.bound, against, self.use_case.key_columns)

    @cached_property
    def few(self) -> Feed:
        """The graph's inputs for some of the holdout rows."""
        positions = evenly(self.split.holdout.num_rows, BEHAVIOUR_ROWS)
        return feed_of(self.split.holdout.take(pa.array(positions)), self.signature)

    @cached_property
    def training(self) -> Feed:
        """The graph's inputs for the training rows."""
        return feed_of(self.rows, self.signature)

    @cached_property
    def moves(self) -> dict[str, StepMove]:
        """See `stability.step_moves`."""
        numeric, threshold = self.training[NUMERIC_INPUT], self.use_case.decision_threshold
        return step_moves(self.score, self.few, numeric, self.signature, threshold)

    @cached_property
    def observed(self) -> tuple[ObservedBehaviour, ...]:
        """See `behaviour.observe_behaviour`."""
        return observe_behaviour(self.score, self.few, self.training, self.signature, self.policy.expectations)

    @cached_property
    def holdout(self) -> HoldoutMetrics:
        """Metrics of the holdout scores."""
        return evaluate(self.split.holdout_labels, self.holdout_scores)

    @cached_property
    def reference(self) -> ReferenceRows:
        """The rows that versions are compared on."""
        return reference_rows(self.rows, self.partition, self.use_case.change)

    @cached_property
    def scored_before(self) -> tuple[pa.Table, Floats] | str:
        """Reference rows and their scores by the version that is replaced; or why there are none."""
        if self.replaced is None:
            return "the spec has no earlier version"
        rows = self.reference.scored(self.use_case.change.reference_rows)
        if rows.num_rows == 0:
            return "there are no rows of these days"
        try:
            return rows, score(load_session(self.replaced.model), self.replaced.signature, rows)
        except FeatureContractError as error:
            return f"{self.replaced.model_version} cannot score these rows: {error}"


@dataclass(frozen=True)
class EvaluatedGates:
    """The verification of a version, with every gate's result, and the metrics of its manifest."""

    verification: Verification
    metrics: Mapping[str, float]


def evaluate_gates(subject: Subject) -> EvaluatedGates:
    """Evaluate every gate on a version that clean processes have scored with (`subject.runtime_results`)."""
    unusable = subject.unusable
    rule = "not_scored" if unusable["scores"] else "no_probabilities"
    gates = tuple(
        GateResult.evaluated(gate.name, rule, f"not evaluated: {unusable[gate.needs]}")
        if unusable[gate.needs]
        else gate.check(subject)
        for gate in GATES
    )
    size = {"bytes": len(subject.model)}
    if reason := unusable["probabilities"]:
        return EvaluatedGates(Verification(spec_id=subject.spec_id, gates=gates, unusable=reason), size)
    labels, scores, use_case = subject.split.holdout_labels, subject.holdout_scores, subject.use_case
    days = subject.split.holdout[PARTITION].to_numpy()
    slices = slice_metrics(subject.split.holdout, labels, scores, use_case.slices, days)
    verification = Verification(
        spec_id=subject.spec_id,
        gates=gates,
        holdout=subject.holdout,
        slices=slices,
        worst_slice=worst_slice(slices),
        stability=subject.moves,
        behaviour=subject.observed,
        calibration=calibration_bins(labels, scores),
        parity=subject.parity,
        runtimes={version: one.largest for version, one in subject.runtimes.items()},
        bytes=len(subject.model),
    )
    # Costs are of the first declared onnxruntime version that returned scores.
    costs = next(one.costs for one in subject.runtime_results if one.scores is not None)
    names = ("rows_per_second", "single_row_p50_ms", "single_row_p99_ms", "peak_memory_mb", "load_ms")
    return EvaluatedGates(verification, {**dict(subject.holdout), **size, **{name: costs[name] for name in names}})


def _runtime(subject: Subject) -> GateResult:
    unscored = [_no_scores(one) for one in subject.runtime_results if one.scores is None]
    faults = unscored + [one.wrong for one in subject.runtimes.values() if one.wrong]
    rule = "no_scores" if unscored else "difference" if faults else ""
    reason = "; ".join(faults)
    reason = reason or f"onnxruntime {' and '.join(subject.runtimes)} give {len(subject.scores)} rows the same scores"
    largest = max((one.largest for one in subject.runtimes.values() if one.largest is not None), default=None)
    return GateResult.evaluated("runtime", rule, reason, observed=largest, bound=subject.bound)


def _memory(subject: Subject) -> GateResult:
    bound = subject.policy.largest_memory_mb
    result = _bounded("memory", subject, "peak_memory_mb", bound, "the process held {:.0f} MiB at once")
    if out_of_memory := [one.version for one in subject.runtime_results if one.out_of_memory]:
        reason = f"it ran out of memory with onnxruntime {', '.join(out_of_memory)}, at about twice the declared limit"
        result = result.model_copy(update={"verdict": "fail", "reason": reason, "code": "memory.exhausted"})
    return result


def _bounded(gate: str, subject: Subject, cost: str, bound: float, template: str, *, least: bool = False) -> GateResult:
    """Compare the worst cost of the clean processes with its bound; a process without a measurement fails."""
    unmeasured = [one for one in subject.runtime_results if cost not in one.costs]
    if unmeasured:
        reason = f"not measured: {_no_scores(unmeasured[0])}"
        return GateResult.evaluated(gate, "not_measured", reason, bound=bound)
    worst = (min if least else max)(subject.runtime_results, key=lambda one: one.costs[cost])
    observed = worst.costs[cost]
    good = observed >= bound if least else observed <= bound
    reason = f"{template.format(observed)} with onnxruntime {worst.version}"
    if not good:
        reason += f", {'at least' if least else 'at most'} {bound:g} is declared: take a smaller model"
    return GateResult.evaluated(gate, "" if good else "bound", reason, observed=observed, bound=bound)


def _no_scores(one: RuntimeResult) -> str:
    return f"onnxruntime {one.version} gave no answers in a clean process: {one.error}"


def _parity_fitted(subject: Subject) -> GateResult:
    return _parity("parity_fitted", subject.parity.compared, f"; compared at {subject.parity.splits}")


def _parity_batch(subject: Subject) -> GateResult:
    return _parity("parity_batch", [_compare_batches(subject, rows, most) for rows, most in SMALL_BATCHES])


def _compare_batches(subject: Subject, rows: int, most: int) -> Compared:
    chosen = evenly(len(subject.scores), most)
    feed = {name: values[chosen] for name, values in subject.feed.items()}
    size = "one row at a time" if rows == 1 else f"in batches of {rows}"
    scores = score_in_batches(subject.session, feed, rows)
    return subject.compare(subject.scores[chosen], scores, f"itself {size}", subject.probes.take(chosen))


def _parity(gate: str, compared: Sequence[Compared], also: str = "") -> GateResult:
    faults = [one for one in compared if one.wrong]
    shown = faults[0] if faults else max(compared, key=lambda one: one.largest or 0.0)
    reason = "; ".join(one.wrong for one in faults) or f"largest difference of any row against {shown.against}{also}"
    rule = "difference" if faults else ""
    return GateResult.evaluated(gate, rule, reason, observed=shown.largest, bound=shown.bound)


def _calibration(subject: Subject) -> GateResult:
    reason = "measured before calibration, which comes after the graph; a spec is evaluated by it at promotion"
    error = subject.holdout.calibration_error
    return GateResult.not_applicable("calibration", "at_promotion", reason, observed=error)


def _constant_rate(subject: Subject) -> GateResult:
    labels = subject.split.holdout_labels
    bound = log_loss(labels, np.full(len(labels), float(subject.split.train_labels.mean())))
    observed = subject.holdout.log_loss
    rule = "" if observed <= bound else "log_loss"
    reason = f"log loss on {len(labels)} holdout rows, against that of the constant rate of the rows before"
    return GateResult.evaluated("constant_rate", rule, reason, observed=observed, bound=bound)


def _new_rows(subject: Subject) -> GateResult:
    before = subject.scored_before
    if isinstance(before, str) or subject.replaced is None:
        return GateResult.not_applicable("new_rows", "not_compared", str(before))
    newest = np.asarray(subject.reference.newest[subject.split.label].to_numpy(), dtype=np.int64)
    scores = before[1][len(before[1]) - len(newest) :]
    return check_new_rows(scores, newest, subject.replaced.model_version, subject.use_case.change)


def _change(subject: Subject) -> GateResult:
    before = subject.scored_before
    if isinstance(before, str) or subject.replaced is None:
        return GateResult.not_applicable("change", "not_compared", str(before))
    rows, scores = before
    after = score(subject.session, subject.signature, rows)
    return check_change(after, scores, subject.replaced.model_version, subject.use_case.change)


def _latency(subject: Subject) -> GateResult:
    bound, template = subject.policy.largest_single_row_p99_ms, "one row in a hundred took {:.3g} ms"
    return _bounded("latency", subject, "single_row_p99_ms", bound, template)


def _throughput(subject: Subject) -> GateResult:
    bound, template = subject.policy.least_rows_per_second, "it answered {:.0f} rows a second"
    return _bounded("throughput", subject, "rows_per_second", bound, template, least=True)


GATES: tuple[Gate[Subject], ...] = (
    Gate("runtime", _runtime, always=True, needs="runtimes"),
    Gate("memory", _memory, timed=True, needs="runtimes"),
    Gate("latency", _latency, timed=True, needs="runtimes"),
    Gate("throughput", _throughput, timed=True, needs="runtimes"),
    Gate("parity_fitted", _parity_fitted, always=True, needs="scores"),
    Gate("parity_batch", _parity_batch, always=True, needs="scores"),
    Gate("leakage", lambda s: check_leakage(s.signature, s.use_case.features, s.split, s.policy), always=True),
    Gate("stability", lambda s: check_stability(s.moves, s.policy)),
    Gate("behaviour", lambda s: check_behaviour(s.observed, s.policy.expectations)),
    Gate("calibration", _calibration),
    Gate("constant_rate", _constant_rate, always=True),
    Gate("new_rows", _new_rows, always=True),
    Gate(
        "feature_values",
        lambda s: check_feature_values(s.reference, s.signature.numeric, s.use_case.change),
        always=True,
    ),
    Gate("change", _change, always=True),
)
"""The gates of every version. A new gate is a function of a Subject, and a line here."""

VERSION_GATES = tuple(gate.name for gate in GATES)
