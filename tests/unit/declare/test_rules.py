"""Declarations of monitoring rules: what is rejected when a use case is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_args

import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.declare.rules import DEFAULT_RULES, DriftSignal, Kind, LossSignal, MissingPublication, Rule
from nightshift.documents.check_drift import DriftKind
from nightshift.errors import ConfigurationError
from support.errors import raises_code

CONCEPT = (DriftSignal("concept"),)
MISSING = (MissingPublication(),)


@pytest.mark.parametrize(
    ("code", "declare"),
    [
        ("NS-RULE-001", lambda: DriftSignal("concepts")),  # type: ignore[arg-type]
        ("NS-RULE-002", lambda: DriftSignal("concept", least_excess=0)),
        ("NS-RULE-002", lambda: DriftSignal("concept", least_excess=float("nan"))),
        ("NS-RULE-003", lambda: LossSignal("champion", 0.1)),  # type: ignore[arg-type]
        ("NS-RULE-004", lambda: LossSignal("fallback", float("inf"))),
        ("NS-RULE-004", lambda: LossSignal("fallback", 0.1, least_rows=0)),
        ("NS-RULE-005", lambda: Rule("With spaces", CONCEPT, then="alert")),
        ("NS-RULE-005", lambda: Rule("", CONCEPT, then="alert")),
        ("NS-RULE-006", lambda: Rule("one", (), then="alert")),
        ("NS-RULE-006", lambda: Rule("one", ("concept",), then="alert")),  # type: ignore[arg-type]
        ("NS-RULE-007", lambda: Rule("one", CONCEPT, then="retrain")),  # type: ignore[arg-type]
        ("NS-RULE-008", lambda: Rule("one", CONCEPT, then="alert", at_least=0)),
        ("NS-RULE-008", lambda: Rule("one", CONCEPT, then="alert", at_least=3, of_last=2)),
        ("NS-RULE-008", lambda: Rule("one", CONCEPT, then="alert", of_last=91)),
        ("NS-RULE-009", lambda: Rule("one", MISSING, then="alert")),
        ("NS-RULE-009", lambda: Rule("one", MISSING, then="alert", at_least=2, of_last=2)),
    ],
)
def test_a_faulty_rule_is_rejected(code: str, declare: Callable[[], object]) -> None:
    with raises_code(ConfigurationError, code):
        declare()


def test_two_rules_of_one_name_are_rejected() -> None:
    rules = (*DEFAULT_RULES, Rule("label_drift", CONCEPT, then="hold"))
    with raises_code(ConfigurationError, "NS-RULE-010", "label_drift"):
        dataclasses.replace(load_use_case("flight_delay"), rules=rules)


def test_every_kind_of_drift_can_be_a_signal() -> None:
    assert set(get_args(DriftKind)) <= set(get_args(Kind))


def test_a_rule_may_look_back_ninety_partitions() -> None:
    assert Rule("one", MISSING, then="alert", of_last=90).of_last == 90
