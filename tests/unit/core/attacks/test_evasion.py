"""The search for lower scores by feasible changes."""

from __future__ import annotations

import numpy as np
import pytest

from nightshift.core.attacks.evasion import check_lowered, evade, lowered
from nightshift.core.inference.onnx_model import NUMERIC_INPUT, Signature
from nightshift.declare.policies import AttackPolicy, FeasibleChange
from nightshift.documents.attack import LoweredScores

SIGNATURE = Signature(numeric=("a", "b", "c"), feature_service="s", score="p")
A = FeasibleChange(("a",), (-1.0, 1.0), "anybody")
B_AND_C = FeasibleChange(("b", "c"), (2.0,), "anybody")
UNKNOWN = FeasibleChange(("d",), (5.0,), "anybody")


def score(feed):
    """Falls with a, rises with b, falls three times as fast with c."""
    a, b, c = feed[NUMERIC_INPUT].astype(np.float64).T
    return 0.5 - 0.01 * np.nan_to_num(a) + 0.01 * np.nan_to_num(b) - 0.03 * np.nan_to_num(c)


def fall(rows, changes, most):
    feed = {NUMERIC_INPUT: np.array(rows, dtype=np.float32)}
    return (score(feed) - evade(score, feed, SIGNATURE, changes, most)).round(6).tolist()


RANGE = [[0, 0, 0], [9, 9, 9]]


def test_features_of_one_change_move_together() -> None:
    # Per row: +1 for a, and +2 for both b and c.
    assert fall([[5, 5, 5], *RANGE], [A, B_AND_C], 2)[0] == pytest.approx(0.01 + 0.06 - 0.02)


def test_the_best_change_comes_first_and_each_is_made_once() -> None:
    assert fall([[5, 5, 5], *RANGE], [A, B_AND_C], 1)[0] == pytest.approx(0.04)
    assert fall([[5, 5, 5], *RANGE], [A], 3)[0] == pytest.approx(0.01)


def test_nothing_leaves_the_range_or_fills_in_a_missing_value() -> None:
    assert fall([[9, 8, 5], [5, 5, np.nan], [0, 0, 0], [9, 9, 9]], [A, B_AND_C], 2)[:2] == [0.0, 0.01]


def test_a_feature_that_the_model_does_not_read_changes_nothing() -> None:
    assert fall([[5, 5, 5], *RANGE], [UNKNOWN], 2) == [0.0, 0.0, 0.0]


def test_only_positive_decisions_can_evade() -> None:
    result = lowered(np.array([0.6, 0.5, 0.4]), np.array([0.4, 0.5, 0.1]), 0.5)
    assert (result.rows, result.decisions, result.evaded) == (3, 2, 1)
    assert result.mean_fall == pytest.approx(0.5 / 3)


@pytest.mark.parametrize(
    ("decisions", "evaded", "fall", "code", "observed"),
    [
        (100, 50, 0.01, "", 0.5),
        (100, 51, 0.01, "evasion.evaded", 0.51),
        (100, 10, 0.06, "evasion.fall", 0.06),
        (29, 29, 0.01, "", 0.01),
        (29, 29, 0.06, "evasion.fall", 0.06),
    ],
)
def test_bounds(decisions: int, evaded: int, fall: float, code: str, observed: float) -> None:
    result = LoweredScores(rows=1000, decisions=decisions, evaded=evaded, mean_fall=fall)
    gate = check_lowered("evasion", "2 feasible changes", result, AttackPolicy())
    assert (gate.code, gate.observed) == (code, observed)
