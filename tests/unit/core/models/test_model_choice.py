"""Evaluation, and the training set's split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.evaluation import area_under_curve, calibration_error, evaluate, log_loss
from nightshift.core.models.training_split import split_training_set
from nightshift.errors import DataContractError
from support.errors import raises_code
from support.synthetic_training_set import training_table


def with_both_classes(pairs: list[tuple[int, int]]) -> bool:
    return len({label for label, _ in pairs}) == 2


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60).filter(with_both_classes))
def test_metrics_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in pairs])
    probability = np.array([p for _, p in pairs]) / 20
    metrics = evaluate(labels, probability)
    assert metrics.auc == pytest.approx(sklearn.metrics.roc_auc_score(labels, probability))
    assert metrics.brier == pytest.approx(sklearn.metrics.brier_score_loss(labels, probability))
    clipped = np.clip(probability, np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    assert metrics.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, clipped))


def test_certain_and_wrong_is_dear_but_finite() -> None:
    assert 15 < log_loss(np.array([1, 1]), np.array([0.0, 0.0])) < 17


def test_ties_count_half() -> None:
    assert area_under_curve(np.array([0, 1]), np.array([0.5, 0.5])) == 0.5


def test_calibration_error_is_the_distance_from_what_happens() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.1, 0.9, 20_000)
    labels = (rng.random(20_000) < probability).astype(np.int64)
    assert calibration_error(labels, probability) < 0.02
    assert calibration_error(labels, probability + 0.1) == pytest.approx(0.1, abs=0.02)


def test_a_training_set_is_split_by_time() -> None:
    table = training_table(20)
    split = split_training_set(table, "is_late")
    assert split.train.num_rows + split.holdout.num_rows == table.num_rows
    assert max(split.train["partition"].to_pylist()) < min(split.holdout["partition"].to_pylist())


def test_holdout_that_is_not_newer_is_rejected() -> None:
    table = training_table(20)
    swapped = pa.array(["holdout" if s == "train" else "train" for s in table["split"].to_pylist()])
    with raises_code(DataContractError, "NS-TRAIN-004"):
        split_training_set(table.set_column(table.schema.get_field_index("split"), "split", swapped), "is_late")


@pytest.mark.parametrize("part", ["train", "holdout"])
def test_part_with_one_class_or_no_rows_is_an_error(part: str) -> None:
    table = training_table(20)
    kept = [
        not (s == part and late)
        for s, late in zip(table["split"].to_pylist(), table["is_late"].to_pylist(), strict=True)
    ]
    with raises_code(DataContractError, "NS-TRAIN-003", part):
        split_training_set(table.filter(pa.array(kept)), "is_late")
    with raises_code(DataContractError, "NS-TRAIN-003", part):
        split_training_set(table.filter(pc.not_equal(table["split"], part)), "is_late")
