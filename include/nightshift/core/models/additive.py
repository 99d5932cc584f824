"""A sum of piecewise linear functions, one for each feature, fitted on labels.

The same form as the student `distilled_additive`, as the ablation of distillation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats, Integers
from nightshift.core.evaluation import log_loss
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame, piecewise_linear_features
from nightshift.core.models.training_split import validation_rows
from nightshift.declare.models import Hyperparameters, number

LEAST_GAIN_OF_CATEGORIES = 1e-3
"""In log loss (nats). Strings take half of such a model's scoring time, so they are kept only for this gain."""


def fit_additive(
    train: pa.Table,
    labels: Integers,
    signature: Signature,
    parameters: Hyperparameters,
    *,
    seed: int,
    weights: Floats | None,
) -> FittedModel:
    """A logistic regression on piecewise linear features. Rows have the column `partition`; `weights`: [n] or None.

    `penalty` is per training row and means the same as the student's: least squares with the weights p (1 - p)
    are the log loss to second order, so C = 1 / (penalty * rows * rate * (1 - rate)). Categorical features are
    kept only if they help on the newest rows (`worthwhile_features`).
    """

    def fit(kept: Signature, positions: Integers) -> FittedModel:
        frame, own = feature_frame(train.take(positions), kept), labels[positions]
        rate = min(max(float(own.mean()), 1 / (len(own) + 1)), 1 - 1 / (len(own) + 1))
        model = LogisticRegression(
            C=1 / (number(parameters, "penalty") * len(own) * rate * (1 - rate)),
            solver="newton-cholesky",  # columns overlap: L-BFGS needs hundreds of iterations
            max_iter=number(parameters, "max_iter"),
            random_state=seed,
        )
        features = piecewise_linear_features(frame, kept, int(number(parameters, "knots")))
        pipeline = Pipeline([("features", features), ("model", model)])
        with threadpool_limits(limits=1, user_api="blas"):
            pipeline.fit(frame, own, model__sample_weight=None if weights is None else weights[positions])
        return FittedModel(pipeline, kept)

    return fit(worthwhile_features(signature, train, labels, validation_rows(train), fit), np.arange(train.num_rows))


def worthwhile_features(
    signature: Signature,
    train: pa.Table,
    labels: Integers,
    validation: Integers,
    fit: Callable[[Signature, Integers], FittedModel],
) -> Signature:
    """The signature without its categorical features, unless they lower the log loss by LEAST_GAIN_OF_CATEGORIES.

    `fit(signature, positions)` fits an additive model on the rows of `train` at `positions`; the loss is that of the
    rows at `validation`, fitted on the others.
    """
    numbers_only = signature.model_copy(update={"categorical": ()})
    if not (signature.categorical and signature.numeric):
        return signature
    older = np.setdiff1d(np.arange(train.num_rows), validation)
    newest = train.take(validation)
    everything, numbers = (
        log_loss(labels[validation], fit(kept, older).probability(newest)) for kept in (signature, numbers_only)
    )
    return signature if everything <= numbers - LEAST_GAIN_OF_CATEGORIES else numbers_only
