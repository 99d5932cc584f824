"""The two-level model: process against a direct computation, realised levels, probabilities, export, determinism."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.parity import probe_rows
from nightshift.core.inference.onnx_model import Signature, load_session, score
from nightshift.core.models import preprocessing, two_level
from nightshift.core.models.estimators import DEFAULTS, fit_estimator
from nightshift.core.models.fitted import FittedModel, hyperparameters
from nightshift.core.models.preprocessing import feature_frame
from nightshift.core.models.two_level import PRIOR_LEVEL, Groups, LevelProcess, TwoLevel
from nightshift.core.versions.version import row_weights
from nightshift.errors import ConfigurationError
from support.errors import raises_code
from support.model_parity import check_parity

SIGNATURE = Signature(
    numeric=("hour", "rate", "storm", "wind", "weekday"),
    categorical=("carrier", "place"),
    feature_service="toy_v1",
    score="p_late",
)
LEVELS: dict[str, Any] = {
    "level": ("storm", "wind"),
    "calendar": ("weekday",),
    "place": ("place",),
    "day": ("storm",),
    "tilt": "hour",
}
DAYS, ROWS = 60, 80
DAY_NUMBER = np.repeat(np.arange(DAYS), ROWS)


def table(seed: int = 0) -> pa.Table:
    """60 days of 80 rows at two places: a storm makes flights late if the wind blows, too; each place has its wind."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(DAYS), ROWS)
    place = rng.integers(0, 2, len(day))
    storm, wind = rng.normal(size=DAYS)[day], rng.normal(size=(DAYS, 2))[day, place]
    hour, rate = rng.uniform(5, 23, len(day)), rng.uniform(size=len(day))
    weekday, carrier = day % 7 + 1.0, rng.choice(["AA", "BB"], len(day))
    log_odds = -1 + 2 * (storm > 0) * (wind > 0) * (hour - 5) / 9 + rate + (weekday == 5) + 0.8 * (carrier == "BB")
    late = rng.random(len(day)) < 1 / (1 + np.exp(-log_odds))
    return pa.table(
        {
            "partition": pa.array([date(2020, 1, 1) + timedelta(days=int(d)) for d in day], pa.date32()),
            "hour": pa.array(hour),
            "rate": pa.array(rate, mask=rng.random(len(day)) < 0.1),
            "storm": pa.array(storm, mask=day == 3),
            "wind": pa.array(wind),
            "weekday": pa.array(weekday, mask=day == 4),
            "carrier": pa.array(carrier),
            "place": pa.array(np.array(["EWR", "JFK"])[place]),
            "is_late": pa.array(late.astype(np.int64)),
        }
    )


TABLE = table()


def fit(name: str = "two_level", rows: pa.Table = TABLE, **more: Any) -> FittedModel:
    small = {"n_estimators": 20} if name == "two_level_blend" else {}
    parameters = hyperparameters(name, DEFAULTS, {name: LEVELS | small | more}, rows.num_rows)
    weights = row_weights(rows, 90.0, max(rows["partition"].to_pylist()))
    labels = rows["is_late"].to_numpy()
    return fit_estimator(name, rows, labels, SIGNATURE, parameters, seed=7, threads=1, weights=weights)


@pytest.mark.parametrize("name", ["two_level", "two_level_blend"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tilt": None},
        {"calendar": ()},
        {"place": (), "calendar": (), "day": ()},
        {"level": (), "day": ()},
        {"level": (), "place": (), "calendar": (), "day": ()},
    ],
)
def test_export_scores_like_the_fitted_model(name: str, more: dict[str, Any]) -> None:
    model = fit(name, **more)
    graph = export_onnx(model)
    scores = partial(score, load_session(graph, 1), SIGNATURE)
    check_parity(model.probability, scores, probe_rows(TABLE, SIGNATURE), 1e-5, what=name)
    again = fit(name, **more)
    np.testing.assert_array_equal(again.probability(TABLE), model.probability(TABLE))
    assert export_onnx(again) == graph


def toy_groups(count: int) -> Groups:
    rng = np.random.default_rng(1)
    levels = rng.normal(size=(count, 2))
    indicators = np.eye(3)[np.arange(count) % 3]
    values = np.sin(2 * levels[:, 0]) + 0.1 * rng.normal(size=count)
    return Groups(
        levels,
        indicators,
        np.arange(count) // 2,
        values,
        rng.uniform(0.01, 0.05, count),
        np.repeat(rng.uniform(0.5, 1, count // 2), 2),
    )


def test_process_predicts_like_the_conditional_gaussian() -> None:
    groups = toy_groups(30)
    process = LevelProcess().fit(groups, PRIOR_LEVEL)
    cal, rbf, length, day, own = process.hyperparameters_

    def kernel(left: np.ndarray, left_c: np.ndarray) -> np.ndarray:
        square = ((left[:, None] - groups.levels[None]) ** 2).sum(axis=2)
        return 1 + cal * left_c @ groups.indicators.T + rbf * np.exp(-square / (2 * 2 * length**2))

    noise = day * (groups.day[:, None] == groups.day[None]) + np.diag(own + groups.variance)
    noise /= np.sqrt(np.outer(groups.weight, groups.weight))
    inverse = np.linalg.inv(kernel(groups.levels, groups.indicators) + noise)
    mean = np.average(groups.values, weights=groups.weight / (groups.variance + PRIOR_LEVEL[4]))
    new, new_c = np.random.default_rng(2).normal(size=(5, 2)), np.eye(3)[[0, 1, 2, 0, 1]]
    k = kernel(new, new_c)
    exact_variance = 1 + cal + rbf + day + own - np.einsum("ij,jk,ik->i", k, inverse, k)
    means, variances = process.moments(new.astype(np.float32), new_c.astype(np.float32))
    np.testing.assert_allclose(means, mean + k @ inverse @ (groups.values - mean), atol=1e-4)
    np.testing.assert_allclose(variances, exact_variance, atol=1e-4)


def test_variance_is_smaller_near_training_groups_and_never_below_the_exact_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = toy_groups(60)
    levels, indicators = groups.levels[:4].astype(np.float32), groups.indicators[:4].astype(np.float32)
    process = LevelProcess().fit(groups, PRIOR_LEVEL)
    near, far = (process.moments(levels + shift, indicators)[1] for shift in (np.float32(0), np.float32(9)))
    assert (near < far).all()
    monkeypatch.setattr(two_level, "DIRECTIONS", 60)
    exact = LevelProcess().fit(groups, PRIOR_LEVEL).moments(levels, indicators)[1]
    assert (near >= exact - 1e-5).all()
    np.testing.assert_allclose(near, exact, rtol=0.1)


def test_levels_interact() -> None:
    # Only storm and wind together make flights late: a sum of functions of one column each cannot say so.
    fresh = table(seed=1)
    labels = fresh["is_late"].to_numpy()

    def loss(name: str) -> float:
        columns = LEVELS if name == "two_level" else {key: LEVELS[key] for key in ("level", "calendar", "tilt")}
        parameters = hyperparameters(name, DEFAULTS, {name: columns}, TABLE.num_rows)
        model = fit_estimator(name, TABLE, TABLE["is_late"].to_numpy(), SIGNATURE, parameters, seed=7, threads=1)
        p = model.probability(fresh)
        return float(-np.mean(np.where(labels == 1, np.log(p), np.log1p(-p))))

    assert loss("two_level") < loss("level_additive") - 0.005


def test_an_uncertain_level_draws_probabilities_towards_one_half() -> None:
    model = fit().pipeline[-1]
    frame = feature_frame(TABLE, SIGNATURE)
    before = model.log_odds(frame)
    for process in model.processes_:
        process.noise_ = np.float32(process.noise_ + 4)
    after = model.log_odds(frame)
    assert (np.abs(after) < np.abs(before)).all()
    assert (np.sign(after) == np.sign(before)).all()


def test_realised_levels_are_not_shrunken() -> None:
    # Two groups, no row-level effect: the realised level is the log odds of the group's share.
    rows, starts = np.ones((400, 1), dtype=np.float32), np.array([0, 200])
    target = np.concatenate([np.repeat([1.0, 0.0], [50, 150]), np.repeat([1.0, 0.0], [120, 80])])
    shares = np.log([50 / 150, 120 / 80])
    shrunken = np.array([0.0, *(0.97 * shares)])
    values, variances = two_level._realised_levels(rows, shrunken, starts, np.zeros(400), target)
    np.testing.assert_allclose(values[:, 0], shares, atol=2e-3)
    np.testing.assert_allclose(variances[:, 0], [1 / (200 * 0.25 * 0.75), 1 / (200 * 0.6 * 0.4)], rtol=0.02)


def test_groups_of_few_rows_hardly_move_the_mean_of_a_process() -> None:
    groups = toy_groups(30)
    values, variance = groups.values.copy(), groups.variance.copy()
    values[:2], variance[:2] = 50, 1000
    process = LevelProcess().fit(replace(groups, values=values, variance=variance), PRIOR_LEVEL)
    assert process.mean_ == pytest.approx(LevelProcess().fit(groups, PRIOR_LEVEL).mean_, abs=0.1)


@pytest.mark.parametrize("storm", [pa.scalar(1.5), pa.scalar(None, pa.float64())])
def test_groups_are_days_of_their_own_if_the_day_columns_do_not_differ(storm: pa.Scalar) -> None:
    rows = TABLE.set_column(TABLE.schema.get_field_index("storm"), "storm", pa.repeat(storm, TABLE.num_rows))
    np.testing.assert_array_equal(fit(rows=rows).probability(rows), fit(rows=rows, day=()).probability(rows))


def days_learned_from(model: TwoLevel) -> np.ndarray:
    """The day of each group of the processes, by its wind, which no other group has."""
    scaler = model.level_scaler_
    winds = model.processes_[0].levels_[1] * scaler.deviation_[1] + scaler.mean_[1]
    return DAY_NUMBER[np.abs(TABLE["wind"].to_numpy()[:, None] - winds).argmin(axis=0)]


def test_the_heaviest_groups_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_level, "MOST_GROUPS", 40)
    monkeypatch.setattr(preprocessing, "TAIL_PERCENT", 0)  # Else the winds at both ends are not the groups' own.
    days = days_learned_from(fit().pipeline[-1])
    np.testing.assert_array_equal(np.unique(days, return_counts=True), [np.arange(DAYS - 20, DAYS), [2] * 20])


def test_groups_of_equal_weight_are_chosen_from_all_days(monkeypatch: pytest.MonkeyPatch) -> None:
    # Storms 0 and 2, whose bytes are in the order of the days.
    monkeypatch.setattr(two_level, "MOST_GROUPS", 40)
    rows = TABLE.set_column(TABLE.schema.get_field_index("storm"), "storm", pa.array(2.0 * (DAY_NUMBER >= DAYS / 2)))
    frame, labels = feature_frame(rows, SIGNATURE), rows["is_late"].to_numpy()
    model, again = (
        TwoLevel(SIGNATURE.numeric, SIGNATURE.categorical, **LEVELS).fit(frame, labels, np.ones(len(labels)))
        for _ in range(2)
    )
    days = days_learned_from(model)
    assert days.shape == (40,)
    assert 10 <= np.sum(days < DAYS / 2) <= 30
    np.testing.assert_array_equal(model.processes_[0].levels_, again.processes_[0].levels_)


def test_the_ranker_learns_from_the_rows_of_the_chosen_groups_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_level, "MOST_GROUPS", 40)
    chosen = DAY_NUMBER >= DAYS - 20
    other_labels = np.where(chosen, TABLE["is_late"].to_numpy(), 0)
    rows = TABLE.set_column(TABLE.schema.get_field_index("is_late"), "is_late", pa.array(other_labels))
    np.testing.assert_array_equal(fit(rows=rows).probability(TABLE), fit().probability(TABLE))


@pytest.mark.parametrize("name", ["two_level", "two_level_blend"])
@pytest.mark.parametrize("parameter", ["level", "calendar", "place", "day", "tilt"])
def test_a_parameter_that_names_no_feature_is_an_error(name: str, parameter: str) -> None:
    with raises_code(ConfigurationError, "NS-MODEL-025", name, parameter, "gust"):
        fit(name, **{parameter: "gust" if parameter == "tilt" else ("gust",)})
