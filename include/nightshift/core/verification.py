"""The verdicts of the gates that one exported candidate is held to by itself: see `gates.CANDIDATE_GATES`.

Nothing here raises because a model is bad: what a gate finds is its verdict.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nightshift.core.behaviour import calibration_bins, check_behaviour, check_calibration, observe_behaviour
from nightshift.core.compression.quantization import TOLERANCE as QUANTIZED_TOLERANCE
from nightshift.core.estimators import FittedModel
from nightshift.core.evaluation import evaluate
from nightshift.core.execution import DEFAULT_EXECUTION, Execution
from nightshift.core.gates import CANDIDATE_GATES
from nightshift.core.leakage import check_leakage
from nightshift.core.onnx_model import Signature, ask_in_batches, feed_of, load_session
from nightshift.core.parity import Probes, compare_answers, probe_rows
from nightshift.core.slices import slice_metrics, worst_slice
from nightshift.core.split_probes import SplitProbes, split_probes
from nightshift.core.stability import ROWS as BEHAVIOUR_ROWS
from nightshift.core.stability import check_stability, evenly, step_moves
from nightshift.core.training_split import PARTITION, TrainingSplit
from nightshift.deployment import GateResult
from nightshift.errors import ParityError
from nightshift.usecase import UseCase

Floats = npt.NDArray[np.float64]

BATCH_ROWS = DEFAULT_EXECUTION.batch_rows
SMALL_BATCHES = ((1, 300), (37, 5_000), (512, 1_000_000))
"""Rows asked for at once, and of at most how many rows, evenly spread."""

Timings = dict[str, float]


class Answered(Protocol):
    """What a clean process said: see `nightshift.io.runtimes.RuntimeAnswer`."""

    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def answers(self) -> Floats | None: ...  # noqa: D102
    @property
    def costs(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def error(self) -> str: ...  # noqa: D102
    @property
    def out_of_memory(self) -> bool: ...  # noqa: D102


@dataclass
class Subject:
    """An exported candidate and the rows it is asked about.

    `full_precision` is the graph that a quantized one was made from. `seconds` collects how long what took.
    """

    use_case: UseCase
    candidate: str
    model: bytes
    signature: Signature
    fitted: FittedModel
    split: TrainingSplit
    full_precision: bytes | None = None
    seconds: Timings = field(default_factory=dict)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the wall-clock seconds that the block takes to `seconds[what]`."""
        started = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - started

    @cached_property
    def splits(self) -> SplitProbes:
        """Rows at the splits of the fitted trees."""
        return split_probes(self.fitted, self.split.holdout)

    @cached_property
    def probes(self) -> Probes:
        """All holdout rows, then strange ones, then those at the splits."""
        with self.timed("probe rows"):
            strange = probe_rows(self.split.holdout, self.signature)
            return strange.followed_by(self.splits.rows, self.splits.strangeness)

    @cached_property
    def feed(self) -> dict[str, Any]:
        """The probes as the graph's inputs by name."""
        return feed_of(self.probes.rows, self.signature)

    @cached_property
    def session(self) -> Any:
        """The untuned session."""
        return load_session(self.model, execution=DEFAULT_EXECUTION)

    @cached_property
    def answers(self) -> Floats:
        """The untuned session's answers to the probes."""
        return ask_in_batches(self.session, self.feed, BATCH_ROWS)

    @property
    def holdout_scores(self) -> Floats:
        """Those of the answers that are of holdout rows."""
        return self.answers[: self.split.holdout.num_rows]

    @property
    def bound(self) -> float:
        """How far two ways of asking this graph may be apart."""
        return QUANTIZED_TOLERANCE if self.full_precision else self.use_case.training.parity_tolerance

    def compare(
        self, expected: Floats, answered: Floats, bound: float, against: str, probes: Probes | None = None
    ) -> Compared:
        """Two answers to the probes."""
        key = tuple(column.name for column in self.use_case.prediction_key)
        what = f"{self.use_case.name} {self.candidate} against {against}"
        try:
            largest = compare_answers(expected, answered, probes or self.probes, bound, what=what, key=key)
        except ParityError as error:
            same_shape = expected.shape == answered.shape
            found = float(np.max(np.nan_to_num(np.abs(expected - answered), nan=1.0))) if same_shape else None
            return Compared(against, found, bound, str(error))
        return Compared(against, largest, bound)


@dataclass(frozen=True)
class Compared:
    """One comparison: the largest difference of two answers, the bound, and what was wrong ("": nothing)."""

    against: str
    largest: float | None
    bound: float
    wrong: str = ""

    def to_json(self) -> dict[str, float | None]:
        """For verification.json."""
        return {"largest_difference": self.largest, "bound": self.bound}


def runtime_gates(subject: Subject, answered: Sequence[Answered]) -> tuple[list[GateResult], dict[str, Any]]:
    """The gates `runtime`, `memory`, `latency`, `throughput`, and the largest difference of each version."""
    policy = subject.use_case.verification
    compared = {
        one.version: subject.compare(
            subject.answers, one.answers, subject.bound, f"onnxruntime {one.version} in a clean process"
        )
        for one in answered
        if one.answers is not None
    }
    wrong = [_silent(one) for one in answered if one.answers is None]
    wrong += [one.wrong for one in compared.values() if one.wrong]
    runtime = GateResult(
        gate="runtime",
        verdict="fail" if wrong else "pass",
        observed=_largest(compared.values()),
        bound=subject.bound,
        reason="; ".join(wrong) or f"onnxruntime {' and '.join(compared)} answer {len(subject.answers)} rows alike",
    )
    costs = cost_gates(
        answered, policy.largest_memory_mb, policy.largest_single_row_p99_ms, policy.least_rows_per_second
    )
    return [runtime, *costs], {version: one.to_json() for version, one in compared.items()}


def cost_gates(
    answered: Sequence[Answered], largest_memory_mb: float, largest_p99_ms: float, least_rows_per_second: float
) -> list[GateResult]:
    """Memory, latency and throughput of the worst of the clean processes; a process without a number fails."""
    memory = _bounded("memory", answered, "peak_memory_mb", largest_memory_mb, "the process held {:.0f} MiB at once")
    if refused := [one.version for one in answered if one.out_of_memory]:
        reason = f"it was refused memory with onnxruntime {', '.join(refused)}, at about twice the declared limit"
        memory = memory.model_copy(update={"verdict": "fail", "reason": reason})
    latency = _bounded("latency", answered, "single_row_p99_ms", largest_p99_ms, "one row in a hundred took {:.3g} ms")
    throughput = _bounded(
        "throughput", answered, "rows_per_second", least_rows_per_second, "it answered {:.0f} rows a second", least=True
    )
    return [memory, latency, throughput]


def _bounded(
    gate: str, answered: Sequence[Answered], cost: str, bound: float, says: str, *, least: bool = False
) -> GateResult:
    unmeasured = [one for one in answered if cost not in one.costs]
    if unmeasured:
        reason = f"not measured: {_silent(unmeasured[0])}"
        return GateResult(gate=gate, verdict="fail", bound=bound, reason=reason)
    worst = (min if least else max)(answered, key=lambda one: one.costs[cost])
    observed = worst.costs[cost]
    good = observed >= bound if least else observed <= bound
    reason = f"{says.format(observed)} with onnxruntime {worst.version}"
    if not good:
        reason += f", {'at least' if least else 'at most'} {bound:g} is declared: take a smaller model"
    return GateResult(gate=gate, verdict="pass" if good else "fail", observed=observed, bound=bound, reason=reason)


def _silent(one: Answered) -> str:
    return f"onnxruntime {one.version} gave no answers in a clean process: {one.error}"


def parity_gates(subject: Subject, execution: Execution) -> tuple[list[GateResult], dict[str, Any]]:
    """The gates `parity_fitted`, `parity_tuned`, `parity_batch`, and what was compared."""
    tolerance = subject.use_case.training.parity_tolerance
    with subject.timed("parity_fitted"):
        expected = subject.fitted.probability(subject.probes.rows)
        against_fitted = [subject.compare(expected, subject.answers, tolerance, "fitted")]
        if subject.full_precision:
            given = ask_in_batches(load_session(subject.full_precision), subject.feed, BATCH_ROWS)
            against_fitted = [
                subject.compare(expected, given, tolerance, "fitted, in full precision"),
                subject.compare(given, subject.answers, QUANTIZED_TOLERANCE, "full precision"),
            ]
    with subject.timed("parity_tuned"):
        session = load_session(subject.model, execution=execution)
        tuned = subject.compare(
            subject.answers, ask_in_batches(session, subject.feed, execution.batch_rows), 0.0, "itself, tuned"
        )
    with subject.timed("parity_batch"):
        batches = [_compare_batches(subject, rows, most) for rows, most in SMALL_BATCHES]
    gates = [_parity_gate("parity_fitted", against_fitted, f"; asked at {subject.splits.coverage}")]
    gates += [_parity_gate("parity_tuned", [tuned]), _parity_gate("parity_batch", batches)]
    found: dict[str, Any] = {"probes": len(subject.answers), "splits": subject.splits.coverage}
    found |= {one.against: one.to_json() for one in (*against_fitted, tuned, *batches)}
    return gates, found


def _compare_batches(subject: Subject, rows: int, most: int) -> Compared:
    chosen = evenly(len(subject.answers), most)
    feed = {name: values[chosen] for name, values in subject.feed.items()}
    answered = ask_in_batches(subject.session, feed, rows)
    size = "one row at a time" if rows == 1 else f"in batches of {rows}"
    return subject.compare(
        subject.answers[chosen], answered, subject.bound, f"itself {size}", subject.probes.take(chosen)
    )


def _parity_gate(gate: str, compared: Sequence[Compared], also: str = "") -> GateResult:
    wrong = [one for one in compared if one.wrong]
    shown = wrong[0] if wrong else max(compared, key=lambda one: one.largest or 0.0)
    return GateResult(
        gate=gate,
        verdict="fail" if wrong else "pass",
        observed=shown.largest,
        bound=shown.bound,
        reason="; ".join(one.wrong for one in wrong) or f"largest difference of any row against {shown.against}{also}",
    )


def quality_gates(subject: Subject, teacher: Floats) -> tuple[list[GateResult], dict[str, Any]]:
    """The gates `leakage`, `stability`, `behaviour`, `calibration`, and the parts of verification.json they come from.

    `teacher` has the teacher's probabilities for the holdout rows.
    """
    use_case, split, signature = subject.use_case, subject.split, subject.signature
    policy, labels, scores = use_case.verification, split.holdout_labels, subject.holdout_scores
    with subject.timed("leakage"):
        leakage = check_leakage(signature, use_case.features, split, policy.largest_single_feature_auc)
    few = split.holdout.take(pa.array(evenly(split.holdout.num_rows, BEHAVIOUR_ROWS)))
    feed, training = feed_of(few, signature), feed_of(split.train, signature)

    def ask(given: dict[str, Any]) -> Floats:
        return ask_in_batches(subject.session, given, BATCH_ROWS)

    with subject.timed("stability"):
        moves = step_moves(ask, feed, training["numeric"], signature, use_case.decision_threshold)
    with subject.timed("behaviour"):
        observed = observe_behaviour(ask, feed, training, signature, policy.expectations)
    holdout = evaluate(labels, scores)
    with subject.timed("slices"):
        days = split.holdout[PARTITION].to_numpy()
        slices = slice_metrics(split.holdout, labels, scores, use_case.slices, days, use_case.training.seed)
    gates = [
        leakage,
        check_stability(moves, policy),
        check_behaviour(observed, policy.expectations),
        check_calibration(holdout["calibration_error"], policy.largest_calibration_error),
    ]
    return gates, {
        "holdout": holdout,
        "slices": slices,
        "worst_slice": worst_slice(slices),
        "disagreement": disagreement(teacher, scores, use_case.decision_threshold),
        "stability": moves,
        "behaviour": observed,
        "calibration": calibration_bins(labels, scores),
    }


def disagreement(teacher: Floats, scores: Floats, threshold: float) -> dict[str, float]:
    """How far scores are from the teacher's for the same rows, and the share of rows whose decision differs."""
    difference = np.abs(scores - teacher)
    return {
        "mean": float(difference.mean()),
        "p99": float(np.percentile(difference, 99)),
        "largest": float(difference.max()),
        "decisions": float(((scores >= threshold) != (teacher >= threshold)).mean()),
    }


def complete(results: Sequence[GateResult], verdict: Any, reason: str) -> list[GateResult]:
    """A verdict for each of CANDIDATE_GATES, in that order: those given, and `verdict` with `reason` for the others."""
    known = {result.gate: result for result in results}
    return [known.get(gate) or GateResult(gate=gate, verdict=verdict, reason=reason) for gate in CANDIDATE_GATES]


def _largest(compared: Any) -> float | None:
    return max((one.largest for one in compared if one.largest is not None), default=None)
