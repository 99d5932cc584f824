"""Drift of outcomes: label rates in windows, cumulative sums of residuals and losses."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from nightshift.core.monitoring.outcome_drift import EVERYTHING, SliceDay, concept_drift, label_drift
from nightshift.declare.policies import DriftPolicy

POLICY = DriftPolicy()
NIGHTS = 150


def nights(
    seed: int, *, shift: float = 0.0, loss: float = 0.0, auc: float = 0.0, since: int = NIGHTS, days: int = NIGHTS
) -> list[SliceDay]:
    """Autocorrelated residuals (0.3, standard deviation 0.12), losses and AUC, shifted in the last days."""
    rng, of_ranking = np.random.default_rng(seed), np.random.default_rng(1000 + seed)
    residual, found = 0.0, []
    for number in range(days):
        residual = 0.3 * residual + 0.12 * np.sqrt(1 - 0.09) * rng.normal()
        moved = number >= since
        found.append(
            SliceDay(
                partition=date(2013, 1, 1) + timedelta(days=number),
                rows=900,
                label_rate=float(np.clip(0.25 + residual + shift * moved, 0, 1)),
                residual=float(residual + shift * moved),
                excess_loss=float(0.05 * rng.normal() + loss * moved),
                auc=float(0.7 + 0.04 * of_ranking.normal() + auc * moved) if number % 20 else None,
            )
        )
    return found


def test_ordinary_residuals_seldom_drift() -> None:
    found = [concept_drift({EVERYTHING: nights(seed)}, POLICY)[0].drifted for seed in range(300)]
    # The last 28 nights of 300 independent series: 8,400 nights.
    assert sum(found) <= 15


@pytest.mark.parametrize(("shift", "most"), [(0.5, 3), (0.25, 8), (-0.25, 8)])
def test_a_shift_of_the_residual_is_found(shift: float, most: int) -> None:
    waits = []
    for seed in range(20):
        series = nights(seed, shift=shift, since=NIGHTS - 20)
        alarms = [n for n in range(1, 21) if concept_drift({"": series[: NIGHTS - 20 + n]}, POLICY)[0].drifted]
        waits.append(alarms[0])
    assert np.median(waits) <= most


def test_a_loss_above_what_the_scores_promise_is_found() -> None:
    (one,) = concept_drift({"carrier=UA": nights(1, loss=0.2, since=NIGHTS - 6)}, POLICY)
    assert (one.column, one.statistic, one.drifted) == ("carrier=UA", "loss", True)
    (other,) = concept_drift({EVERYTHING: nights(1, loss=-0.2, since=NIGHTS - 6)}, POLICY)
    assert other.statistic != "loss" or not other.drifted


def test_scores_that_no_longer_rank_the_rows_are_found() -> None:
    """Whatever the level of the days; a day with labels of one kind has no AUC, and does not count."""
    (one,) = concept_drift({EVERYTHING: nights(1, auc=-0.2, since=NIGHTS - 4)}, POLICY)
    assert (one.statistic, one.drifted) == ("ranking", True)
    (other,) = concept_drift({EVERYTHING: nights(1, auc=0.2, since=NIGHTS - 4)}, POLICY)
    assert other.statistic != "ranking" or not other.drifted


def test_too_few_nights_are_not_judged() -> None:
    short = nights(0, days=POLICY.cusum_days + POLICY.least_reference_days - 1)
    assert concept_drift({EVERYTHING: short}, POLICY) == []
    assert label_drift(nights(0, days=POLICY.least_reference_days), "is_late", POLICY) == []
    assert label_drift([], "is_late", POLICY) == []


def test_a_rate_outside_the_range_of_earlier_windows_is_label_drift() -> None:
    (ordinary,) = label_drift(nights(0), "is_late", POLICY)
    assert (ordinary.name, ordinary.statistic, ordinary.drifted) == ("outcomes.is_late", "rate", False)
    (moved,) = label_drift(nights(0, shift=0.4, since=NIGHTS - 28), "is_late", POLICY)
    assert (moved.days, moved.drifted) == (28, True)
