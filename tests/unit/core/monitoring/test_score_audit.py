"""The audit of a partition's scores before they are published."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from nightshift.core.monitoring.score_audit import audit_scores
from nightshift.declare.policies import AuditPolicy


def failed(
    scores: list[float | None], *, keys: list[str] | None = None, scheduled: int | None = None
) -> dict[str, tuple[str, ...]]:
    table = pa.table(
        {
            "day": ["2013-06-01"] * len(scores),
            "parcel": keys or [f"p{i}" for i in range(len(scores))],
            "p": pa.array(scores, pa.float64()),
        }
    )
    checks = audit_scores(
        ds.dataset(table),
        key=("day", "parcel"),
        score="p",
        scheduled_rows=len(scores) if scheduled is None else scheduled,
        policy=AuditPolicy(mean_score_between=(0.05, 0.9), least_distinct_share=0.1),
    )
    return {check.name: check.examples for check in checks if not check.passed}


GOOD: list[float | None] = [0.1, 0.2, 0.3, 0.4]


def test_good_scores_pass() -> None:
    assert failed(GOOD) == {}


@pytest.mark.parametrize("scheduled", [3, 5])
def test_more_or_fewer_rows_than_scheduled_fail(scheduled: int) -> None:
    assert "rows equal the schedule's" in failed(GOOD, scheduled=scheduled)


def test_an_empty_night_fails() -> None:
    assert "there are rows" in failed([])


def test_a_repeated_key_fails_and_is_named() -> None:
    assert failed(GOOD, keys=["a", "b", "a", "c"]) == {"keys are unique": ("2013-06-01|a",)}


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_score_fails_and_is_named(missing: float | None) -> None:
    assert failed([0.1, missing, 0.3]) == {"no score is missing": ("2013-06-01|p1",)}


@pytest.mark.parametrize("score", [-1e-9, 1.0000001])
def test_a_score_outside_fails_and_is_named(score: float) -> None:
    assert failed([0.1, 0.3, score]) == {"scores are in [0, 1]": ("2013-06-01|p2",)}


def test_an_implausible_mean_fails() -> None:
    assert set(failed([0.001, 0.002, 0.003])) == {"mean score is plausible"}


def test_scores_that_are_all_alike_fail() -> None:
    assert set(failed([0.3] * 40)) == {"scores differ"}


@pytest.mark.parametrize(("distinct", "wrong"), [(1_000, set()), (999, {"scores differ"})])
def test_many_rows_need_no_more_distinct_scores_than_ten_thousand(distinct: int, wrong: set[str]) -> None:
    assert set(failed([0.2 + 0.1 * (row % distinct) / distinct for row in range(50_000)])) == wrong
