"""Behavioural tests: monotonicity and invariance of the score in a feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.core.arrays import Floats
from nightshift.core.gates.stability import Scorer
from nightshift.core.inference.onnx_model import CATEGORICAL_INPUT, NUMERIC_INPUT, Feed, Signature
from nightshift.declare.policies import BehaviourExpectation
from nightshift.deployment import GateResult
from nightshift.documents.train import ObservedBehaviour
from nightshift.errors import ConfigurationError

GATE = "behaviour"
PERCENTILES = (5.0, 27.5, 50.0, 72.5, 95.0)
MOST_CATEGORIES = 10


def observe_behaviour(
    scorer: Scorer,
    feed: Feed,
    training: Feed,
    signature: Signature,
    expectations: tuple[BehaviourExpectation, ...],
) -> tuple[ObservedBehaviour, ...]:
    """The outcome for each expectation.

    A numeric feature is set to its training percentiles from the 5th to the 95th, a categorical one to
    its most frequent training categories. `scorer` scores inputs by name; `feed` holds those of the rows, `training`
    those of the training rows. Raises ConfigurationError for a direction other than invariant of a category.
    """
    return tuple(_observe(scorer, feed, training, signature, expected) for expected in expectations)


def _observe(
    scorer: Scorer, feed: Feed, training: Feed, signature: Signature, expected: BehaviourExpectation
) -> ObservedBehaviour:
    curve = _curve(scorer, feed, training, signature, expected)
    if expected.direction == "invariant":
        against = curve.max(axis=0) - curve.min(axis=0)
    else:
        against = (curve[0] - curve[-1]) * (1 if expected.direction == "increasing" else -1)
    return ObservedBehaviour(
        feature=expected.feature,
        direction=expected.direction,
        share=float((~(against <= expected.tolerance)).mean()),
        worst=float(max(np.nan_to_num(against, nan=1.0).max(), 0.0)),
        read=expected.feature in (*signature.numeric, *signature.categorical),
    )


def _curve(scorer: Scorer, feed: Feed, training: Feed, signature: Signature, expected: BehaviourExpectation) -> Floats:
    """Scores [values, rows] with the feature set to each of its values in turn."""
    rows = len(feed[NUMERIC_INPUT])
    if expected.feature in signature.numeric:
        input_name, position = NUMERIC_INPUT, signature.numeric.index(expected.feature)
        training_values = training[input_name][:, position]
        training_values = training_values[~np.isnan(training_values)]
        values: npt.NDArray[Any] = (
            np.percentile(training_values, PERCENTILES).astype(np.float32) if len(training_values) else training_values
        )
    elif expected.feature in signature.categorical:
        if expected.direction != "invariant":
            raise ConfigurationError(
                "NS-GATE-002",
                f"The expectation {expected.direction!r} for {expected.feature!r} is not possible: it is a category. "
                "Declare it invariant, or take the expectation out of the use case's verification policy.",
            )
        input_name, position = CATEGORICAL_INPUT, signature.categorical.index(expected.feature)
        categories, counts = np.unique(training[input_name][:, position].astype(str), return_counts=True)
        values = categories[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]].astype(object)
    else:
        return np.zeros((1, rows))
    if len(values) == 0:
        return np.zeros((1, rows))
    curve = []
    for value in values:
        changed = feed[input_name].copy()
        changed[:, position] = value
        curve.append(scorer({**feed, input_name: changed}))
    return np.stack(curve)


def check_behaviour(
    observed: Sequence[ObservedBehaviour], expectations: tuple[BehaviourExpectation, ...]
) -> GateResult:
    """Whether every declared expectation holds. `observed` of the result is the share nearest to, or beyond, its bound.

    `observed` (the argument) is what `observe_behaviour` returns for the same expectations.
    """
    if not expectations:
        return GateResult.not_applicable(GATE, "none_declared", "the use case declares no expectations")
    pairs = [(outcome, one) for outcome, one in zip(observed, expectations, strict=True) if outcome.read]
    if not pairs:
        reason = f"the model reads none of the features that {len(expectations)} expectations are about"
        return GateResult.not_applicable(GATE, "none_read", reason)
    unread = [one.feature for outcome, one in zip(observed, expectations, strict=True) if not outcome.read]
    worst, nearest = max(pairs, key=lambda pair: pair[0].share - pair[1].largest_share)
    violations = [
        f"{expected.feature} should be {expected.direction} ({expected.reason}), but {outcome.share:.1%} of rows go "
        f"against it by more than {expected.tolerance:g}, the worst by {outcome.worst:.3f}"
        for outcome, expected in pairs
        if outcome.share > expected.largest_share
    ]
    passed = f"{len(pairs)} expectations hold; {nearest.feature} is nearest to its bound"
    passed += f"; it does not read {', '.join(unread)}" if unread else ""
    rule, reason = ("violated", "; ".join(violations)) if violations else ("", passed)
    return GateResult.evaluated(GATE, rule, reason, observed=worst.share, bound=nearest.largest_share)
