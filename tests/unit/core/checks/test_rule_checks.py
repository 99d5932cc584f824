"""Monitoring rules that name what drift is never computed of."""

from __future__ import annotations

import dataclasses

import pytest

from nightshift.core.checks.rule_checks import rule_faults
from nightshift.declare.discovery import load_use_case
from nightshift.declare.rules import DriftSignal, Rule


@pytest.mark.parametrize(
    ("signal", "codes"),
    [
        (DriftSignal("data", source="weather", column="wind_speed_mph", statistic="unseen"), []),
        (DriftSignal("data", source="origin_weather"), []),
        (DriftSignal("data", source="weather", column=""), []),
        (DriftSignal("concept", column="carrier=UA"), []),
        (DriftSignal("concept", source="outcomes", column=""), []),
        (DriftSignal("label", column="is_late"), []),
        (DriftSignal("prediction", source="scores", column="raw_score"), []),
        (DriftSignal("skew", source="flight_form"), []),
        (DriftSignal("data", column="departure_hours_later_than_last_week"), []),
        (DriftSignal("skew", column="departure_hours_later_than_last_week"), ["NS-RULE-014"]),
        (DriftSignal("data", statistic="psi"), ["NS-RULE-012"]),
        (DriftSignal("data", source="wether"), ["NS-RULE-013"]),
        (DriftSignal("skew", source="weather"), ["NS-RULE-013"]),
        (DriftSignal("concept", source="weather"), ["NS-RULE-013"]),
        (DriftSignal("data", source="weather", column="wind"), ["NS-RULE-014"]),
        (DriftSignal("concept", column="dest=BOS"), ["NS-RULE-014"]),
        (DriftSignal("label", column="late", statistic="psi"), ["NS-RULE-012", "NS-RULE-014"]),
    ],
)
def test_names_are_compared_with_the_use_case(signal: DriftSignal, codes: list[str]) -> None:
    use_case = load_use_case("flight_delay")
    changed = dataclasses.replace(use_case, rules=(*use_case.rules, Rule("one", (signal,), then="alert")))
    faults = list(rule_faults(changed))
    assert [one.code for one in faults] == codes
    assert all("one" in one.at for one in faults)


def test_a_fault_says_what_was_meant() -> None:
    use_case = load_use_case("flight_delay")
    rule = Rule("one", (DriftSignal("data", source="wether"),), then="alert")
    (fault,) = rule_faults(dataclasses.replace(use_case, rules=(rule,)))
    assert "weather" in fault.advice
