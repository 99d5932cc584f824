from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import xgboost

from nightshift.core.estimators import DEFAULTS, FittedModel, fit_estimator, hyperparameters
from nightshift.core.explanations import Explanation, explain
from nightshift.core.onnx_export import export_onnx
from nightshift.core.preprocessing import feature_frame
from synthetic_training_set import CATEGORICAL, NUMERIC, SIGNATURE, training_split, use_case

SPLIT = training_split()


def _fitted(name: str) -> FittedModel:
    parameters = hyperparameters(name, DEFAULTS, use_case().training.parameters, SPLIT.train.num_rows)
    return fit_estimator(name, SPLIT.train, SPLIT.train_labels, SIGNATURE, parameters, seed=7, threads=1)


@pytest.fixture(scope="module", params=["logistic_regression", "xgboost"])
def fitted(request: pytest.FixtureRequest) -> FittedModel:
    return _fitted(request.param)


def _explained(model: FittedModel, seed: int = 1) -> Explanation:
    return explain(model, export_onnx(model), SPLIT.holdout, SPLIT.holdout_labels, seed=seed)


def test_each_feature_is_there_once_and_what_decides_comes_first(fitted: FittedModel) -> None:
    found = _explained(fitted)
    expected = {"logistic_regression": "linear contributions", "xgboost": "TreeSHAP"}
    names = {"LogisticRegression": "logistic_regression", "XGBClassifier": "xgboost"}
    assert found.method == expected[names[type(fitted.pipeline[-1]).__name__]]
    assert sorted(name for name, _ in found.features) == sorted((*NUMERIC, *CATEGORICAL))
    assert [name for name, _ in found.features][:2] == ["rate", "carrier"]
    importance = dict(found.features)
    assert importance["constant"] == importance["never_known"] == 0
    assert found == _explained(fitted)
    json.dumps(found.to_json(), allow_nan=False)


def test_contributions_of_a_feature_are_summed_before_their_size_is_taken() -> None:
    """Against XGBoost itself, whose columns of `carrier` are the three after the numeric ones."""
    model = _fitted("xgboost")
    found = _explained(model)
    rng = np.random.default_rng(1)
    taken = np.sort(rng.choice(SPLIT.holdout.num_rows, size=500, replace=False))
    columns = model.pipeline[:-1].transform(feature_frame(SPLIT.holdout.take(taken), SIGNATURE))
    contributions = model.pipeline[-1].get_booster().predict(xgboost.DMatrix(columns), pred_contribs=True)
    carriers = contributions[:, 5:8].sum(axis=1)
    assert dict(found.features)["carrier"] == pytest.approx(np.abs(carriers).mean())
    assert np.abs(contributions[:, 5:8]).sum(axis=1).mean() > dict(found.features)["carrier"]


def test_a_graph_that_answers_otherwise_is_explained_by_permutation() -> None:
    model = _fitted("xgboost")
    graph = export_onnx(model)
    found = explain(dataclasses.replace(model, graph=graph), graph, SPLIT.holdout, SPLIT.holdout_labels, seed=1)
    assert found.method == "permutation"
    assert found.features[0][0] == "rate"
    assert dict(found.features)["constant"] == 0
    assert found.features[0][1] > 0.05
