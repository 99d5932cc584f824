"""Which features a version's scores come from, by its graph alone."""

from __future__ import annotations

import pytest

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.models.explanations import explain
from support.fitting import fit
from support.synthetic_training_set import CATEGORICAL, NUMERIC, SIGNATURE, training_split

SPLIT = training_split()


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_features_are_listed_once_by_importance(name: str) -> None:
    model = fit(name, SPLIT, threads=1)
    graph = export_onnx(model)
    found = explain(graph, SIGNATURE, SPLIT.holdout, SPLIT.holdout_labels, seed=1)
    assert sorted(feature for feature, _ in found.features) == sorted((*NUMERIC, *CATEGORICAL))
    assert [feature for feature, _ in found.features][:2] == ["rate", "carrier"]
    importance = dict(found.features)
    assert importance["constant"] == importance["never_known"] == 0
    assert importance["rate"] > 0.05
    assert found == explain(graph, SIGNATURE, SPLIT.holdout, SPLIT.holdout_labels, seed=1)
