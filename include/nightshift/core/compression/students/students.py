"""What all students share: the teacher's clipped probabilities, and hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nightshift.core.arrays import Floats
from nightshift.core.compression.problem import Problem
from nightshift.core.models.fitted import hyperparameters
from nightshift.declare.models import Hyperparameters

DEFAULTS: Mapping[str, Hyperparameters] = {
    "distilled_xgboost": {
        "n_estimators": 80,
        "max_depth": 5,
        "learning_rate": 0.2,
        "colsample_bytree": 0.8,
        "min_child_weight": 5,
        "max_bin": 128,
    },
    "distilled_mlp": {
        "hidden_layer_sizes": (32, 16),
        "batch_size": 512,
        "learning_rate_init": 5e-4,
        "alpha": 1e-3,
        "max_iter": 6,
    },
    "distilled_additive": {"knots": 3, "penalty": 8e-3},
}
"""Hyperparameters; a use case's `training.parameters[<student>]` override them. `penalty` is per training row."""

LEAST_CERTAINTY = 1e-4
"""Teacher probabilities are clipped to [1e-4, 1 - 1e-4]: the log odds of 0 and 1 are infinite."""


def hyperparameters_of(student: str, problem: Problem) -> Hyperparameters:
    """All hyperparameters of a student for a problem."""
    return hyperparameters(student, DEFAULTS, problem.parameters, problem.train.num_rows)


def soft_labels(problem: Problem) -> Floats:
    """The teacher's probabilities of the training rows [n], clipped by LEAST_CERTAINTY."""
    return np.clip(problem.teacher, LEAST_CERTAINTY, 1 - LEAST_CERTAINTY)


def soft_log_odds(problem: Problem) -> Floats:
    """`soft_labels` as log odds [n]."""
    soft = soft_labels(problem)
    return np.asarray(np.log(soft / (1 - soft)))
