"""Certainty and bands of scores, from the shifts of past days."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from nightshift.core.evaluation import log_odds
from nightshift.core.inference.calibration import LabelledScores, level_shift
from nightshift.core.inference.certainty import (
    CERTAINTY_SCHEMA,
    certainty,
    certainty_columns,
    level_band,
    matured_shifts,
)
from nightshift.core.inference.domain import Position
from nightshift.declare.policies import CertaintyPolicy

D = date(2020, 3, 20)
SHIFTS = (-1.0, -0.5, 0.0, 0.25, 2.0)


def sigmoid(odds: object) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.asarray(odds, dtype=np.float64))))


def day(age: int, *, labels: int = 10, predictions: int = 10) -> LabelledScores:
    values = np.arange(labels) % 2.0
    return LabelledScores(D - timedelta(days=age), age, np.full(labels, 0.3), values, predictions)


def test_the_shifted_scores_have_the_labels_rate() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.02, 0.9, 500)
    labels = (rng.uniform(size=500) < 0.6).astype(np.float64)
    shift = level_shift(scores, labels)
    assert shift > 0
    assert sigmoid(log_odds(scores) + shift).mean() == pytest.approx(labels.mean(), abs=1e-9)


@pytest.mark.parametrize(("label", "rate"), [(0.0, 0.05), (1.0, 0.95)])
def test_labels_of_one_class_count_as_half_a_label_of_the_other(label: float, rate: float) -> None:
    scores = np.full(10, 0.3)
    shift = level_shift(scores, np.full(10, label))
    assert sigmoid(log_odds(scores) + shift)[0] == pytest.approx(rate)


def test_shifts_are_those_of_the_newest_matured_partitions() -> None:
    history = [day(4), day(1), day(2, labels=4), day(3), day(5, labels=0)]
    shifts = matured_shifts(history, CertaintyPolicy(days=2, least_labelled=0.5))
    assert list(shifts) == [D - timedelta(days=3), D - timedelta(days=1)]
    assert set(shifts.values()) == {round(float(log_odds(np.array([0.5]))[0] - log_odds(np.array([0.3]))[0]), 6)}


def test_certainty_is_the_share_of_shifts_that_leave_the_decision() -> None:
    scores = sigmoid([-3.0, -1.5, -0.1, 0.1, 0.7, 3.0])
    assert certainty(SHIFTS, scores, 0.5).tolist() == [1.0, 0.8, 0.6, 0.6, 0.8, 1.0]


def test_a_shift_to_the_threshold_is_a_positive_decision() -> None:
    assert certainty([-0.5, 0.0, 0.5], np.array([0.5]), 0.5).tolist() == [pytest.approx(2 / 3)]


def test_certainty_is_measured_at_the_declared_threshold() -> None:
    scores = np.array([0.2])
    assert certainty(SHIFTS, scores, 0.5)[0] == 0.8
    assert certainty(SHIFTS, scores, 0.1)[0] == 0.8
    assert certainty(SHIFTS, scores, 0.19)[0] == pytest.approx(0.6)


@pytest.mark.parametrize(("days", "rank"), [(9, 1), (18, 1), (19, 2), (60, 6)])
def test_the_band_is_between_two_shifts_of_equal_rank(days: int, rank: int) -> None:
    shifts = np.random.default_rng(0).permutation(np.linspace(-1, 1, days))
    low, high = level_band(shifts, np.array([0.3]), 0.8)
    odds = log_odds(np.array([0.3]))
    assert low == pytest.approx(sigmoid(odds + np.sort(shifts)[rank - 1]))
    assert high == pytest.approx(sigmoid(odds + np.sort(shifts)[-rank]))


def test_a_band_that_too_few_days_cannot_give_is_everything() -> None:
    low, high = level_band(SHIFTS, np.array([0.3]), 0.8)
    assert (low.tolist(), high.tolist()) == ([0.0], [1.0])


def test_four_of_five_days_are_in_the_band_whatever_the_distribution() -> None:
    """Days drawn from one heavy-tailed distribution, rows that share the day's level."""
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(2_000):
        shifts = rng.standard_t(2, 31) * 0.5
        low, high = level_band(shifts[:-1], np.array([0.3]), 0.8)
        level = sigmoid(log_odds(np.array([0.3])) + shifts[-1])
        inside.append(low[0] <= level[0] <= high[0])
    # 1 - 2 * 3 / 31 of the days, by the ranks.
    assert np.mean(inside) == pytest.approx(25 / 31, abs=0.03)


def test_columns_are_null_where_nothing_is_known() -> None:
    scores, policy = np.array([0.2, 0.7]), CertaintyPolicy(least_days=5)
    nothing = certainty_columns(scores, SHIFTS[:4], None, 0.5, policy)
    assert nothing.schema == CERTAINTY_SCHEMA
    assert all(column.null_count == 2 for column in nothing.columns)
    no_threshold = certainty_columns(scores, SHIFTS, Position(np.array([0, 3]), None), 0.5, policy)
    assert no_threshold["out_of_range"].to_pylist() == [0, 3]
    assert no_threshold["out_of_domain"].to_pylist() == [None, None]
    assert no_threshold["certainty"].to_pylist() == [0.8, 0.8]
    assert no_threshold.schema == CERTAINTY_SCHEMA
