"""What becomes of a model that passed its gates, or did not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.gates import ALWAYS, CANDIDATE_GATES
from nightshift.core.model_life import Life, Trial
from nightshift.core.promotion import SAYS, outcome
from nightshift.deployment import Deployment, GateResult
from nightshift.io.verified_candidates import VerifiedCandidate
from nightshift.policies import Risk, RiskPolicy

DAY = date(2020, 1, 20)
FAILED = GateResult(gate="latency", verdict="fail", reason="p99 of 30 ms")
RISKY = RiskPolicy(risks=(Risk("burns", 2, 4, "the house is gone"),))


def _deployed(version: str) -> Deployment:
    return Deployment(partition=DAY, action="promoted", role="champion", model_version=version, decided_by="register")


CHAMPION = Life(champion=_deployed("c"), fallback=_deployed("f"))


def test_a_refused_model_is_rejected_whatever_else_there_is() -> None:
    for life in (Life(), CHAMPION, replace(CHAMPION, trial=Trial(_deployed("t"), "canary", DAY))):
        found = outcome(life, [FAILED], approval=False)
        assert (found.action, found.role) == ("rejected", "challenger")
        assert found.why == "latency: p99 of 30 ms"


def test_the_first_model_is_champion_unless_somebody_must_approve() -> None:
    assert outcome(Life(fallback=_deployed("f")), [], approval=False).action == "promoted"
    assert outcome(Life(fallback=_deployed("f")), [], approval=False).role == "champion"
    waits = outcome(Life(fallback=_deployed("f")), [], approval=True)
    assert (waits.action, waits.role) == ("shadow", "challenger")
    assert "beside f" in waits.why


def test_a_challenger_begins_in_shadow_beside_what_serves() -> None:
    assert "beside c" in outcome(CHAMPION, [], approval=False).why
    killed = replace(CHAMPION, killed=_deployed("c"))
    found = outcome(killed, [], approval=False)
    assert found.action == "shadow"
    assert "beside f" in found.why


@pytest.mark.parametrize("stage", ["shadow", "canary", "standby"])
def test_one_model_is_on_trial_at_a_time(stage: Any) -> None:
    found = outcome(replace(CHAMPION, trial=Trial(_deployed("t"), stage, DAY)), [], approval=False)
    assert (found.action, found.role) == ("shelved", "challenger")
    assert f"t {SAYS[stage]} since 2020-01-20" in found.why


def _candidate(verdicts: dict[str, str], **verification: Any) -> VerifiedCandidate:
    gates = [GateResult(gate=gate, verdict=verdict, reason="r").model_dump() for gate, verdict in verdicts.items()]  # type: ignore[arg-type]
    ref = ArtifactRef(uri="s3://b/e/", sha256="e", kind="onnx_model")
    return VerifiedCandidate("xgboost", ref, {"candidate": "xgboost", **verification}, {"gates": gates, "auc": 0.7})


def test_a_missing_verdict_is_a_refusal() -> None:
    complete = dict.fromkeys(CANDIDATE_GATES, "pass")
    assert _candidate(complete).refusals(RISKY) == []
    for gate in CANDIDATE_GATES:
        (refusal,) = _candidate({name: verdict for name, verdict in complete.items() if name != gate}).refusals(RISKY)
        assert refusal.gate == gate
        assert "no verdict" in refusal.reason
    assert len(_candidate({}).refusals(RISKY)) == len(CANDIDATE_GATES)


def test_the_risk_says_which_gates_may_not_fail() -> None:
    slow = _candidate({**dict.fromkeys(CANDIDATE_GATES, "pass"), "latency": "fail"})
    assert [refusal.gate for refusal in slow.refusals(RISKY)] == ["latency"]
    assert slow.refusals(RiskPolicy()) == []
    other = _candidate({**dict.fromkeys(CANDIDATE_GATES, "pass"), "parity_fitted": "fail"})
    assert "parity_fitted" in ALWAYS
    assert [refusal.gate for refusal in other.refusals(RiskPolicy())] == ["parity_fitted"]


def test_gates_against_models_in_service_are_not_asked_of_candidates() -> None:
    assert _candidate(dict.fromkeys(CANDIDATE_GATES, "not applicable"), not_applicable="no trees").refusals(RISKY) == []


def test_only_plain_numbers_go_to_trackers() -> None:
    assert _candidate({}).numbers == {"auc": 0.7}
