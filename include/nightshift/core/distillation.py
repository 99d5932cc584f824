"""Small models fitted on a large one's answers: the students.

A teacher's probability says more about a row than its label does, so a student that learns from it
needs fewer parameters than one that learns from labels (Bucila et al. 2006; Hinton et al. 2015).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from xgboost import XGBClassifier, XGBRegressor

from nightshift.core.estimators import FittedModel, tree_parameters
from nightshift.core.onnx_model import Signature
from nightshift.core.preprocessing import bounded_features, feature_frame, tree_features

Floats = npt.NDArray[np.float64]

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "distilled_xgboost": {
        "n_estimators": 80,
        "max_depth": 5,
        "learning_rate": 0.2,
        "colsample_bytree": 0.8,
        "min_child_weight": 5,
        "max_bin": 128,
    },
    "distilled_mlp": {
        "hidden_layer_sizes": (64, 32),
        "batch_size": 512,
        "learning_rate_init": 2e-3,
        "alpha": 1e-4,
        "max_iter": 12,
    },
}
"""Hyperparameters; a use case's `training.parameters[<technique>]` win over them."""

LEAST_CERTAINTY = 1e-4
"""Teachers are not believed beyond this: the log odds of 0 and 1 are infinite."""


def fit_student(
    name: str,
    train: pa.Table,
    teacher: Floats,
    signature: Signature,
    parameters: Mapping[str, Any],
    *,
    seed: int,
    threads: int,
) -> FittedModel:
    """Fit a technique of DEFAULTS on rows and the teacher's probabilities for them, with its full hyperparameters."""
    frame = feature_frame(train, signature)
    soft = np.clip(teacher, LEAST_CERTAINTY, 1 - LEAST_CERTAINTY)
    if name == "distilled_xgboost":
        features = tree_features(frame, signature).fit(frame)
        arguments = tree_parameters(parameters, seed, threads)
        # The classifier refuses soft labels, though its loss takes them, and the ONNX converter
        # leaves the sigmoid out for the regressor: so fit as the one and go on as the other.
        regressor = XGBRegressor(objective="binary:logistic", **arguments)
        regressor.fit(features.transform(frame), soft)
        model = XGBClassifier(**arguments | {"n_jobs": None})
        model.load_model(regressor.get_booster().save_raw("ubj"))
        return FittedModel(Pipeline([("features", features), ("model", model)]), signature)
    network = MLPRegressor(random_state=seed, **parameters)
    pipeline = Pipeline([("features", bounded_features(frame, signature)), ("model", network)])
    log_odds = np.log(soft / (1 - soft)).astype(np.float32)
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        # A fixed number of epochs is how it stops, not a failure to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(frame, log_odds)
    return FittedModel(pipeline, signature, answer="log odds")
