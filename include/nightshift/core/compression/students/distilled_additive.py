"""Distillation into a sum of piecewise linear functions, one for each feature."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats, Integers
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.students import hyperparameters_of, soft_labels, soft_log_odds
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.additive import worthwhile_features
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame, piecewise_linear_features
from nightshift.declare.models import number


def distilled_additive(model: FittedModel, problem: Problem) -> FittedModel:
    """An additive model of the teacher's log odds, fitted in closed form. Applies to every teacher.

    Rows weigh p (1 - p), so that least squares are the teacher's log loss to second order. Models of
    this kind explain a teacher (Tan et al. 2018, arXiv:1801.08640); here one replaces it. Without
    interactions it cannot memorise single days, so on new days it is often better than its teacher.
    Categorical features are kept only if they help on the validation rows (`worthwhile_features`); without them the
    graph has no string input.
    """

    def fit(signature: Signature, positions: Integers) -> FittedModel:
        return fit_additive(signature, problem, positions)

    kept = worthwhile_features(model.signature, problem.train, problem.labels, problem.validation, fit)
    return fit(kept, np.arange(problem.train.num_rows))


def fit_additive(signature: Signature, problem: Problem, positions: Integers) -> FittedModel:
    """The additive student of the features in a signature, fitted on the training rows at `positions`."""
    frame = feature_frame(problem.train.take(positions), signature)
    parameters = hyperparameters_of("distilled_additive", problem)
    features = piecewise_linear_features(frame, signature, int(number(parameters, "knots")))
    soft = soft_labels(problem)[positions]
    weights: Floats = soft * (1 - soft)
    ridge = Ridge(alpha=number(parameters, "penalty") * len(positions), solver="cholesky")
    pipeline = Pipeline([("features", features), ("model", ridge)])
    with threadpool_limits(limits=1, user_api="blas"):
        pipeline.fit(
            frame, soft_log_odds(problem)[positions].astype(np.float32), model__sample_weight=weights / weights.mean()
        )
    return FittedModel(pipeline, signature, output="log odds")
