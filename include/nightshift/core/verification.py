"""The results of the gates that a version is judged by: see `gates.VERSION_GATES`.

Nothing here raises because a version is bad: what a gate finds is its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nightshift.core.behaviour import calibration_bins, check_behaviour, observe_behaviour
from nightshift.core.change import check_change, check_feature_values, check_new_rows, reference_rows
from nightshift.core.compression.quantization import TOLERANCE as QUANTIZED_TOLERANCE
from nightshift.core.evaluation import evaluate, log_loss
from nightshift.core.leakage import check_leakage
from nightshift.core.models.version_parity import BATCH_ROWS, Compared, compare
from nightshift.core.onnx_model import Signature, ask_in_batches, feed_of, load_session, score
from nightshift.core.parity import Probes, probe_rows
from nightshift.core.slices import slice_metrics, worst_slice
from nightshift.core.stability import ROWS as BEHAVIOUR_ROWS
from nightshift.core.stability import check_stability, evenly, step_moves
from nightshift.core.training_split import PARTITION, TrainingSplit
from nightshift.deployment import GateResult
from nightshift.errors import FeatureContractError
from nightshift.usecase import UseCase

Floats = npt.NDArray[np.float64]

SMALL_BATCHES = ((1, 300), (37, 5_000), (512, 1_000_000))
"""Rows scored at once, and of at most how many rows, evenly spread."""


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


@dataclass(frozen=True)
class Replaced:
    """The version of the same spec that served before."""

    model_version: str
    model: bytes
    signature: Signature


@dataclass
class Subject:
    """A version and the rows it is judged on.

    `rows`: its training rows, with `partition` and `known_on`; `split`: those rows, the newest days held out;
    `holdout_scores`: of `split.holdout`, by the version that was fitted without them; `parity`: parity.json.
    """

    use_case: UseCase
    partition: date
    model: bytes
    signature: Signature
    rows: pa.Table
    split: TrainingSplit
    holdout_scores: Floats
    parity: Mapping[str, Any]
    quantized: bool = False
    replaced: Replaced | None = None

    @cached_property
    def probes(self) -> Probes:
        """All holdout rows, then strange ones."""
        return probe_rows(self.split.holdout, self.signature)

    @cached_property
    def feed(self) -> dict[str, Any]:
        """The probes as the graph's inputs by name."""
        return feed_of(self.probes.rows, self.signature)

    @cached_property
    def session(self) -> Any:
        """A session as in scoring."""
        return load_session(self.model)

    @cached_property
    def scores(self) -> Floats:
        """The graph's scores of the probes."""
        return ask_in_batches(self.session, self.feed, BATCH_ROWS)

    @property
    def bound(self) -> float:
        """How far two ways of scoring with this graph may be apart."""
        return QUANTIZED_TOLERANCE if self.quantized else self.use_case.training.parity_tolerance

    def compare(self, expected: Floats, scores: Floats, against: str, probes: Probes | None = None) -> Compared:
        """Two scores of each of the probes."""
        return compare(self.use_case, expected, scores, probes or self.probes, self.bound, against)


def runtime_gates(subject: Subject, answered: Sequence[Answered]) -> tuple[list[GateResult], dict[str, Any]]:
    """The gates `runtime`, `memory`, `latency`, `throughput`, and the largest difference of each version."""
    policy = subject.use_case.verification
    compared = {
        one.version: subject.compare(subject.scores, one.answers, f"onnxruntime {one.version} in a clean process")
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
        reason="; ".join(wrong)
        or f"onnxruntime {' and '.join(compared)} give {len(subject.scores)} rows the same scores",
    )
    costs = cost_gates(
        answered, policy.largest_memory_mb, policy.largest_single_row_p99_ms, policy.least_rows_per_second
    )
    return [runtime, *costs], {version: one.largest for version, one in compared.items()}


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


def parity_gates(subject: Subject) -> list[GateResult]:
    """The gates `parity_fitted` (from parity.json) and `parity_batch`."""
    fitted = [Compared(**one) for one in subject.parity["compared"]]
    splits = f"; compared at {subject.parity['splits']}"
    return [
        _parity_gate("parity_fitted", fitted, splits),
        _parity_gate("parity_batch", [_compare_batches(subject, rows, most) for rows, most in SMALL_BATCHES]),
    ]


def _compare_batches(subject: Subject, rows: int, most: int) -> Compared:
    chosen = evenly(len(subject.scores), most)
    feed = {name: values[chosen] for name, values in subject.feed.items()}
    size = "one row at a time" if rows == 1 else f"in batches of {rows}"
    scores = ask_in_batches(subject.session, feed, rows)
    return subject.compare(subject.scores[chosen], scores, f"itself {size}", subject.probes.take(chosen))


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


def quality_gates(subject: Subject) -> tuple[list[GateResult], dict[str, Any]]:
    """The gates `leakage`, `stability`, `behaviour`, `calibration` and `constant_rate`, and what they come from."""
    use_case, split, signature = subject.use_case, subject.split, subject.signature
    policy, labels, scores = use_case.verification, split.holdout_labels, subject.holdout_scores
    few = split.holdout.take(pa.array(evenly(split.holdout.num_rows, BEHAVIOUR_ROWS)))
    feed, training = feed_of(few, signature), feed_of(subject.rows, signature)

    def ask(given: dict[str, Any]) -> Floats:
        return ask_in_batches(subject.session, given, BATCH_ROWS)

    moves = step_moves(ask, feed, training["numeric"], signature, use_case.decision_threshold)
    observed = observe_behaviour(ask, feed, training, signature, policy.expectations)
    holdout = evaluate(labels, scores)
    days = split.holdout[PARTITION].to_numpy()
    slices = slice_metrics(split.holdout, labels, scores, use_case.slices, days, use_case.training.seed)
    constant = log_loss(labels, np.full(len(labels), float(split.train_labels.mean())))
    gates = [
        check_leakage(signature, use_case.features, split, policy.largest_single_feature_auc),
        check_stability(moves, policy),
        check_behaviour(observed, policy.expectations),
        GateResult(
            gate="calibration",
            verdict="not applicable",
            observed=holdout["calibration_error"],
            reason="measured before calibration, which comes after the graph; a spec is judged by it at promotion",
        ),
        GateResult(
            gate="constant_rate",
            verdict="pass" if holdout["log_loss"] <= constant else "fail",
            observed=holdout["log_loss"],
            bound=constant,
            reason=f"log loss on {len(labels)} holdout rows, against that of the constant rate of the rows before",
        ),
    ]
    return gates, {
        "holdout": holdout,
        "slices": slices,
        "worst_slice": worst_slice(slices),
        "stability": moves,
        "behaviour": observed,
        "calibration": calibration_bins(labels, scores),
    }


def change_gates(subject: Subject) -> list[GateResult]:
    """The gates `feature_values`, `new_rows` and `change`; the latter two need a version that is replaced."""
    policy, replaced = subject.use_case.change, subject.replaced
    reference = reference_rows(subject.rows, subject.partition, policy)
    features = check_feature_values(reference, subject.signature.numeric, policy)
    if replaced is None:
        return [features, *_without_replaced("the spec has no earlier version")]
    rows = reference.scored(policy.reference_rows)
    if rows.num_rows == 0:
        return [features, *_without_replaced("there are no rows of these days")]
    try:
        before = score(load_session(replaced.model), replaced.signature, rows)
    except FeatureContractError as error:
        return [features, *_without_replaced(f"{replaced.model_version} cannot score these rows: {error}")]
    labels = np.asarray(reference.newest[subject.split.label].to_numpy(), dtype=np.int64)
    newest = before[rows.num_rows - len(labels) :]
    after = score(subject.session, subject.signature, rows)
    return [
        features,
        check_new_rows(newest, labels, replaced.model_version, policy),
        check_change(after, before, replaced.model_version, policy),
    ]


def _without_replaced(reason: str) -> list[GateResult]:
    return [GateResult(gate=gate, verdict="not applicable", reason=reason) for gate in ("new_rows", "change")]


def _largest(compared: Any) -> float | None:
    return max((one.largest for one in compared if one.largest is not None), default=None)
