"""Which features a version's scores come from, by its graph alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.models.explanations import effects, explain
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


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_effects_of_one_row_tell_it_from_the_others(name: str) -> None:
    graph = export_onnx(fit(name, SPLIT, threads=1))
    scores = score(load_session(graph), SIGNATURE, SPLIT.holdout)
    row = int(np.argmax(scores))
    found = effects(graph, SIGNATURE, SPLIT.holdout, row, seed=1)
    assert sorted(one.feature for one in found) == sorted((*NUMERIC, *CATEGORICAL))
    by_name = {one.feature: one for one in found}
    assert found[0].feature == "rate"
    assert found[0].log_odds > 0.5
    assert by_name["rate"].value == np.float32(SPLIT.holdout["rate"][row].as_py())
    assert by_name["constant"].log_odds == pytest.approx(0, abs=1e-9)
    assert by_name["never_known"].log_odds == pytest.approx(0, abs=1e-9)
    assert by_name["never_known"].shown == "missing"


def test_effects_of_an_additive_model_add_up() -> None:
    """Without interactions, the row's log odds are the mean of the others' plus all effects."""
    graph = export_onnx(fit("logistic_regression", SPLIT, threads=1))
    rows = SPLIT.holdout.slice(0, 40)
    scores = score(load_session(graph), SIGNATURE, rows)
    log_odds = np.log(scores / (1 - scores))
    total = sum(one.log_odds for one in effects(graph, SIGNATURE, rows, 7, seed=1))
    assert total == pytest.approx(log_odds[7] - np.delete(log_odds, 7).mean(), abs=1e-4)


def test_a_single_row_has_no_effects() -> None:
    graph = export_onnx(fit("logistic_regression", SPLIT, threads=1))
    found = effects(graph, SIGNATURE, pa.table(SPLIT.holdout.slice(0, 1)), 0, seed=1)
    assert {one.log_odds for one in found} == {0.0}
