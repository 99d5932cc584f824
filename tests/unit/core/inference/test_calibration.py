"""An intercept and a slope on the log odds, from matured labels."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from nightshift.core.inference.calibration import LabelledScores, calibrated, fit_calibration, window_days
from nightshift.declare.models import CalibrationSpec
from nightshift.documents.predict import SpecCalibration

Floats = npt.NDArray[np.float64]
D = date(2020, 3, 20)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def partition(age: int, *, shift: float = 0.0, slope: float = 1.0, rows: int = 4000, seed: int = 0) -> LabelledScores:
    """Scores whose labels follow sigmoid(shift + slope * log odds of the score)."""
    rng = np.random.default_rng([seed, age])
    log_odds = rng.normal(-1.0, 1.2, rows)
    labels = (rng.uniform(size=rows) < sigmoid(shift + slope * log_odds)).astype(np.float64)
    return LabelledScores(D - timedelta(days=age), age, sigmoid(log_odds), labels, rows)


def test_a_planted_shift_is_recovered() -> None:
    fitted = fit_calibration(CalibrationSpec(prior_days=0.01), [partition(age, shift=0.8) for age in range(12)])
    assert fitted.intercept == pytest.approx(0.8, abs=0.03)
    assert fitted.slope == 1.0
    assert fitted.rows == 48_000
    assert fitted.partitions == tuple(D - timedelta(days=age) for age in range(11, -1, -1))


def test_a_planted_slope_is_recovered_where_declared() -> None:
    history = [partition(age, shift=-0.4, slope=0.6) for age in range(12)]
    fitted = fit_calibration(CalibrationSpec(prior_days=0.01, slope=True), history)
    assert (fitted.intercept, fitted.slope) == pytest.approx((-0.4, 0.6), abs=0.03)


def test_the_mean_of_the_calibrated_scores_is_the_labels_rate() -> None:
    """With equal weights and no prior, the intercept's first-order condition."""
    one = partition(0, shift=1.1)
    fitted = fit_calibration(CalibrationSpec(prior_days=0.01), [one])
    assert calibrated(fitted, one.scores).mean() == pytest.approx(one.labels.mean(), abs=0.005)


def test_one_day_is_shrunk_by_one_prior_day_to_about_half() -> None:
    one = [partition(0, shift=0.4)]
    assert fit_calibration(CalibrationSpec(prior_days=1), one).intercept == pytest.approx(0.2, abs=0.05)
    more = [partition(age, shift=0.4) for age in range(12)]
    assert 0.33 < fit_calibration(CalibrationSpec(prior_days=1), more).intercept < 0.4


def test_few_labels_of_a_large_partition_hardly_count() -> None:
    scores = np.full(3, 0.1)
    few = LabelledScores(D, 0, scores, np.ones(3), predictions=3000)
    assert 0 < fit_calibration(CalibrationSpec(), [few]).intercept < 0.02


@pytest.mark.parametrize("history", [[], [LabelledScores(D, 0, np.empty(0), np.empty(0), 100)]])
def test_no_labels_give_the_identity(history: list[LabelledScores]) -> None:
    assert fit_calibration(CalibrationSpec(), history) == SpecCalibration()


def test_a_half_life_of_zero_means_no_calibration() -> None:
    spec = CalibrationSpec(half_life_days=0)
    assert fit_calibration(spec, [partition(0, shift=2.0)]) == SpecCalibration()
    assert window_days(spec) == 0


def test_older_labels_count_by_their_half_life() -> None:
    """One partition at +1 today and one at -1 a half-life ago: weights 1 and 1/2."""
    spec = CalibrationSpec(half_life_days=5, prior_days=0.01)
    scores = np.full(3000, 0.5)
    today = LabelledScores(D, 0, scores, np.repeat([1.0, 0.0], [2000, 1000]), 3000)
    before = LabelledScores(D - timedelta(days=5), 5, scores, np.repeat([1.0, 0.0], [1000, 2000]), 3000)
    rate = (1.0 * 2 / 3 + 0.5 * 1 / 3) / 1.5
    assert fit_calibration(spec, [today, before]).intercept == pytest.approx(np.log(rate / (1 - rate)), abs=0.002)


def test_the_order_of_the_partitions_does_not_matter() -> None:
    history = [partition(age, shift=0.3, rows=200) for age in range(8)]
    spec = CalibrationSpec(slope=True)
    assert fit_calibration(spec, history) == fit_calibration(spec, history[::-1])


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("slope", [False, True])
def test_labels_of_one_class_stay_finite(label: float, slope: bool) -> None:
    one = partition(0, rows=200)
    alike = LabelledScores(D, 0, one.scores, np.full(200, label), 200)
    fitted = fit_calibration(CalibrationSpec(prior_days=0, slope=slope), [alike])
    assert np.isfinite([fitted.intercept, fitted.slope]).all()
    assert np.sign(fitted.intercept) == (1 if label else -1)


def test_flipped_labels_do_not_reverse_the_order() -> None:
    one = partition(0, slope=-2.0)
    fitted = fit_calibration(CalibrationSpec(prior_days=0.01, slope=True), [one])
    assert fitted.slope == 0.2


def test_certain_scores_stay_finite() -> None:
    certain = LabelledScores(D, 0, np.array([0.0, 1.0, 0.5]), np.array([1.0, 0.0, 1.0]), 3)
    fitted = fit_calibration(CalibrationSpec(slope=True), [certain])
    answers = calibrated(fitted, certain.scores)
    assert np.isfinite([fitted.intercept, fitted.slope, *answers]).all()


def test_calibrated_scores_add_the_intercept_to_the_log_odds() -> None:
    scores = np.array([0.2, 0.5])
    answers = calibrated(SpecCalibration(intercept=1.0, slope=0.5), scores)
    assert answers == pytest.approx(sigmoid(1.0 + 0.5 * np.log(scores / (1 - scores))))


def test_the_identity_changes_no_bit() -> None:
    scores = np.array([0.0, 1e-12, 0.3, 1.0])
    assert calibrated(SpecCalibration(), scores).tobytes() == scores.tobytes()


def test_what_is_no_probability_is_left_for_the_audit() -> None:
    wrong = np.array([np.nan, -0.5, 1.5])
    np.testing.assert_array_equal(calibrated(SpecCalibration(intercept=1.0), wrong), wrong)


@pytest.mark.parametrize(("half_life", "days"), [(5, 30), (2, 12), (0.5, 3), (60, 30)])
def test_the_window_is_six_half_lives_and_bounded(half_life: float, days: int) -> None:
    assert window_days(CalibrationSpec(half_life_days=half_life)) == days
