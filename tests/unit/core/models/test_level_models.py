"""Models with day-level columns: penalties apart, tilt, calendar, export, missing values, determinism."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.parity import probe_rows
from nightshift.core.inference.onnx_model import Signature, load_session, score
from nightshift.core.models.estimators import DEFAULTS, fit_estimator
from nightshift.core.models.fitted import FittedModel, hyperparameters
from nightshift.core.models.preprocessing import feature_frame
from nightshift.core.versions.version import row_weights
from nightshift.errors import ConfigurationError
from support.errors import raises_code
from support.model_parity import check_parity

SIGNATURE = Signature(
    numeric=("hour", "rate", "storm", "weekday", "noise"),
    categorical=("carrier",),
    feature_service="toy_v1",
    score="p_late",
)
LEVELS: dict[str, Any] = {"level": ("storm", "noise"), "calendar": ("weekday",), "tilt": "hour"}
DAYS, ROWS = 60, 80


def table(seed: int = 0) -> pa.Table:
    """60 days of 80 rows: a storm makes flights late, the more so the later in the day; Fridays are late."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(DAYS), ROWS)
    storm, noise = rng.normal(size=DAYS)[day], rng.normal(size=DAYS)[day]
    hour, rate = rng.uniform(5, 23, len(day)), rng.uniform(size=len(day))
    weekday, carrier = day % 7 + 1.0, rng.choice(["AA", "BB"], len(day))
    log_odds = -1 + storm * (hour - 5) / 9 + 1.5 * rate + (weekday == 5) + 0.8 * (carrier == "BB")
    late = rng.random(len(day)) < 1 / (1 + np.exp(-log_odds))
    return pa.table(
        {
            "partition": pa.array([date(2020, 1, 1) + timedelta(days=int(d)) for d in day], pa.date32()),
            "hour": pa.array(hour),
            "rate": pa.array(rate, mask=rng.random(len(day)) < 0.1),
            "storm": pa.array(storm, mask=day == 3),
            "weekday": pa.array(weekday, mask=day == 4),
            "noise": pa.array(noise),
            "carrier": pa.array(carrier),
            "is_late": pa.array(late.astype(np.int64)),
        }
    )


TABLE = table()


def fit(name: str, rows: pa.Table = TABLE, half_life_days: float | None = 90.0, **more: Any) -> FittedModel:
    small = {"n_estimators": 20} if name == "level_blend" else {}
    overrides = {name: LEVELS | small | more}
    parameters = hyperparameters(name, DEFAULTS, overrides, rows.num_rows)
    newest = max(rows["partition"].to_pylist())
    weights = row_weights(rows, half_life_days, newest)
    labels = rows["is_late"].to_numpy()
    return fit_estimator(name, rows, labels, SIGNATURE, parameters, seed=7, threads=1, weights=weights)


@pytest.mark.parametrize("name", ["level_additive", "level_blend"])
@pytest.mark.parametrize("more", [{}, {"tilt": None}, {"calendar": ()}, {"level": (), "calendar": (), "tilt": None}])
def test_export_answers_like_the_fitted_model(name: str, more: dict[str, Any]) -> None:
    model = fit(name, **more)
    graph = export_onnx(model)
    answer = partial(score, load_session(graph, 1), SIGNATURE)
    check_parity(model.probability, answer, probe_rows(TABLE, SIGNATURE), 1e-5, what=name)
    again = fit(name, **more)
    np.testing.assert_array_equal(again.probability(TABLE), model.probability(TABLE))
    assert export_onnx(again) == graph


def test_the_coefficients_are_those_of_the_penalised_likelihood() -> None:
    fitted = fit("level_additive", level_penalty=2.0, row_penalty=2.0, calendar=())
    model, frame = fitted.pipeline[-1], feature_frame(TABLE, SIGNATURE)
    rows = model.rows_.transform(frame[[*model.row_columns, "carrier"]])
    levels, tilt = model._group_values(frame), model._tilt(frame)[:, None]
    design = np.hstack([rows, levels, levels * tilt]).astype(np.float64)
    coefficients = np.concatenate([model.row_weights_, model.level_weights_.T.ravel()]).astype(np.float64)
    day = np.repeat(np.arange(DAYS), ROWS)
    weight = 0.5 ** ((DAYS - 1 - day) / 90)
    residual = weight * (TABLE["is_late"].to_numpy() - fitted.probability(TABLE))
    # At the optimum, the gradient of the penalised log likelihood vanishes.
    np.testing.assert_allclose(design.T @ residual, 2.0 * coefficients, atol=0.02)


def test_level_columns_are_shrunken_apart_from_rows() -> None:
    free, bound = fit("level_additive", level_penalty=1.0), fit("level_additive", level_penalty=90.0)
    sizes = [np.abs(model.pipeline[-1].level_weights_).sum() for model in (free, bound)]
    assert sizes[1] < 0.7 * sizes[0]
    rows = [np.abs(model.pipeline[-1].row_weights_).sum() for model in (free, bound)]
    assert rows[1] > 0.8 * rows[0]


def test_the_tilt_makes_storms_matter_in_the_evening() -> None:
    def storm_effect(hour: float, model: FittedModel) -> float:
        def at(storm: float) -> np.ndarray:
            rows = TABLE.slice(0, 50)
            for name, value in (("hour", hour), ("storm", storm)):
                rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array([value] * 50))
            return model.probability(rows)

        return float(np.mean(at(1.0) - at(-1.0)))

    tilted, flat = fit("level_additive"), fit("level_additive", tilt=None)
    assert storm_effect(20.0, tilted) > storm_effect(7.0, tilted) + 0.1
    assert storm_effect(20.0, tilted) > storm_effect(20.0, flat)


def test_older_days_weigh_less() -> None:
    recent, all_alike = fit("level_additive", half_life_days=5.0), fit("level_additive", half_life_days=None)
    assert not np.array_equal(recent.probability(TABLE), all_alike.probability(TABLE))


@pytest.mark.parametrize("name", ["level_additive", "level_blend"])
@pytest.mark.parametrize("parameter", ["level", "calendar", "tilt"])
def test_a_parameter_that_names_no_feature_is_an_error(name: str, parameter: str) -> None:
    with raises_code(ConfigurationError, "NS-MODEL-025", name, parameter, "gust"):
        fit(name, **{parameter: "gust" if parameter == "tilt" else ("gust",)})
