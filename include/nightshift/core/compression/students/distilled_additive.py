"""Distillation into a sum of piecewise linear functions, one for each feature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats, Integers
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.students import hyperparameters_of, soft_labels, soft_log_odds
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.estimators import FittedModel
from nightshift.core.models.evaluation import log_loss
from nightshift.core.models.preprocessing import feature_frame, piecewise_linear_features

LEAST_GAIN_OF_CATEGORIES = 1e-3
"""In log loss (nats). Strings take half of such a model's scoring time, so they are kept only for this gain."""


def distilled_additive(model: FittedModel, problem: Problem) -> FittedModel:
    """An additive model of the teacher's log odds, fitted in closed form. Applies to every teacher.

    Rows weigh p (1 - p), so that least squares are the teacher's log loss to second order. Models of
    this kind explain a teacher (Tan et al. 2018, arXiv:1801.08640); here one replaces it. Without
    interactions it cannot memorise single days, so on new days it is often better than its teacher.
    Categorical features are kept only if that lowers the log loss of the validation rows by
    LEAST_GAIN_OF_CATEGORIES; without them the graph has no string input.
    """

    def fit(signature: Signature, positions: Integers) -> FittedModel:
        return fit_additive(signature, problem, positions)

    return fit(worthwhile_features(model.signature, problem, fit), np.arange(problem.train.num_rows))


def worthwhile_features(
    signature: Signature, problem: Problem, fit: Callable[[Signature, Integers], FittedModel]
) -> Signature:
    """The signature without its categorical features, unless they lower the validation loss enough (see above).

    `fit(signature, positions)` fits an additive model on the training rows at `positions`.
    """
    numbers_only = signature.model_copy(update={"categorical": ()})
    if not (signature.categorical and signature.numeric):
        return signature
    older = np.setdiff1d(np.arange(problem.train.num_rows), problem.validation)
    newest = problem.train.take(problem.validation)
    labels = problem.labels[problem.validation]
    everything, numbers = (log_loss(labels, fit(kept, older).probability(newest)) for kept in (signature, numbers_only))
    return signature if everything <= numbers - LEAST_GAIN_OF_CATEGORIES else numbers_only


def fit_additive(signature: Signature, problem: Problem, positions: Integers) -> FittedModel:
    """The additive student of the features in a signature, fitted on the training rows at `positions`."""
    frame = feature_frame(problem.train.take(positions), signature)
    parameters = hyperparameters_of("distilled_additive", problem)
    features = piecewise_linear_features(frame, signature, parameters["knots"])
    soft = soft_labels(problem)[positions]
    weights: Floats = soft * (1 - soft)
    ridge = Ridge(alpha=parameters["penalty"] * len(positions), solver="cholesky")
    pipeline = Pipeline([("features", features), ("model", ridge)])
    with threadpool_limits(limits=1, user_api="blas"):
        pipeline.fit(
            frame, soft_log_odds(problem)[positions].astype(np.float32), model__sample_weight=weights / weights.mean()
        )
    return FittedModel(pipeline, signature, answer="log odds")
