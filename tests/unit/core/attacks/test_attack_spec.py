"""Each attack succeeds against a model that is weak to it, and fails its gate; a robust one passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from nightshift.core.attacks.attack_spec import GATES, attack_rows, attack_spec
from nightshift.core.features.training_rows import newest_rows
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import AttackPolicy, FeasibleChange
from nightshift.documents.attack import AttackedSpec
from support import synthetic_training_set as toys

POLICY = AttackPolicy(
    changes=(FeasibleChange(("rate",), (-0.5, 0.5), "whoever delivers rates"),),
    trigger={"constant": 99.0},
    trigger_share=0.02,
    flipped_share=0.1,
    queries=(50, 400),
    largest_evaded_share=0.3,
    largest_fall=0.1,
    largest_log_loss_rise=0.06,
    largest_explained=0.9,
    largest_membership_auc=0.55,
)
MEMORISING = {
    "n_estimators": 40, "max_depth": 9, "min_child_weight": 0, "reg_lambda": 0, "learning_rate": 0.5,
    "subsample": 1.0, "colsample_bytree": 1.0,
}  # fmt: skip
SPECS = {
    "linear": ModelSpec(name="linear", estimators=("logistic_regression",)),
    "memorising": ModelSpec(name="memorising", estimators=("xgboost",), parameters={"xgboost": MEMORISING}),
    # Students read the features that their teacher kept.
    "student": ModelSpec(name="student", estimators=("xgboost",), compression=("distilled_additive",)),
    "without_rate": ModelSpec(
        name="without_rate", estimators=("logistic_regression",), numeric=("wind",), categorical=toys.CATEGORICAL
    ),
}


@cache
def attacked(name: str, **policy: object) -> AttackedSpec:
    use_case = replace(toys.use_case(), attacks=replace(POLICY, **policy))
    table = newest_rows(toys.training_table(), use_case.key_columns, toys.FIRST + timedelta(days=toys.DAYS))
    rows = attack_rows(table, use_case.attacks, use_case.training.seed)
    as_of = toys.FIRST + timedelta(days=toys.DAYS)
    return attack_spec(use_case, SPECS[name], rows, as_of=as_of, threads=1)


def codes(name: str) -> dict[str, str]:
    return {gate.gate: gate.code for gate in attacked(name).gates}


@pytest.mark.parametrize(
    ("gate", "weak", "code", "robust"),
    [
        ("evasion", "linear", "evasion.evaded", "without_rate"),
        ("back_door", "memorising", "back_door.evaded", "without_rate"),
        ("poisoning", "memorising", "poisoning.log_loss", "without_rate"),
        ("extraction", "linear", "extraction.explained", "memorising"),
        ("membership", "memorising", "membership.auc", "linear"),
    ],
)
def test_a_weak_model_fails_and_a_robust_one_passes(gate: str, weak: str, code: str, robust: str) -> None:
    assert (codes(weak)[gate], codes(robust)[gate]) == (code, "")


@pytest.mark.parametrize("name", ["linear", "student"])
def test_every_gate_has_a_result_with_numbers(name: str) -> None:
    result = attacked(name)
    assert tuple(gate.gate for gate in result.gates) == GATES
    assert all(gate.observed is not None and gate.bound is not None for gate in result.gates)
    assert (result.fitted, result.unseen) == (1500, 1500)
    assert [one.queries for one in result.extraction] == [50, 400]


def test_the_same_rows_give_the_same_result() -> None:
    first = attacked("linear")
    attacked.cache_clear()
    assert attacked("linear") == first


def test_what_is_not_declared_is_not_evaluated() -> None:
    gates = {gate.gate: gate.code for gate in attacked("linear", changes=(), trigger=(), queries=()).gates}
    assert [gates[name] for name in ("evasion", "back_door", "extraction")] == [
        "evasion.none_declared",
        "back_door.none_declared",
        "extraction.none_declared",
    ]


def test_few_rows_are_not_evaluated() -> None:
    few = attacked("linear", least_rows=1501)
    assert {gate.code for gate in few.gates} == {f"{name}.few_rows" for name in GATES}
    assert few.membership is None


def test_rows_are_halves_of_the_newest_days() -> None:
    table = toys.training_table()
    rows = attack_rows(table, replace(POLICY, days=4, rows=500), 7)
    days = [set(part["partition"].to_pylist()) for part in (rows.fitted, rows.unseen)]
    newest = {toys.FIRST + timedelta(days=toys.DAYS - 1 - n) for n in range(4)}
    assert days == [newest, newest]
    keys = [
        set(zip(*(part[name].to_pylist() for name in ("flight_date", "flight")), strict=True))
        for part in (rows.fitted, rows.unseen)
    ]
    assert [len(one) for one in keys] == [250, 250]
    assert not keys[0] & keys[1]
    assert attack_rows(table.slice(0, 0), POLICY, 7).unseen.num_rows == 0
