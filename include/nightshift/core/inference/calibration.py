"""Recalibration of scores from matured labels: an intercept, and a slope where declared, on the log odds.

    calibrated log odds = a + b * z,    z = log(p / (1 - p)) of the graph's score p

This is Platt scaling (Platt 1999, "Probabilistic outputs for support vector machines") on log odds instead of
margins, refitted for each partition on recent labels as online Platt scaling does (Gupta & Ramdas 2023, "Online
Platt scaling with calibeating", ICML). a and b minimise

    sum over partitions d of  w_d * sum over rows i of d of  CE(y_i, s(a + b * z_i))
      + prior_days * mean rows scored per partition * mean over all rows of  CE(s(z_i), s(a + b * z_i))

with s the logistic function, CE the cross entropy and w_d = 0.5 ** (age of d in days / half_life_days). The second
term is `prior_days` partitions whose labels equal the graph's scores: it shrinks a to 0 and b to 1, the more so
the fewer labels are known. The sum is convex in (a, b); Newton's method finds its only minimum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from nightshift.core.arrays import Floats
from nightshift.core.evaluation import log_odds as log_odds_of
from nightshift.declare.models import CalibrationSpec
from nightshift.documents.predict import SpecCalibration

LEAST_WEIGHT_HALF_LIVES = 6
"""Partitions older than this many half-lives weigh less than 2% and are left out."""
MOST_PARTITIONS = 30
LEAST_PRIOR_DAYS = 0.01
"""Least prior: without any, labels of one class would have no finite minimum."""
SLOPES = (0.2, 5.0)
"""Bounds of the slope: a smaller one would reverse or flatten the scores, a larger one push them to 0 and 1."""
STEPS = 50
TOLERANCE = 1e-12
DIGITS = 10
"""Decimals kept: sums of floats may differ in the last digits between machines."""


@dataclass(frozen=True)
class LabelledScores:
    """Scores [n] (in [0, 1]) of one partition whose labels [n] (0 or 1) are known.

    `age_days`: age of the labels. `predictions`: number of scored rows, with and without a known label.
    """

    partition: date
    age_days: int
    scores: Floats
    labels: Floats
    predictions: int


def window_days(spec: CalibrationSpec) -> int:
    """How many past partitions' labels are used: those that weigh about 2% or more, at most MOST_PARTITIONS."""
    return min(MOST_PARTITIONS, math.ceil(LEAST_WEIGHT_HALF_LIVES * spec.half_life_days))


def fit_calibration(spec: CalibrationSpec, history: Sequence[LabelledScores]) -> SpecCalibration:
    """Intercept and slope from partitions with known labels; see the module docstring.

    Without labels, or with half_life_days 0, the identity. The result does not depend on the order of the partitions.
    """
    labelled = sorted((one for one in history if len(one.labels)), key=lambda one: one.partition)
    if not labelled or spec.half_life_days == 0:
        return SpecCalibration()
    log_odds = np.concatenate([log_odds_of(one.scores) for one in labelled])
    labels = np.concatenate([one.labels for one in labelled])
    weights = np.concatenate(
        [np.full(len(one.labels), 0.5 ** (one.age_days / spec.half_life_days)) for one in labelled]
    )
    mean_predictions = sum(one.predictions for one in labelled) / len(labelled)
    prior = max(spec.prior_days, LEAST_PRIOR_DAYS) * mean_predictions / len(labels)
    # Both terms of the sum together: each row once, its target the weighted mean of its label and the graph's score.
    total = weights + prior
    target = (weights * labels + prior * _probability(log_odds)) / total
    intercept, slope = _minimum(log_odds, target, total, fit_slope=spec.slope and bool(np.ptp(log_odds) > 1e-6))
    return SpecCalibration(
        intercept=round(intercept, DIGITS),
        slope=round(slope, DIGITS),
        rows=len(labels),
        partitions=tuple(one.partition for one in labelled),
    )


def calibrated(calibration: SpecCalibration, scores: Floats) -> Floats:
    """Calibrated probabilities [n] of raw scores [n]; the identity returns them bit for bit.

    Values that are not probabilities (NaN, outside [0, 1]) are returned unchanged, so that the audit finds them.
    """
    if calibration.intercept == 0.0 and calibration.slope == 1.0:
        return scores
    probabilities = _probability(calibration.intercept + calibration.slope * log_odds_of(scores))
    return np.where((scores >= 0) & (scores <= 1), probabilities, scores)


def level_shift(scores: Floats, labels: Floats) -> float:
    """The constant on the log odds of scores [n] that makes their mean the share of positive labels [n].

    A share of 0 or 1, which no finite constant gives, counts as half a label of the other class.
    """
    rate = min(max(float(labels.mean()), 0.5 / len(labels)), 1 - 0.5 / len(labels))
    # The minimum of the cross entropy is where the means are equal.
    at = _newton(log_odds_of(scores), np.full(len(scores), rate), np.ones(len(scores)), 1.0, free=1)
    return float(at[0])


def _minimum(log_odds: Floats, target: Floats, weights: Floats, *, fit_slope: bool) -> tuple[float, float]:
    """Minimise by `_newton`; a slope outside SLOPES is set to the bound, and the intercept is refitted."""
    at = _newton(log_odds, target, weights, 1.0, free=2 if fit_slope else 1)
    bounded = min(max(float(at[1]), SLOPES[0]), SLOPES[1])
    if bounded != at[1]:
        at = _newton(log_odds, target, weights, bounded, free=1)
    return float(at[0]), float(at[1])


def _newton(log_odds: Floats, target: Floats, weights: Floats, slope: float, *, free: int) -> Floats:
    """(intercept, slope) of least cross entropy by Newton's method with step halving, started at (0, slope).

    The first `free` of the two are fitted.
    """
    inputs = np.column_stack([np.ones_like(log_odds), log_odds])
    at = np.array([0.0, slope])
    loss = _cross_entropy(inputs @ at, target, weights)
    for _ in range(STEPS):
        predicted = _probability(inputs @ at)
        gradient = (inputs * (weights * (predicted - target))[:, None]).sum(axis=0)[:free]
        curvature = (inputs.T * (weights * predicted * (1 - predicted))) @ inputs
        step = np.linalg.solve(curvature[:free, :free], gradient)
        size = 1.0
        while size > TOLERANCE:
            proposed = at.copy()
            proposed[:free] -= size * step
            proposed_loss = _cross_entropy(inputs @ proposed, target, weights)
            if proposed_loss <= loss:
                break
            size /= 2
        else:
            return at
        change = float(np.abs(proposed - at).max())
        at, loss = proposed, proposed_loss
        if change < TOLERANCE:
            break
    return at


def _cross_entropy(log_odds: Floats, target: Floats, weights: Floats) -> float:
    return float((weights * (np.logaddexp(0.0, log_odds) - target * log_odds)).sum())


def _probability(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-log_odds)))
