"""A sum of piecewise linear functions, one for each feature, fitted on labels.

The same form as the student `distilled_additive`, as the ablation of distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats, Integers
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.distilled_additive import worthwhile_features
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.estimators import FittedModel
from nightshift.core.models.preprocessing import feature_frame, piecewise_linear_features


def fit_additive(
    train: pa.Table,
    labels: Integers,
    signature: Signature,
    parameters: Mapping[str, Any],
    *,
    seed: int,
    weights: Floats | None,
) -> FittedModel:
    """A logistic regression on piecewise linear features. Rows have the column `partition`; `weights`: [n] or None.

    `penalty` is per training row and means the same as the student's: least squares with the weights p (1 - p)
    are the log loss to second order, so C = 1 / (penalty * rows * rate * (1 - rate)). Categorical features are
    kept under the student's condition (`worthwhile_features`).
    """

    def fit(kept: Signature, positions: Integers) -> FittedModel:
        frame, own = feature_frame(train.take(positions), kept), labels[positions]
        rate = min(max(float(own.mean()), 1 / (len(own) + 1)), 1 - 1 / (len(own) + 1))
        model = LogisticRegression(
            C=1 / (parameters["penalty"] * len(own) * rate * (1 - rate)),
            solver="newton-cholesky",  # columns overlap: L-BFGS needs hundreds of iterations
            max_iter=parameters["max_iter"],
            random_state=seed,
        )
        features = piecewise_linear_features(frame, kept, parameters["knots"])
        pipeline = Pipeline([("features", features), ("model", model)])
        with threadpool_limits(limits=1, user_api="blas"):
            pipeline.fit(frame, own, model__sample_weight=None if weights is None else weights[positions])
        return FittedModel(pipeline, kept)

    problem = Problem(train, labels, labels.astype(np.float64), seed=seed, threads=1)
    return fit(worthwhile_features(signature, problem, fit), np.arange(train.num_rows))
