"""Distillation into a small network."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.students import hyperparameters_of, soft_log_odds
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import bounded_features, feature_frame


def distilled_mlp(model: FittedModel, problem: Problem) -> FittedModel:
    """A perceptron fitted on the teacher's log odds (Hinton et al. 2015). Applies to every teacher."""
    frame = feature_frame(problem.train, model.signature)
    parameters = hyperparameters_of("distilled_mlp", problem)
    network = MLPRegressor(random_state=problem.seed, **parameters)
    pipeline = Pipeline([("features", bounded_features(frame, model.signature)), ("model", network)])
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        # Training stops after a fixed number of epochs; that is not a failure to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(frame, soft_log_odds(problem).astype(np.float32))
    return FittedModel(pipeline, model.signature, output="log odds")
