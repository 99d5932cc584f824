"""The stability gate: how far a small step of one feature moves the scores."""

from __future__ import annotations

import numpy as np
import pytest

from nightshift.core.gates.stability import check_stability, step_moves, stepped
from nightshift.core.inference.onnx_model import Signature
from nightshift.declare.policies import VerificationPolicy
from nightshift.documents.train import StepMove

SIGNATURE = Signature(numeric=("steady", "steep"), feature_service="s", score="p")
RNG = np.random.default_rng(0)
TRAINING = RNG.uniform(0, 1, (2000, 2)).astype(np.float32)


def test_a_step_is_the_next_value_of_a_feature_with_few() -> None:
    weekdays = np.array([1, 2, 3, 5, np.nan], np.float32)
    lower, higher = stepped(np.array([1, 3, 4, 5, 9, np.nan], np.float32), weekdays)
    np.testing.assert_array_equal(lower, np.array([1, 2, 3, 3, 5, np.nan], np.float32))
    np.testing.assert_array_equal(higher, np.array([2, 5, 5, 5, 9, np.nan], np.float32))


def test_a_step_is_a_tenth_of_the_interquartile_range_otherwise() -> None:
    training = np.arange(1001, dtype=np.float32)
    lower, higher = stepped(np.array([500, np.nan], np.float32), training)
    np.testing.assert_array_equal(lower, np.array([450, np.nan], np.float32))
    np.testing.assert_array_equal(higher, np.array([550, np.nan], np.float32))


def test_step_size_of_a_mostly_constant_feature() -> None:
    rain = np.concatenate([np.zeros(900), np.arange(100)]).astype(np.float32)
    assert (stepped(np.zeros(1, np.float32), rain)[1] > 0).all()


def test_a_feature_never_known_does_not_move() -> None:
    lower, higher = stepped(np.array([1.0], np.float32), np.full(5, np.nan, np.float32))
    assert lower == higher == 1.0


def moves(jump: float) -> dict[str, StepMove]:
    def score_feed(feed: dict) -> np.ndarray:
        steady, steep = feed["numeric"][:, 0], feed["numeric"][:, 1]
        return np.asarray(0.2 + 0.1 * steady + jump * (steep > 0.5), np.float64)

    return step_moves(score_feed, {"numeric": TRAINING[:500]}, TRAINING, SIGNATURE, threshold=0.5)


def test_a_stable_model_passes_and_its_furthest_step_is_named() -> None:
    result = check_stability(moves(0.0), VerificationPolicy())
    assert result.verdict == "pass"
    assert result.observed == pytest.approx(0.1 * 0.05, rel=0.1)
    assert "steady" in result.reason


def test_a_model_that_jumps_is_stopped_and_the_feature_named() -> None:
    result = check_stability(moves(0.6), VerificationPolicy())
    assert (result.verdict, result.code) == ("fail", "stability.step")
    assert result.observed == pytest.approx(0.6)
    assert "steep 0.600" in result.reason
    assert "steady" not in result.reason


def test_decisions_that_flip_too_often_are_reason_enough() -> None:
    result = check_stability(moves(0.3), VerificationPolicy(largest_step_move=0.5))
    assert (result.verdict, result.code) == ("fail", "stability.flips")
    assert "steep" in result.reason


def test_no_number_is_no_small_move():
    moves = {"b": StepMove(p99=0.01, flips=0.0), "a": StepMove(p99=float("nan"), flips=0.0)}
    assert check_stability(moves, VerificationPolicy()).verdict == "fail"


def test_a_model_that_reads_no_number_cannot_be_moved():
    assert check_stability({}, VerificationPolicy()).verdict == "not applicable"
