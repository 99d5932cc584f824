"""The leakage gate: single features that give the outcome away."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.evaluation import area_under_curve
from nightshift.core.gates.leakage import check_leakage, single_feature_auc
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.training_split import TrainingSplit, split_training_set
from nightshift.declare.policies import VerificationPolicy
from nightshift.deployment import GateResult
from support.synthetic_training_set import NUMERIC, SIGNATURE, training_table, use_case

TABLE = training_table()
DECLARED = use_case().features
LATE = TABLE["is_late"].to_numpy()
RNG = np.random.default_rng(0)


def with_column(name: str, values: pa.Array) -> TrainingSplit:
    return split_training_set(TABLE.append_column(name, values), "is_late")


def verdict(split: TrainingSplit, extra: str = "", *, declared: bool = True, categorical: bool = False) -> GateResult:
    added = (extra,) if extra else ()
    kind = "categorical" if categorical else "numeric"
    signature = SIGNATURE.model_copy(update={kind: (*getattr(SIGNATURE, kind), *added)})
    table = dataclasses.replace(DECLARED.tables[0], **{kind: getattr(signature, kind)})
    features = dataclasses.replace(DECLARED, tables=(table,)) if declared else DECLARED
    return check_leakage(signature, features, split, VerificationPolicy(largest_single_feature_auc=0.85))


def test_leakage_passes_and_names_the_best_feature() -> None:
    result = verdict(split_training_set(TABLE, "is_late"))
    assert (result.verdict, result.code) == ("pass", "")
    assert "rate" in result.reason
    assert result.observed is not None
    assert 0.6 < result.observed < 0.85


def test_leakage_of_dep_delay_fails_by_name() -> None:
    delay = pa.array(RNG.normal(0, 10, len(LATE)))
    result = verdict(with_column("dep_delay", delay), "dep_delay", declared=False)
    assert (result.verdict, result.code) == ("fail", "leakage.undeclared")
    assert "['dep_delay']" in result.reason


def test_leakage_of_dep_delay_fails_by_auc_if_declared() -> None:
    delay = pa.array(40 * LATE + RNG.normal(0, 12, len(LATE)))
    for values in (delay, pa.array(-delay.to_numpy())):
        result = verdict(with_column("dep_delay", values), "dep_delay")
        assert (result.verdict, result.code) == ("fail", "leakage.auc")
        assert 0.9 < result.observed < 1
        assert "dep_delay" in result.reason


def test_being_missing_can_be_the_leak() -> None:
    air_time = pa.array(RNG.normal(100, 10, len(LATE)), mask=(LATE == 1) & (RNG.random(len(LATE)) < 0.95))
    result = verdict(with_column("air_time", air_time), "air_time")
    assert (result.verdict, result.code) == ("fail", "leakage.auc")
    assert "air_time" in result.reason


def test_a_category_can_be_the_leak() -> None:
    status = pa.array(np.where(LATE == 1, "after", "before"))
    result = verdict(with_column("status", status), "status", categorical=True)
    assert (result.verdict, result.code, result.observed) == ("fail", "leakage.auc", 1.0)
    assert "status" in result.reason


def test_another_feature_service_is_named() -> None:
    signature = SIGNATURE.model_copy(update={"feature_service": "other_v9"})
    result = check_leakage(signature, DECLARED, split_training_set(TABLE, "is_late"), VerificationPolicy())
    assert (result.verdict, result.code) == ("fail", "leakage.service")
    assert "other_v9" in result.reason


@pytest.mark.parametrize("at", [-1e9, 1e9])
def test_missing_values_rank_as_if_they_were_filled(at: float) -> None:
    split = split_training_set(TABLE, "is_late")
    signature = Signature(numeric=("pressure",), feature_service="toy_v1", score="p")
    filled = split.holdout["pressure"].fill_null(at).to_numpy()
    auc = area_under_curve(split.holdout_labels, filled.astype(np.float32).astype(np.float64))
    assert single_feature_auc(signature, split)["pressure"] >= max(auc, 1 - auc) - 1e-12
    assert set(single_feature_auc(SIGNATURE, split)) == {*NUMERIC, "carrier", "plane"}
