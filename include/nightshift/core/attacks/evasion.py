"""Evasion and back doors: scores that an attacker can lower.

Evasion is a greedy search over the declared changes, with nothing but scores (black box, as in Papernot et al. 2017,
"Practical black-box attacks against machine learning"). Changes that keep to what is feasible are declared, because a
small distance says little about tabular features (Ballet et al. 2019, "Imperceptible adversarial attacks on tabular
data").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nightshift.core.arrays import Float32s, Floats
from nightshift.core.inference.onnx_model import NUMERIC_INPUT, Feed, Signature
from nightshift.declare.policies import AttackPolicy, FeasibleChange
from nightshift.deployment import GateResult
from nightshift.documents.attack import LoweredScores

Scorer = Callable[[Feed], Floats]
"""Scores of a graph for its inputs by name."""


def evade(score: Scorer, feed: Feed, signature: Signature, changes: Sequence[FeasibleChange], most: int) -> Floats:
    """The lowest scores [n] found for rows with at most `most` of the changes, each of them made once at most.

    `feed`: the rows' inputs. In each round every row gets the change that lowers its score most, if any does.
    """
    numeric: Float32s = feed[NUMERIC_INPUT].copy()
    used = _usable(changes, signature)
    lowest, largest = _ranges(numeric)
    scores, made = score(feed), np.zeros((len(numeric), len(used)), dtype=np.bool_)
    for _ in range(min(most, len(used))):
        best, best_numeric, best_change = scores.copy(), numeric.copy(), np.full(len(numeric), -1)
        for number, (columns, offsets) in enumerate(used):
            for offset in offsets:
                moved = numeric.copy()
                moved[:, columns] += np.float32(offset)
                # A comparison with a missing value is False.
                inside = ((moved >= lowest) & (moved <= largest))[:, columns].all(axis=1)
                candidates = score({**feed, NUMERIC_INPUT: moved})
                better = inside & ~made[:, number] & (candidates < best)
                best[better], best_numeric[better], best_change[better] = candidates[better], moved[better], number
        rows = np.flatnonzero(best_change >= 0)
        if not len(rows):
            break
        scores, numeric = best, best_numeric
        made[rows, best_change[rows]] = True
    return scores


def lowered(before: Floats, after: Floats, threshold: float) -> LoweredScores:
    """The scores of the same rows before and after an attack [n], compared."""
    positive = before >= threshold
    return LoweredScores(
        rows=len(before),
        decisions=int(positive.sum()),
        evaded=int((after[positive] < threshold).sum()),
        mean_fall=float((before - after).mean()),
    )


def check_lowered(gate: str, what: str, result: LoweredScores, policy: AttackPolicy) -> GateResult:
    """Whether an attack (`what`) lowered scores and decisions within the policy.

    `observed`: the share of decisions that evaded, if there are enough of them, unless only the mean fall is too large.
    """
    share = result.evaded / result.decisions if result.decisions >= max(policy.least_decisions, 1) else None
    evaded = share is not None and share > policy.largest_evaded_share
    fell = result.mean_fall > policy.largest_fall
    few = "" if share is not None else f" (too few to evaluate: {policy.least_decisions} are needed)"
    reason = (
        f"{what}: {result.evaded} of {result.decisions} positive decisions become negative{few}, at most "
        f"{policy.largest_evaded_share:.0%} may; the score of {result.rows} rows falls by {result.mean_fall:.4f} on "
        f"average, at most {policy.largest_fall:g} is declared"
    )
    observed, bound = result.mean_fall, policy.largest_fall
    if share is not None and (evaded or not fell):
        observed, bound = share, policy.largest_evaded_share
    rule = "evaded" if evaded else "fall" if fell else ""
    return GateResult.evaluated(gate, rule, reason, observed=observed, bound=bound)


def _usable(
    changes: Sequence[FeasibleChange], signature: Signature
) -> list[tuple[npt.NDArray[np.int64], tuple[float, ...]]]:
    """Columns and offsets of the changes of features that the model reads."""
    columns = [
        np.array([signature.numeric.index(name) for name in change.features if name in signature.numeric], np.int64)
        for change in changes
    ]
    return [(found, change.offsets) for found, change in zip(columns, changes, strict=True) if len(found)]


def _ranges(numeric: Float32s) -> tuple[Float32s, Float32s]:
    """The smallest and the largest value of each column; [0, 0] of one without values."""
    empty = np.isnan(numeric).all(axis=0)
    filled = np.where(empty, np.float32(0), numeric)
    return np.nanmin(filled, axis=0), np.nanmax(filled, axis=0)
