"""Fitting, exporting, quantizing and parity of every candidate, on a small set with a known law."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import numpy_helper

from nightshift.core.compression.networks.int8_dynamic import int8_dynamic
from nightshift.core.compression.networks.int8_static import int8_static
from nightshift.core.compression.networks.quantization import TOLERANCE
from nightshift.core.compression.problem import Problem
from nightshift.core.compression.students import students
from nightshift.core.compression.techniques import apply
from nightshift.core.evaluation import evaluate
from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.parity import probe_rows
from nightshift.core.inference.onnx_model import Signature, load_session, score
from nightshift.core.models import estimators
from nightshift.core.models.estimators import fit_estimator
from nightshift.core.models.fitted import FittedModel, hyperparameters
from nightshift.core.models.preprocessing import MOST_CATEGORIES
from nightshift.core.search.candidates import RECIPES
from nightshift.core.search.measurement import measure
from support.model_parity import ParityError, check_parity, in_batches
from support.problems import problem_of
from support.synthetic_training_set import CATEGORICAL, NUMERIC, SIGNATURE, training_split, use_case

FITTED = (*estimators.DEFAULTS, *students.DEFAULTS)
SPLIT = training_split()


def fit(name: str, signature: Signature = SIGNATURE) -> FittedModel:
    overrides = use_case().training.parameters
    if name in estimators.DEFAULTS:
        parameters = hyperparameters(name, estimators.DEFAULTS, overrides, SPLIT.train.num_rows)
        return fit_estimator(name, SPLIT.train, SPLIT.train_labels, signature, parameters, seed=7, threads=2)
    teacher = fit("xgboost", signature) if signature != SIGNATURE else fitted("xgboost")
    return apply((name,), teacher, problem(teacher))


def problem(teacher: FittedModel) -> Problem:
    return problem_of(SPLIT, [teacher], seed=7, threads=2, parameters=use_case().training.parameters)


@cache
def fitted(name: str) -> FittedModel:
    return fit(name)


def answers(model: bytes, signature: Signature = SIGNATURE) -> Any:
    return partial(score, load_session(model, 1), signature)


@pytest.mark.parametrize("name", FITTED)
def test_export_parity_on_strange_rows(name: str) -> None:
    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    graph = export_onnx(fitted(name))
    worst = check_parity(fitted(name).probability, answers(graph), probes, 1e-5, what=name)
    assert worst < 1e-5
    assert [output.name for output in onnx.ModelProto.FromString(graph).graph.output] == ["probability"]


@pytest.mark.parametrize("name", FITTED)
def test_models_learn_the_law(name: str) -> None:
    metrics = evaluate(SPLIT.holdout_labels, fitted(name).probability(SPLIT.holdout))
    assert metrics.auc > 0.72
    assert metrics.log_loss < 0.66


@pytest.mark.parametrize("name", FITTED)
def test_fitting_twice_gives_the_same_bytes(name: str) -> None:
    assert export_onnx(fit(name)) == export_onnx(fitted(name))


def digests() -> str:
    models = {name: fitted(name) for name in FITTED}
    for name in ("xgboost_small", "distilled_mlp_low_rank", "distilled_additive_small"):
        source, *techniques = RECIPES[name]
        models[name] = apply(techniques, models[source], problem(models[source]))
    return " ".join(hashlib.sha256(export_onnx(model)).hexdigest() for model in models.values())


def test_hash_seed_does_not_change_bytes() -> None:
    here = Path(__file__).parent
    other = subprocess.run(
        [sys.executable, "-c", f"import {Path(__file__).stem} as this; print(this.digests())"],
        # The rest of the environment may choose another BLAS kernel, and with it the last digits.
        env={
            **os.environ,
            "PYTHONHASHSEED": "1",
            "PYTHONPATH": f"{here}:{here.parents[2]}:{here.parents[3] / 'include'}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == digests()


def test_another_seed_gives_another_model() -> None:
    parameters = hyperparameters("xgboost", estimators.DEFAULTS, use_case().training.parameters, 1000)
    other = fit_estimator("xgboost", SPLIT.train, SPLIT.train_labels, SIGNATURE, parameters, seed=8, threads=2)
    assert export_onnx(other) != export_onnx(fitted("xgboost"))


def test_unseen_and_missing_categories_are_ignored() -> None:
    few = SPLIT.holdout.slice(0, 10)
    unseen = few.set_column(few.schema.get_field_index("carrier"), "carrier", pa.array(["??"] * 10))
    other = few.set_column(few.schema.get_field_index("carrier"), "carrier", pa.array(["!!"] * 10))
    model = answers(export_onnx(fitted("xgboost")))
    np.testing.assert_array_equal(model(unseen), model(other))


@pytest.mark.parametrize("name", FITTED)
def test_without_categorical_features_the_graph_has_one_input(name: str) -> None:
    signature = SIGNATURE.model_copy(update={"categorical": ()})
    model = fit(name, signature)
    graph = export_onnx(model)
    assert [i.name for i in onnx.ModelProto.FromString(graph).graph.input] == ["numeric"]
    check_parity(model.probability, answers(graph, signature), probe_rows(SPLIT.holdout, signature), 1e-5, what=name)


def test_linear_models_do_not_extrapolate() -> None:
    few = SPLIT.holdout.slice(0, 10)
    field = few.schema.get_field_index("wind")
    far = few.set_column(field, "wind", pa.array([1e6] * 10))
    farther = few.set_column(field, "wind", pa.array([1e30] * 10))
    model = fitted("logistic_regression")
    np.testing.assert_array_equal(model.probability(far), model.probability(farther))


def test_only_the_most_frequent_categories_get_a_column() -> None:
    features = fitted("xgboost").pipeline.named_steps["features"]
    planes = features.named_transformers_["categorical"].categories_[1]
    assert len(planes) == MOST_CATEGORIES
    assert list(planes) == sorted(planes)


def _lose_missing_routing(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type.startswith("TreeEnsemble"):
            for attribute in node.attribute:
                if attribute.name == "nodes_missing_value_tracks_true":
                    attribute.ints[:] = [1 - value for value in attribute.ints]


def _shift_base_score(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "base_values":
                attribute.floats[:] = [value + 0.01 for value in attribute.floats]


def _forget_a_category(graph: onnx.GraphProto) -> None:
    encoder = next(node for node in graph.node if node.op_type == "OneHotEncoder")
    next(a for a in encoder.attribute if a.name == "cats_strings").strings[0] = b"forgotten"


@pytest.mark.parametrize(
    ("damage", "named"),
    [(_lose_missing_routing, "rate missing"), (_shift_base_score, "as delivered"), (_forget_a_category, "flight=")],
)
def test_a_broken_export_is_caught_and_the_rows_are_named(damage: Any, named: str) -> None:
    broken = onnx.ModelProto.FromString(export_onnx(fitted("xgboost")))
    damage(broken.graph)
    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    with pytest.raises(ParityError, match=named) as caught:
        check_parity(
            fitted("xgboost").probability,
            answers(broken.SerializeToString()),
            probes,
            1e-5,
            what="toy xgboost",
            key=("flight_date", "flight"),
        )
    assert "toy xgboost" in str(caught.value)
    assert "became" in str(caught.value)


def test_answers_that_are_no_probabilities_are_no_parity() -> None:
    probes = probe_rows(SPLIT.holdout, SIGNATURE)

    def nonsense(table: pa.Table) -> np.ndarray:
        return np.full(table.num_rows, np.nan)

    with pytest.raises(ParityError, match="nan became nan"):
        check_parity(nonsense, nonsense, probes, 1e-5, what="nonsense")


def test_probes_make_each_feature_strange_in_each_way() -> None:
    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    assert probes.rows.num_rows == len(probes.strangeness) > SPLIT.holdout.num_rows
    assert set(probes.strangeness) >= {f"{name} missing" for name in (*NUMERIC, *CATEGORICAL)}
    assert set(probes.strangeness) >= {f"{name} unseen" for name in CATEGORICAL}
    assert probes.rows.schema == SPLIT.holdout.schema


WIDE = {"distilled_mlp": {"hidden_layer_sizes": (128, 64), "max_iter": 5, "batch_size": 128}}


@pytest.mark.parametrize("technique", [int8_dynamic, int8_static])
def test_int8_is_smaller_and_near_full_precision(technique: Any) -> None:
    given = problem_of(SPLIT, [fitted("xgboost")], seed=7, threads=1, parameters=WIDE)
    network = apply(("distilled_mlp",), fitted("xgboost"), given)
    graph, quantized = export_onnx(network), technique(network, given).graph
    assert technique(network, given).graph == quantized
    assert len(quantized) < 0.85 * len(graph)
    kinds = {numpy_helper.to_array(i).dtype.name for i in onnx.ModelProto.FromString(quantized).graph.initializer}
    assert "int8" in kinds
    probes = probe_rows(SPLIT.holdout, SIGNATURE)
    whole = answers(quantized)
    moved = check_parity(answers(graph), whole, probes, TOLERANCE, what="int8")
    assert moved > 1e-6
    in_small_batches = np.abs(whole(probes.rows) - in_batches(whole, probes.rows, rows=64))
    if technique is int8_static:
        assert in_small_batches.max() == 0
    else:
        # The scale of the activations is that of the batch: its strangest row decides how exact the others are.
        assert np.quantile(in_small_batches, 0.99) <= TOLERANCE
        assert in_small_batches.max() <= 2 * TOLERANCE


def test_costs_are_measured() -> None:
    costs = measure(export_onnx(fitted("distilled_mlp")), SIGNATURE, SPLIT.holdout)
    assert costs["rows_per_second"] > 1000
    assert 0 < costs["single_row_p50_ms"] <= costs["single_row_p99_ms"]


def test_trees_that_found_nothing_to_split_on_are_exported_right() -> None:
    # The converter gets this wrong: the base score comes out as if it were log odds.
    parameters = {"n_estimators": 5, "min_child_weight": 1e9}
    model = fit_estimator("xgboost", SPLIT.train, SPLIT.train_labels, SIGNATURE, parameters, seed=7, threads=1)
    assert len(set(model.probability(SPLIT.holdout))) == 1
    check_parity(
        model.probability, answers(export_onnx(model)), probe_rows(SPLIT.holdout, SIGNATURE), 1e-5, what="constant"
    )


@pytest.mark.parametrize("name", FITTED)
def test_a_few_hundred_rows_are_enough_to_fit_with_the_defaults(name: str) -> None:
    few = training_split(rows_per_day=20)
    if name in estimators.DEFAULTS:
        parameters = hyperparameters(name, estimators.DEFAULTS, {}, few.train.num_rows)
        model = fit_estimator(name, few.train, few.train_labels, SIGNATURE, parameters, seed=7, threads=1)
    else:
        soft = np.where(few.train_labels == 1, 0.9, 0.1)
        given = Problem(few.train, few.train_labels, soft, seed=7, threads=1)
        model = apply((name,), fitted("xgboost"), given)
    assert evaluate(few.holdout_labels, model.probability(few.holdout)).auc > 0.6
