"""The gate on declared behaviour: increasing, decreasing, irrelevant features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightshift.core.evaluation import calibration_bins, calibration_error
from nightshift.core.gates.behaviour import check_behaviour, observe_behaviour
from nightshift.core.inference.onnx_model import Signature
from nightshift.declare.policies import BehaviourExpectation
from nightshift.deployment import GateResult
from nightshift.documents.train import ObservedBehaviour
from nightshift.errors import ConfigurationError
from support.errors import raises_code

SIGNATURE = Signature(numeric=("hour", "noise"), categorical=("colour",), feature_service="s", score="p")
RNG = np.random.default_rng(0)
ROWS = {
    "numeric": RNG.uniform(0, 1, (400, 2)).astype(np.float32),
    "categorical": RNG.choice(["red", "blue"], (400, 1)).astype(object),
}


def score(feed: dict[str, Any]) -> np.ndarray:
    """Up with the hour, but down with it where the noise is high; red adds 0.2."""
    hour, noise = feed["numeric"][:, 0], feed["numeric"][:, 1]
    red = feed["categorical"][:, 0] == "red"
    return np.asarray(0.4 + 0.3 * hour * np.where(noise > 0.9, -1, 1) + 0.2 * red, np.float64)


def verdict(*expectations: BehaviourExpectation) -> GateResult:
    return check_behaviour(observe_behaviour(score, ROWS, ROWS, SIGNATURE, expectations), expectations)


def expect(feature: str, direction: Any, share: float = 0.05) -> BehaviourExpectation:
    return BehaviourExpectation(feature, direction, "that is how it is", largest_share=share)


def test_an_expectation_holds_on_enough_rows() -> None:
    result = verdict(expect("hour", "increasing", share=0.2))
    assert result.verdict == "pass"
    assert result.observed == pytest.approx(0.1, abs=0.03)


def test_violated_expectation_names_reason_and_rows() -> None:
    for result in (
        verdict(expect("hour", "increasing")),
        verdict(expect("noise", "invariant"), expect("hour", "decreasing")),
    ):
        assert (result.verdict, result.code) == ("fail", "behaviour.violated")
        assert result.observed > result.bound == 0.05
        assert "hour" in result.reason
        assert "that is how it is" in result.reason


def test_a_category_may_be_declared_irrelevant() -> None:
    result = verdict(expect("colour", "invariant"))
    assert (result.code, result.observed) == ("behaviour.violated", 1.0)
    with raises_code(ConfigurationError, "NS-GATE-002", "colour"):
        verdict(expect("colour", "increasing"))


def test_behaviour_of_an_unread_feature_is_not_applicable() -> None:
    result = verdict(expect("moon_phase", "invariant"))
    assert (result.verdict, result.code) == ("not applicable", "behaviour.none_read")


def test_without_expectations_the_gate_is_not_applicable() -> None:
    result = verdict()
    assert (result.verdict, result.code) == ("not applicable", "behaviour.none_declared")


def test_bins_are_those_of_the_calibration_error() -> None:
    scores = RNG.uniform(0, 1, 1000)
    labels = (RNG.random(1000) < scores**2).astype(np.int64)
    bins = calibration_bins(labels, scores)
    error = sum(abs(b.mean_score - b.observed_rate) * b.rows for b in bins) / 1000
    assert error == pytest.approx(calibration_error(labels, scores))


def test_behaviour_not_applicable_if_no_feature_is_read():
    expected = (BehaviourExpectation("wind", "increasing", "more wind, more delay"),)
    observed = [ObservedBehaviour(feature="wind", direction="increasing", share=0.0, worst=0.0, read=False)]
    found = check_behaviour(observed, expected)
    assert found.verdict == "not applicable"


def test_no_answer_is_no_good_behaviour():
    expected = BehaviourExpectation("rate", "increasing", "more of it, more delay")
    feed = {"numeric": np.zeros((4, 1), np.float32)}
    signature = Signature(numeric=("rate",), feature_service="s", score="p")
    training = {"numeric": np.arange(8, dtype=np.float32).reshape(-1, 1)}
    observed = observe_behaviour(lambda given: np.full(4, np.nan), feed, training, signature, (expected,))
    assert check_behaviour(observed, (expected,)).verdict == "fail"
