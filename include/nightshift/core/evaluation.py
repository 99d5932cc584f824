"""Metrics of probabilities against labels."""

from __future__ import annotations

import numpy as np

from nightshift.core.arrays import Floats, Labels
from nightshift.documents.train import CalibrationBin, HoldoutMetrics, Quality

LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities are clipped to [this, 1 - this]: float32 rounds some to 0 or 1, whose loss would be infinite."""

CALIBRATION_BINS = 15


def evaluate(labels: Labels, probability: Floats) -> HoldoutMetrics:
    """Metrics of probabilities [n] against labels (0 or 1) [n]; both classes must occur."""
    return HoldoutMetrics(
        rows=len(labels),
        base_rate=float(labels.mean()),
        mean_score=float(probability.mean()),
        auc=area_under_curve(labels, probability),
        log_loss=log_loss(labels, probability),
        brier=float(np.mean((probability - labels) ** 2)),
        calibration_error=calibration_error(labels, probability),
    )


def quality(labels: Labels, scores: Floats) -> Quality:
    """Quality of scores [n] against labels (0 or 1) [n]."""
    return Quality(
        log_loss=log_loss(labels, scores),
        brier=float(np.mean((scores - labels) ** 2)),
        auc=auc_or_none(labels, scores),
        mean_score=float(scores.mean()),
        label_rate=float(labels.mean()),
    )


def area_under_curve(labels: Labels, probability: Floats) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting half (Mann-Whitney)."""
    _, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(labels.sum())
    negatives = len(labels) - positives
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_or_none(labels: Labels, probability: Floats) -> float | None:
    """`area_under_curve`; None if all labels are alike."""
    return area_under_curve(labels, probability) if 0 < labels.sum() < len(labels) else None


def log_loss(labels: Labels, probability: Floats) -> float:
    """Mean negative log likelihood in nats."""
    return float(row_losses(labels, probability).mean())


def row_losses(labels: Labels, probability: Floats) -> Floats:
    """Negative log likelihood of each row [n], in nats."""
    p = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(-np.where(labels == 1, np.log(p), np.log1p(-p)), dtype=np.float64)


def expected_log_loss(probability: Floats) -> float:
    """Mean entropy of probabilities in nats: their log loss if they are calibrated."""
    p = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).mean())


def log_odds(probability: Floats) -> Floats:
    """Log odds of probabilities [n], which are bounded away from 0 and 1 as in the log loss."""
    p = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)))


def calibration_bins(labels: Labels, scores: Floats, bins: int = CALIBRATION_BINS) -> tuple[CalibrationBin, ...]:
    """Bins of equal mass, in order of score."""
    order = np.argsort(scores, kind="stable")
    return tuple(
        CalibrationBin(mean_score=float(scores[part].mean()), observed_rate=float(labels[part].mean()), rows=len(part))
        for part in np.array_split(order, min(bins, len(order)))
    )


def calibration_error(labels: Labels, probability: Floats) -> float:
    """Expected calibration error: mean |observed rate - mean score| over bins of equal mass, weighted by rows.

    Naeini et al. 2015, with bins of equal mass (as in Nixon et al. 2019) in place of equal width, so
    that the few rows with high scores do not form a noisy bin.
    """
    groups = calibration_bins(labels, probability)
    return sum(abs(one.observed_rate - one.mean_score) * one.rows for one in groups) / len(labels)
