"""Feature selection for the additive student."""

from __future__ import annotations

import numpy as np

from nightshift.core.arrays import Floats, Integers
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.distilled_additive import fit_additive
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import PiecewiseLinearScaler, feature_frame
from nightshift.declare.models import number
from nightshift.errors import NotApplicable

DEFAULTS = {"resemblance": 0.97}
"""Least share of the variance of the full student's log odds that the smaller one explains, on the validation rows."""


def select_features(model: FittedModel, problem: Problem) -> FittedModel:
    """The additive student refitted on the fewest numeric features that reproduce it.

    A feature's importance is the standard deviation of its function over the training rows. Their number is found
    by bisection: students of the most important ones, fitted on older rows, are compared with the full student on
    the validation rows. (A comparison with labels would depend on a few days, on which fewer features can look
    better than they are.) The graph then has fewer inputs, and scoring reads fewer features. Raises
    NotApplicable for models that are not additive, or if all features are needed.
    """
    scaler = model.pipeline[0].named_transformers_["numeric"]
    if not isinstance(scaler, PiecewiseLinearScaler) or model.graph is not None:
        raise NotApplicable("NS-MODEL-016", "this is for additive students, and the model is none")
    names = np.array(model.signature.numeric)
    order = names[np.argsort(-_importance(model, problem), kind="stable")].tolist()
    older = np.setdiff1d(np.arange(problem.train.num_rows), problem.validation)
    least = number(problem.settings("select_features", DEFAULTS), "resemblance")
    whole = _student_log_odds(model, order, problem, older)
    fewest, most = 1, len(order)
    while fewest < most:
        middle = (fewest + most) // 2
        if 1 - np.var(_student_log_odds(model, order[:middle], problem, older) - whole) / np.var(whole) >= least:
            most = middle
        else:
            fewest = middle + 1
    if most == len(order):
        raise NotApplicable(
            "NS-MODEL-017", f"all {len(order)} numeric features are needed for a student that resembles the whole one"
        )
    return _student(model, order[:most], problem, np.arange(problem.train.num_rows))


def _importance(model: FittedModel, problem: Problem) -> Floats:
    """For each numeric feature, the standard deviation of its term in the log odds."""
    scaler: PiecewiseLinearScaler = model.pipeline[0].named_transformers_["numeric"]
    rows = feature_frame(problem.train.take(problem.fitting), model.signature)
    values = scaler.transform(rows.iloc[:, : len(model.signature.numeric)].to_numpy(dtype=np.float32))
    width, indicated = len(scaler.mean_), len(scaler.indicated_)
    of_column = np.concatenate([np.arange(width), scaler.indicated_, *[np.arange(width)] * len(scaler.knots_)])
    added = values * model.pipeline[-1].coef_[: width + indicated + scaler.knots_.size]
    return np.array([added[:, of_column == column].sum(axis=1).std() for column in range(width)])


def _student(model: FittedModel, names: list[str], problem: Problem, positions: Integers) -> FittedModel:
    numeric = tuple(name for name in model.signature.numeric if name in set(names))
    return fit_additive(model.signature.model_copy(update={"numeric": numeric}), problem, positions)


def _student_log_odds(model: FittedModel, names: list[str], problem: Problem, older: Integers) -> Floats:
    """Log odds of the validation rows by a student fitted on older rows."""
    scores = _student(model, names, problem, older).probability(problem.train.take(problem.validation))
    return np.asarray(np.log(scores / (1 - scores)))
