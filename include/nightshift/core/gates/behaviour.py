"""Does a model behave as its use case knows it must: up with one feature, down with another, deaf to a third?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.core.arrays import Floats
from nightshift.core.gates.stability import Ask, Feed
from nightshift.core.inference.onnx_model import CATEGORICAL_INPUT, NUMERIC_INPUT, Signature
from nightshift.declare.policies import BehaviourExpectation
from nightshift.deployment import GateResult
from nightshift.errors import ConfigurationError

GATE = "behaviour"
PERCENTILES = (5.0, 27.5, 50.0, 72.5, 95.0)
MOST_CATEGORIES = 10


def observe_behaviour(
    ask: Ask, feed: Feed, training: Feed, signature: Signature, expectations: tuple[BehaviourExpectation, ...]
) -> list[dict[str, Any]]:
    """What each expectation shows: feature, direction, `share` of rows that go against it by more than its
    tolerance, and the `worst` move against it.

    A numeric feature is set to its training percentiles from the 5th to the 95th, a categorical one to
    its most frequent training categories. A feature that the model does not read moves nothing.
    Raises ConfigurationError for a direction that a category cannot have.
    """
    return [_observe(ask, feed, training, signature, expected) for expected in expectations]


def _observe(
    ask: Ask, feed: Feed, training: Feed, signature: Signature, expected: BehaviourExpectation
) -> dict[str, Any]:
    curve = _curve(ask, feed, training, signature, expected)
    if expected.direction == "invariant":
        against = curve.max(axis=0) - curve.min(axis=0)
    else:
        against = (curve[0] - curve[-1]) * (1 if expected.direction == "increasing" else -1)
    return {
        "feature": expected.feature,
        "direction": expected.direction,
        "share": float((~(against <= expected.tolerance)).mean()),
        "worst": float(max(np.nan_to_num(against, nan=1.0).max(), 0.0)),
        "read": expected.feature in (*signature.numeric, *signature.categorical),
    }


def _curve(ask: Ask, feed: Feed, training: Feed, signature: Signature, expected: BehaviourExpectation) -> Floats:
    """Scores [values, rows] with the feature set to each of its values in turn."""
    rows = len(feed[NUMERIC_INPUT])
    if expected.feature in signature.numeric:
        given, position = NUMERIC_INPUT, signature.numeric.index(expected.feature)
        known = training[given][:, position]
        known = known[~np.isnan(known)]
        values: npt.NDArray[Any] = np.percentile(known, PERCENTILES).astype(np.float32) if len(known) else known
    elif expected.feature in signature.categorical:
        if expected.direction != "invariant":
            raise ConfigurationError(
                f"The expectation {expected.direction!r} for {expected.feature!r} makes no sense: it is a category. "
                "Declare it invariant, or take the expectation out of the use case's verification policy."
            )
        given, position = CATEGORICAL_INPUT, signature.categorical.index(expected.feature)
        categories, counts = np.unique(training[given][:, position].astype(str), return_counts=True)
        values = categories[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]].astype(object)
    else:
        return np.zeros((1, rows))
    if len(values) == 0:
        return np.zeros((1, rows))
    curve = []
    for value in values:
        changed = feed[given].copy()
        changed[:, position] = value
        curve.append(ask({**feed, given: changed}))
    return np.stack(curve)


def check_behaviour(observed: list[dict[str, Any]], expectations: tuple[BehaviourExpectation, ...]) -> GateResult:
    """Whether every declared expectation holds. `observed` of the result is the share that is worst for its bound."""
    if not expectations:
        return GateResult(gate=GATE, verdict="not applicable", reason="the use case declares no expectations")
    pairs = [(found, one) for found, one in zip(observed, expectations, strict=True) if found["read"]]
    if not pairs:
        reason = f"the model reads none of the features that {len(expectations)} expectations are about"
        return GateResult(gate=GATE, verdict="not applicable", reason=reason)
    unread = [one.feature for found, one in zip(observed, expectations, strict=True) if not found["read"]]
    worst, its = max(pairs, key=lambda pair: pair[0]["share"] - pair[1].largest_share)
    broken = [
        f"{expected.feature} should be {expected.direction} ({expected.reason}), but {found['share']:.1%} of rows go "
        f"against it by more than {expected.tolerance:g}, the worst by {found['worst']:.3f}"
        for found, expected in pairs
        if found["share"] > expected.largest_share
    ]
    return GateResult(
        gate=GATE,
        verdict="fail" if broken else "pass",
        observed=worst["share"],
        bound=its.largest_share,
        reason="; ".join(broken)
        or f"{len(pairs)} expectations hold; {its.feature} is nearest to its bound"
        + (f"; it does not read {', '.join(unread)}" if unread else ""),
    )
