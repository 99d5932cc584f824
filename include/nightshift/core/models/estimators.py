"""Estimators: models fitted on labels, which are the teachers of students."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

# Set before OpenMP is loaded: its threads spin by default while they wait for each other, which
# makes a fit six times as slow where tasks share cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from xgboost import XGBClassifier

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.additive import fit_additive
from nightshift.core.models.blend import LogOddsBlend
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.level_additive import LevelAdditive
from nightshift.core.models.preprocessing import bounded_features, feature_frame, tree_features
from nightshift.core.models.two_level import TwoLevel
from nightshift.declare.models import Hyperparameters, number
from nightshift.errors import ConfigurationError

LEVELS: Hyperparameters = {
    "level": (),
    "calendar": (),
    "tilt": None,
    "knots": 3,
    "level_knots": 2,
    "row_penalty": 300.0,
    "level_penalty": 10000.0,
}

TWO_LEVELS: Hyperparameters = {
    "level": (),
    "calendar": (),
    "place": (),
    "day": (),
    "tilt": None,
    "knots": 3,
    "row_penalty": 300.0,
    "level_variance": 0.6,
}

BLEND: Hyperparameters = {
    **LEVELS,
    "share": 0.5,
    "scale": 1.0,
    "n_estimators": 100,
    "max_depth": 5,
    "learning_rate": 0.08,
    "subsample": 0.5,
    "colsample_bytree": 0.25,
    "min_child_weight": 150,
    "reg_lambda": 50,
    "max_bin": 32,
}

DEFAULTS: Mapping[str, Hyperparameters] = {
    "additive": {"knots": 3, "penalty": 8e-3, "max_iter": 100},
    "logistic_regression": {"C": 0.01, "max_iter": 500},
    "xgboost": {
        "n_estimators": 300,
        "max_depth": 5,
        "learning_rate": 0.05,
        "subsample": 0.7,
        "colsample_bytree": 0.35,
        "min_child_weight": 100,
        "reg_lambda": 1,
        "max_bin": 128,
    },
    "level_additive": LEVELS,
    "level_blend": BLEND,
    "two_level": TWO_LEVELS,
    "two_level_blend": {**BLEND, **TWO_LEVELS, "two_level_share": 1 / 3},
}
"""Hyperparameters; a use case's `training.parameters[<estimator>]` override them.

They regularise heavily, because rows of one day are correlated: there are fewer independent rows than rows.
"""

WITH_LEVELS = ("level_additive", "level_blend", "two_level", "two_level_blend")
COLUMNS: Mapping[str, str] = dict.fromkeys(("level", "calendar", "day", "tilt"), "numeric") | {"place": "categorical"}
"""Parameters of the estimators with levels that name features, and the kind of these."""


def fit_estimator(
    name: str,
    train: pa.Table,
    labels: npt.NDArray[np.int64],
    signature: Signature,
    parameters: Hyperparameters,
    *,
    seed: int,
    threads: int,
    weights: npt.NDArray[np.float64] | None = None,
) -> FittedModel:
    """Fit an estimator of DEFAULTS on rows and their labels (0 or 1), with its full hyperparameters.

    `weights`: of the rows, [n]; None: all weigh the same.
    """
    if name == "additive":
        return fit_additive(train, labels, signature, parameters, seed=seed, weights=weights)
    frame = feature_frame(train, signature)
    if name in WITH_LEVELS:
        return _fit_with_levels(name, frame, labels, weights, signature, parameters, seed=seed, threads=threads)
    if name == "logistic_regression":
        features, model = bounded_features(frame, signature), LogisticRegression(random_state=seed, **parameters)
    else:
        features, model = tree_features(frame, signature), XGBClassifier(**tree_parameters(parameters, seed, threads))
    pipeline = Pipeline([("features", features), ("model", model)])
    # One BLAS thread: the order of sums is the same on every machine, and nothing waits for a busy core.
    with threadpool_limits(limits=1, user_api="blas"):
        pipeline.fit(frame, labels, **({} if weights is None else {"model__sample_weight": weights}))
    if isinstance(model, XGBClassifier):
        # The number of threads is not part of the model.
        model.set_params(n_jobs=None)
        model.get_booster().set_param({"nthread": 0})
    return FittedModel(pipeline, signature)


def _fit_with_levels(
    name: str,
    frame: pd.DataFrame,
    labels: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64] | None,
    signature: Signature,
    parameters: Hyperparameters,
    *,
    seed: int,
    threads: int,
) -> FittedModel:
    """A LevelAdditive, a TwoLevel, or a blend of them with trees."""
    check_columns(name, parameters, signature)

    def member(model: LevelAdditive | TwoLevel, keys: Hyperparameters) -> Any:
        # Manifests store tuples as lists.
        arguments = {key: parameters[key] for key in keys}
        tuples = {key: tuple(value) for key, value in arguments.items() if isinstance(value, list | tuple)}
        return model.set_params(**arguments | tuples)

    columns: dict[str, Any] = {"numeric": signature.numeric, "categorical": signature.categorical}
    two_level = member(TwoLevel(**columns), TWO_LEVELS) if name in ("two_level", "two_level_blend") else None
    model: Any = two_level
    trees = None
    if name == "level_additive":
        model = member(LevelAdditive(**columns), LEVELS)
    elif name != "two_level":
        shares = ("share", "scale", "two_level_share")
        others = {*LEVELS, *TWO_LEVELS, *shares}
        tree_arguments = {key: value for key, value in parameters.items() if key not in others}
        trees = XGBClassifier(**tree_parameters(tree_arguments, seed, threads))
        pipeline = Pipeline([("features", tree_features(frame, signature)), ("model", trees)])
        weights_of_members = {key: number(parameters, key) for key in shares if key in parameters}
        additive = member(LevelAdditive(**columns), LEVELS)
        model = LogOddsBlend(additive, pipeline, two_level=two_level, **weights_of_members)
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(frame, labels, weights)
    if trees is not None:
        trees.set_params(n_jobs=None)
        trees.get_booster().set_param({"nthread": 0})
    return FittedModel(Pipeline([("model", model)]), signature)


def check_columns(name: str, parameters: Hyperparameters, signature: Signature) -> None:
    """Raises ConfigurationError if the parameters of an estimator with levels name columns it is not fitted on."""
    if name not in WITH_LEVELS:
        return
    for parameter, kind in COLUMNS.items():
        if (value := parameters.get(parameter)) is None:
            continue
        columns = value if isinstance(value, Sequence) and parameter != "tilt" else (value,)
        features = signature.numeric if kind == "numeric" else signature.categorical
        if unknown := [column for column in columns if column not in features]:
            raise ConfigurationError(
                "NS-MODEL-025",
                f"The parameter {parameter} of {name} names {unknown}, which are not among the {kind} features of the "
                f"spec. Correct the names, or add them to the spec's {kind} features.",
            )


def tree_parameters(parameters: Hyperparameters, seed: int, threads: int) -> Hyperparameters:
    """Arguments of an XGBoost model over histograms."""
    return {"tree_method": "hist", "random_state": seed, "n_jobs": threads, **parameters}
