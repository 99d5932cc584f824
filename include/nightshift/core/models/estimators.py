"""Estimators: models fitted on labels, which are the teachers of students."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
from nightshift.core.models.blend import LogOddsBlend
from nightshift.core.models.level_additive import LevelAdditive
from nightshift.core.models.preprocessing import bounded_features, feature_frame, tree_features
from nightshift.errors import ConfigurationError

LEVELS: Mapping[str, Any] = {
    "level": (),
    "calendar": (),
    "tilt": None,
    "knots": 3,
    "level_knots": 2,
    "row_penalty": 300.0,
    "level_penalty": 10000.0,
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
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
    "level_blend": {
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
    },
}
"""Hyperparameters; a use case's `training.parameters[<estimator>]` override them.

They regularise heavily, because rows of one day are correlated: there are fewer independent rows than rows.
"""


LARGEST_SHARE_OF_ROWS = {
    "min_child_weight": 1 / 500,
    "batch_size": 1 / 20,
    "row_penalty": 1 / 500,
    "level_penalty": 1 / 50,
    "reg_lambda": 1 / 500,
}
"""Defaults in numbers of rows are limited to this share of the training rows, so that small data can be fitted, too."""


@dataclass(frozen=True)
class FittedModel:
    """A fitted scikit-learn pipeline and its input/output schema.

    `answer`: the output of the pipeline's last step, class probabilities (`predict_proba`) or the log odds of the
    positive class (`predict`). `graph`: an ONNX graph made from the pipeline whose scores differ from it by design
    (int8); it is exported in place of the pipeline's and compared with it.
    """

    pipeline: Pipeline
    signature: Signature
    answer: Literal["probability", "log odds"] = "probability"
    graph: bytes | None = None

    def probability(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """P(label = 1) for each row, float64 [n]."""
        frame = feature_frame(table, self.signature)
        # One BLAS thread, as in fitting: students are fitted on these scores, down to the last digits.
        with threadpool_limits(limits=1, user_api="blas"):
            if self.answer == "probability":
                return np.asarray(self.pipeline.predict_proba(frame)[:, 1], dtype=np.float64)
            log_odds = np.asarray(self.pipeline.predict(frame), dtype=np.float64)
        return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)


def hyperparameters(
    name: str, defaults: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Mapping[str, Any]], rows: int
) -> dict[str, Any]:
    """The defaults of an estimator or technique for a number of training rows, overridden by a use case's values.

    Raises ConfigurationError for a name without defaults.
    """
    if name not in defaults:
        raise ConfigurationError(f"{name!r} cannot be fitted here; known are {sorted(defaults)}.")
    suited = {
        key: min(value, max(1, int(rows * LARGEST_SHARE_OF_ROWS[key]))) if key in LARGEST_SHARE_OF_ROWS else value
        for key, value in defaults[name].items()
    }
    return {**suited, **overrides.get(name, {})}


def fit_estimator(
    name: str,
    train: pa.Table,
    labels: npt.NDArray[np.int64],
    signature: Signature,
    parameters: Mapping[str, Any],
    *,
    seed: int,
    threads: int,
    weights: npt.NDArray[np.float64] | None = None,
) -> FittedModel:
    """Fit an estimator of DEFAULTS on rows and their labels (0 or 1), with its full hyperparameters.

    `weights`: of the rows, [n]; None: all weigh the same.
    """
    if name == "additive":
        from nightshift.core.models.additive import fit_additive

        return fit_additive(train, labels, signature, parameters, seed=seed, weights=weights)
    frame = feature_frame(train, signature)
    if name in ("level_additive", "level_blend"):
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
    parameters: Mapping[str, Any],
    *,
    seed: int,
    threads: int,
) -> FittedModel:
    """A LevelAdditive, or its blend with trees."""
    tree_arguments = dict(parameters)
    arguments: dict[str, Any] = {key: tree_arguments.pop(key) for key in LEVELS}
    additive = LevelAdditive(numeric=signature.numeric, categorical=signature.categorical, **arguments)
    # Manifests store tuples as lists.
    additive.set_params(level=tuple(arguments["level"]), calendar=tuple(arguments["calendar"]))
    model: LevelAdditive | LogOddsBlend = additive
    trees = None
    if name == "level_blend":
        share, scale = tree_arguments.pop("share"), tree_arguments.pop("scale")
        trees = XGBClassifier(**tree_parameters(tree_arguments, seed, threads))
        pipeline = Pipeline([("features", tree_features(frame, signature)), ("model", trees)])
        model = LogOddsBlend(additive, pipeline, share=share, scale=scale)
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(frame, labels, weights)
    if trees is not None:
        trees.set_params(n_jobs=None)
        trees.get_booster().set_param({"nthread": 0})
    return FittedModel(Pipeline([("model", model)]), signature)


def tree_parameters(parameters: Mapping[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """Arguments of an XGBoost model over histograms."""
    return {"tree_method": "hist", "random_state": seed, "n_jobs": threads, **parameters}
