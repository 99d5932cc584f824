"""What the declared risks demand, and that a mandatory gate without a result fails."""

import pytest

from nightshift.core.gates.registry import failures
from nightshift.core.gates.risk import demands
from nightshift.core.gates.verification import GATES, VERSION_GATES
from nightshift.declare.policies import Risk, RiskPolicy
from nightshift.deployment import GateResult

ALWAYS = {gate.name for gate in GATES if gate.always}


def said(gate, verdict):
    return GateResult(gate=gate, verdict=verdict, reason="because")


def risk(likelihood, impact):
    return Risk("delays are missed", likelihood, impact, "everybody waits")


def test_failed_mandatory_gate_rejects():
    assert failures([said("latency", "fail"), said("leakage", "pass")], ("latency", "leakage")) == [
        said("latency", "fail")
    ]


def test_a_gate_that_is_not_mandatory_does_not():
    assert failures([said("latency", "fail"), said("leakage", "pass")], ("leakage",)) == []


def test_gate_that_does_not_apply_is_no_rejection():
    assert failures([said("behaviour", "not applicable")], ("behaviour",)) == []


def test_a_missing_result_is_a_failure():
    (missing,) = failures([said("leakage", "pass")], ("leakage", "latency"))
    assert (missing.gate, missing.verdict, missing.code) == ("latency", "fail", "latency.no_result")


def test_without_risks_the_unconditional_gates_are_mandatory():
    found = demands(RiskPolicy())
    assert (found.score, found.approval) == (0, False)
    assert set(found.mandatory) == ALWAYS


def test_the_highest_risk_decides():
    policy = RiskPolicy(risks=(risk(1, 1), risk(4, 2)), every_gate_from=8, approval_from=15)
    found = demands(policy)
    assert (found.score, found.approval) == (8, False)
    assert found.mandatory == VERSION_GATES
    assert demands(RiskPolicy(risks=(risk(5, 3),))).approval


@pytest.mark.parametrize(("likelihood", "impact"), [(0, 3), (6, 3), (3, 0), (3, 6)])
def test_risk_score_beyond_the_matrix_is_an_error(likelihood, impact):
    with pytest.raises(ValueError, match="1 to 5"):
        risk(likelihood, impact)


def test_gates_have_one_name_each():
    assert len(set(VERSION_GATES)) == len(VERSION_GATES)
    assert set(VERSION_GATES) >= ALWAYS
