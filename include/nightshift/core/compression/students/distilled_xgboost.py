"""Distillation into a smaller boosted model."""

from __future__ import annotations

from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier, XGBRegressor

from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.students import hyperparameters_of, soft_labels
from nightshift.core.models.estimators import tree_parameters
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.preprocessing import feature_frame, tree_features


def distilled_xgboost(model: FittedModel, problem: Problem) -> FittedModel:
    """Trees fitted on the teacher's probabilities (Bucila et al. 2006). Applies to every teacher."""
    frame = feature_frame(problem.train, model.signature)
    features = tree_features(frame, model.signature).fit(frame)
    parameters = hyperparameters_of("distilled_xgboost", problem)
    arguments = tree_parameters(parameters, problem.seed, problem.threads)
    # The classifier rejects soft labels, though its loss supports them, and the ONNX converter
    # omits the sigmoid for the regressor: so fit a regressor and load its trees into a classifier.
    regressor = XGBRegressor(objective="binary:logistic", **arguments)
    regressor.fit(features.transform(frame), soft_labels(problem))
    trees = XGBClassifier(**{**arguments, "n_jobs": None})
    trees.load_model(regressor.get_booster().save_raw("ubj"))
    return FittedModel(Pipeline([("features", features), ("model", trees)]), model.signature)
