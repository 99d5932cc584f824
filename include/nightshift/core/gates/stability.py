"""Stability: the change of the score for a one-step change of a feature, as between two measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nightshift.core.arrays import Float32s, Floats
from nightshift.core.inference.onnx_model import NUMERIC_INPUT, Feed, Signature
from nightshift.declare.policies import VerificationPolicy
from nightshift.deployment import GateResult
from nightshift.documents.train import StepMove

Scorer = Callable[[Feed], Floats]
"""Scores of a graph for its inputs by name."""

GATE = "stability"
ROWS = 1000
FEW_VALUES = 20
STEPS = 10


def stepped(values: Float32s, training: Float32s) -> tuple[Float32s, Float32s]:
    """The values one step lower and one step higher; missing stays missing.

    A feature with at most FEW_VALUES distinct training values steps to the next of them (or stays if there is
    none). Any other steps by a tenth of the training values' interquartile range, or if that is 0, of the range
    from the 5th to the 95th percentile, or if that is 0, too, of the standard deviation.
    """
    present = training[~np.isnan(training)]
    if len(present) == 0:
        return values, values
    different = np.unique(present)
    if len(different) <= FEW_VALUES:
        last = len(different) - 1
        lower = different[np.clip(np.searchsorted(different, values, side="left") - 1, 0, last)]
        higher = different[np.clip(np.searchsorted(different, values, side="right"), 0, last)]
        absent = np.isnan(values)
        # Beyond the training values there is no next one.
        lower, higher = np.minimum(lower, values), np.maximum(higher, values)
        return np.where(absent, values, lower), np.where(absent, values, higher)
    p5, p25, p75, p95 = np.percentile(present.astype(np.float64), [5, 25, 75, 95])
    step = np.float32((p75 - p25 or p95 - p5 or present.std()) / STEPS)
    return values - step, values + step


def step_moves(
    scorer: Scorer, feed: Feed, training: Float32s, signature: Signature, threshold: float
) -> dict[str, StepMove]:
    """For each numeric feature: the 99th percentile over rows and both directions of the score's change
    for one step, and the share of rows whose decision at `threshold` either step changes.

    `scorer` scores inputs by name, `feed` holds the rows' inputs, `training` the training rows' numeric matrix.
    """
    scores = scorer(feed)
    both = {name: np.concatenate([values, values]) for name, values in feed.items()}
    moves = {}
    for position, name in enumerate(signature.numeric):
        numeric = both[NUMERIC_INPUT].copy()
        lower, higher = stepped(feed[NUMERIC_INPUT][:, position], training[:, position])
        numeric[:, position] = np.concatenate([lower, higher])
        stepped_scores = scorer({**both, NUMERIC_INPUT: numeric}).reshape(2, -1)
        flips = ((stepped_scores >= threshold) != (scores >= threshold)).any(axis=0)
        p99 = float(np.percentile(np.abs(stepped_scores - scores), 99))
        moves[name] = StepMove(p99=p99, flips=float(flips.mean()))
    return moves


def check_stability(moves: Mapping[str, StepMove], policy: VerificationPolicy) -> GateResult:
    """Whether every feature's step changes scores and flips decisions within the policy. `observed`: the largest p99.

    `moves` is what `step_moves` returns.
    """
    if not moves:
        return GateResult.not_applicable(GATE, "no_numbers", "the model reads no number")
    # NaN counts as infinite.
    p99, flips = (
        {name: float(np.nan_to_num(value, nan=np.inf)) for name, value in values.items()}
        for values in ({n: one.p99 for n, one in moves.items()}, {n: one.flips for n, one in moves.items()})
    )
    furthest = max(p99, key=lambda name: (p99[name], name))
    most_flips = max(flips, key=lambda name: (flips[name], name))
    reasons = {}
    if p99[furthest] > policy.largest_step_move:
        far = _named(p99, policy.largest_step_move, "{:.3f}")
        reasons["step"] = f"one step moves the score of one row in a hundred by more than the bound: {far}"
    if flips[most_flips] > policy.largest_flip_share:
        often = _named(flips, policy.largest_flip_share, "{:.1%}")
        reasons["flips"] = f"one step changes more than {policy.largest_flip_share:.1%} of all decisions: {often}"
    passed = (
        f"the furthest a step moves the score (99th percentile) is with {furthest}; "
        f"at most {flips[most_flips]:.1%} of decisions change, with {most_flips}"
    )
    reason = "; ".join(reasons.values()) or passed
    bound = policy.largest_step_move
    return GateResult.evaluated(GATE, next(iter(reasons), ""), reason, observed=p99[furthest], bound=bound)


def _named(values: Mapping[str, float], bound: float, shown: str) -> str:
    beyond = sorted((-value, name) for name, value in values.items() if value > bound)
    return ", ".join(f"{name} {shown.format(-value)}" for value, name in beyond[:5])
