"""What each compression technique promises, on a small set with a known law."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.core.compression.networks.low_rank import low_rank
from nightshift.core.compression.networks.magnitude_pruning import magnitude_pruning
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students.select_features import select_features
from nightshift.core.compression.techniques import TECHNIQUES, apply
from nightshift.core.compression.trees.boosted_trees import (
    Ensemble,
    Leaf,
    Node,
    Split,
    nodes,
    read_ensemble,
    with_ensemble,
)
from nightshift.core.compression.trees.clean_up import clean_up, cleaned
from nightshift.core.compression.trees.prune_trees import prune_trees
from nightshift.core.compression.trees.round_values import round_values
from nightshift.core.compression.trees.select_trees import select_trees
from nightshift.core.evaluation import evaluate, log_loss
from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.parity import probe_rows
from nightshift.core.inference.onnx_model import load_session, score
from nightshift.core.models import estimators
from nightshift.core.models.estimators import fit_estimator
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.network import layers_of
from nightshift.core.search.candidates import RECIPES
from nightshift.errors import NotApplicable
from support.errors import raises_code
from support.fitting import fit
from support.model_parity import check_parity
from support.problems import problem_of
from support.synthetic_training_set import SIGNATURE, training_split, use_case

SPLIT = training_split()
PARAMETERS = {**use_case().training.parameters, "xgboost": {"n_estimators": 60, "max_depth": 4, "learning_rate": 0.2}}
TREE_TECHNIQUES = (clean_up, prune_trees, select_trees, round_values)
NETWORK_TECHNIQUES = (low_rank, magnitude_pruning)


@cache
def fitted(name: str) -> FittedModel:
    if name in TECHNIQUES:
        return apply((name,), fitted("xgboost"), problem("xgboost"))
    return fit(name, SPLIT, overrides=PARAMETERS, threads=1)


@cache
def problem(teacher: str) -> Problem:
    return problem_of(SPLIT, [fitted(teacher)], seed=7, threads=1, parameters=PARAMETERS)


def size(model: FittedModel) -> int:
    return sum(len(nodes(tree)) for tree in read_ensemble(model).trees)


def validation_loss(model: FittedModel, given: Problem) -> float:
    rows = given.validation
    return log_loss(given.labels[rows], model.probability(given.train.take(rows)))


def test_validation_rows_are_the_newest_days() -> None:
    given = problem("xgboost")
    days = np.array(given.train["partition"].to_pylist())
    newest, older = set(days[given.validation]), set(days[given.fitting])
    assert min(newest) > max(older)
    assert 0.1 < len(given.validation) / len(days) < 0.3


def test_several_teachers_answer_with_the_mean_of_their_log_odds() -> None:
    both = [fitted("xgboost"), fitted("logistic_regression")]
    answers = problem_of(SPLIT, both, seed=7, threads=1, parameters={}).teacher
    single = [model.probability(SPLIT.train) for model in both]
    assert np.all(answers <= np.maximum(*single) + 1e-9)
    assert np.all(answers >= np.minimum(*single) - 1e-9)
    np.testing.assert_allclose(problem("xgboost").teacher, single[0], atol=1e-9)


def test_trees_read_and_written_back_answer_the_same() -> None:
    model = fitted("xgboost")
    again = with_ensemble(model, read_ensemble(model))
    np.testing.assert_array_equal(again.probability(SPLIT.holdout), model.probability(SPLIT.holdout))
    assert read_ensemble(again) == read_ensemble(model)


def leaf(value: float) -> Leaf:
    return Leaf(np.float32(value), 1.0)


def split(feature: int, threshold: float, missing_left: bool, left: Node, right: Node) -> Split:
    return Split(feature, np.float32(threshold), missing_left, left, right, 2.0)


def answer(node: Node, row: list[float]) -> float:
    while isinstance(node, Split):
        value = row[node.feature]
        left = node.missing_left if np.isnan(value) else value < node.threshold
        node = node.left if left else node.right
    return float(node.value)


def test_branches_that_no_value_reaches_are_dropped() -> None:
    never = split(0, 5.0, False, leaf(1), leaf(2))
    tree = split(0, 3.0, False, never, leaf(4))
    assert cleaned(Ensemble((tree,), 0.0)).trees == (split(0, 3.0, False, leaf(1), leaf(4)),)


def test_a_branch_that_only_a_missing_value_reaches_stays() -> None:
    tree = split(0, 3.0, True, split(0, 5.0, False, leaf(1), leaf(2)), leaf(4))
    assert cleaned(Ensemble((tree,), 0.0)).trees == (tree,)


def test_equal_children_duplicates_and_single_leaves() -> None:
    same = split(1, 2.0, True, leaf(7), leaf(7))
    tree = split(0, 3.0, True, leaf(1), leaf(2))
    result = cleaned(Ensemble((same, tree, leaf(0.5), tree), 0.25))
    assert result.trees == (split(0, 3.0, True, leaf(2), leaf(4)),)
    assert result.base_margin == 7.75


LEAVES = st.integers(0, 2).map(float).map(leaf)
TREES = st.recursive(
    LEAVES,
    lambda below: st.builds(split, st.integers(0, 1), st.integers(0, 3).map(float), st.booleans(), below, below),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=4))
def test_cleaning_up_never_changes_an_answer_and_never_grows(trees: list[Node]) -> None:
    small = cleaned(Ensemble(tuple(trees), 0.0))
    assert sum(len(nodes(tree)) for tree in small.trees) <= sum(len(nodes(tree)) for tree in trees)
    values = [float("nan"), -1.0, 0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 9.0]
    for row in ([a, b] for a in values for b in values):
        expected = sum(answer(tree, row) for tree in trees)
        assert small.base_margin + sum(answer(tree, row) for tree in small.trees) == pytest.approx(expected)


def test_clean_up_of_a_fitted_model_answers_within_1e_6() -> None:
    model = fitted("xgboost")
    ensemble = read_ensemble(model)
    doubled = with_ensemble(model, Ensemble((*ensemble.trees, *ensemble.trees[:9], leaf(0.1)), ensemble.base_margin))
    small = clean_up(doubled, problem("xgboost"))
    assert len(read_ensemble(small).trees) <= len(ensemble.trees)
    np.testing.assert_allclose(small.probability(SPLIT.holdout), doubled.probability(SPLIT.holdout), atol=1e-6)


def test_an_ensemble_that_is_cleaned_away_answers_its_base_score() -> None:
    model = with_ensemble(fitted("xgboost"), Ensemble((leaf(0.3),), -0.5))
    small = clean_up(model, problem("xgboost"))
    np.testing.assert_allclose(small.probability(SPLIT.holdout), 1 / (1 + np.exp(0.2)), atol=1e-6)
    check_parity(small.probability, answers_of(small), probe_rows(SPLIT.holdout, SIGNATURE), 1e-6, what="nothing left")


@pytest.mark.parametrize("technique", [prune_trees, select_trees])
def test_trees_get_fewer_and_cost_no_more_than_the_tolerance(technique: Any) -> None:
    model, given = fitted("xgboost"), problem("xgboost")
    small = technique(model, given)
    assert size(small) < 0.9 * size(model)
    assert validation_loss(small, given) <= validation_loss(model, given) + 3e-3 + 1e-5
    stricter = dataclasses.replace(given, parameters={technique.__name__: {"tolerance": 3e-2}})
    assert size(technique(model, stricter)) < size(small)


def test_pruning_leaves_that_say_the_same_costs_nothing() -> None:
    model = fitted("xgboost")
    same = split(0, 0.5, True, leaf(0.1), split(1, 9.0, True, leaf(0.1), leaf(0.1)))
    base = read_ensemble(model).base_margin
    small = prune_trees(
        with_ensemble(model, Ensemble((same, split(0, 0.4, True, leaf(-1), leaf(1))), base)), given_free()
    )
    assert read_ensemble(small).trees[0] == leaf(0.1)
    assert isinstance(read_ensemble(small).trees[1], Split)


def given_free() -> Problem:
    return dataclasses.replace(problem("xgboost"), parameters={"prune_trees": {"tolerance": 0.0}})


def test_rounding_keeps_training_rows_in_their_leaves() -> None:
    model, given = fitted("xgboost"), problem("xgboost")
    small = round_values(model, given)
    before, after = read_ensemble(model), read_ensemble(small)
    for old, new in zip(before.trees, after.trees, strict=True):
        features = model.pipeline[:-1].transform(
            estimators.feature_frame(SPLIT.train, SIGNATURE)  # the same for both
        )
        for one, other in zip(nodes(old), nodes(new), strict=True):
            if isinstance(one, Split) and isinstance(other, Split):
                column = features[:, one.feature]
                np.testing.assert_array_equal(column < one.threshold, column < other.threshold)
    assert validation_loss(small, given) <= validation_loss(model, given) + 1e-4 + 1e-6
    assert len(zlib.compress(export_onnx(small))) < 0.9 * len(zlib.compress(export_onnx(model)))


@cache
def network() -> FittedModel:
    wide = {"distilled_mlp": {"hidden_layer_sizes": (48, 24), "max_iter": 12, "batch_size": 128}}
    return apply(("distilled_mlp",), fitted("xgboost"), dataclasses.replace(problem("xgboost"), parameters=wide))


def weights(model: FittedModel) -> int:
    return sum(layer.weights.size for layer in layers_of(model.pipeline[-1]) or ())


@pytest.mark.parametrize("technique", NETWORK_TECHNIQUES)
def test_pruned_networks_stay_within_the_tolerance(technique: Any) -> None:
    given = problem_of(SPLIT, [network()], seed=7, threads=1, parameters={})
    small = technique(network(), given)
    assert weights(small) < weights(network())
    assert validation_loss(small, given) <= validation_loss(network(), given) + 1e-2 + 1e-6


def answers_of(model: FittedModel) -> Callable[[pa.Table], np.ndarray]:
    return partial(score, load_session(model.graph or export_onnx(model), 1), model.signature)


NOTHING_TO_GAIN = {
    "xgboost_int8": "NS-MODEL-014",
    "logistic_regression_int8": "NS-MODEL-015",
    "distilled_mlp_small": "NS-MODEL-015",
}
"""Trees, and graphs so small here that int8 would make them larger."""


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_exports_the_same_bytes_twice(name: str) -> None:
    made_from, *techniques = RECIPES[name]
    source = network() if made_from == "distilled_mlp" else fitted(made_from)
    given = problem_of(SPLIT, [source], seed=7, threads=1, parameters={})
    if name in NOTHING_TO_GAIN:
        with raises_code(NotApplicable, NOTHING_TO_GAIN[name], "int8"):
            apply(techniques, source, given)
        return
    small = apply(techniques, source, given)
    again = apply(techniques, source, given)
    assert (again.graph, export_onnx(again)) == (small.graph, export_onnx(small))
    np.testing.assert_array_equal(again.probability(SPLIT.holdout), small.probability(SPLIT.holdout))
    probes = probe_rows(SPLIT.holdout, small.signature)
    full_precision = partial(score, load_session(export_onnx(small), 1), small.signature)
    assert check_parity(small.probability, full_precision, probes, 1e-5, what=name) < 1e-5
    loss = evaluate(SPLIT.holdout_labels, answers_of(small)(SPLIT.holdout)).log_loss
    assert loss < evaluate(SPLIT.holdout_labels, source.probability(SPLIT.holdout)).log_loss + 0.03


def test_additive_students_drop_useless_categories() -> None:
    assert fitted("distilled_additive").signature.categorical == SIGNATURE.categorical
    numbers = SIGNATURE.model_copy(update={"categorical": ()})
    blind = fit_estimator(
        "logistic_regression", SPLIT.train, SPLIT.train_labels, numbers, {"C": 1.0}, seed=7, threads=1
    )
    given = problem_of(SPLIT, [blind], seed=7, threads=1, parameters={})
    student = apply(("distilled_additive",), fitted("xgboost"), given)
    assert student.signature.categorical == ()
    assert [i.name for i in onnx.ModelProto.FromString(export_onnx(student)).graph.input] == ["numeric"]


def test_useless_features_are_left_out() -> None:
    small = select_features(fitted("distilled_additive"), problem("xgboost"))
    assert "rate" in small.signature.numeric
    assert not {"constant", "never_known"} & set(small.signature.numeric)


@pytest.mark.parametrize(
    ("technique", "name", "code"),
    [
        *((technique.__name__, "logistic_regression", "NS-MODEL-018") for technique in TREE_TECHNIQUES),
        *((technique.__name__, "logistic_regression", "NS-MODEL-012") for technique in NETWORK_TECHNIQUES),
        *((technique.__name__, "distilled_mlp", "NS-MODEL-018") for technique in TREE_TECHNIQUES),
        *((technique.__name__, "xgboost", "NS-MODEL-012") for technique in NETWORK_TECHNIQUES),
        ("int8_dynamic", "xgboost", "NS-MODEL-014"),
        ("int8_static", "xgboost", "NS-MODEL-014"),
        ("select_features", "xgboost", "NS-MODEL-016"),
        ("select_features", "distilled_mlp", "NS-MODEL-016"),
    ],
)
def test_a_technique_that_does_not_apply_says_so(technique: str, name: str, code: str) -> None:
    with raises_code(NotApplicable, code, technique):
        apply((technique,), fitted(name), problem("xgboost"))


@pytest.mark.parametrize(
    ("technique", "code"),
    [
        ("int8_dynamic", "NS-MODEL-013"),
        ("int8_static", "NS-MODEL-013"),
        ("low_rank", "NS-MODEL-011"),
        ("magnitude_pruning", "NS-MODEL-011"),
    ],
)
def test_what_is_quantized_is_not_changed_again(technique: str, code: str) -> None:
    with raises_code(NotApplicable, code, technique):
        apply((technique,), dataclasses.replace(network(), graph=b"int8"), problem("xgboost"))
