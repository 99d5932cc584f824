from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nightshift.core.model_life import Stage
from nightshift.core.trial import TrialNight, compare_night, judge_trial, margin_test
from nightshift.core.trial_outcome import approval_summary, deployment_of, night_rows
from nightshift.core.trial_report import render
from nightshift.policies import TrialPolicy

POLICY = TrialPolicy(shadow_nights=3, canary_nights=4, standby_nights=3, longest_nights=8)


def nights(*differences: float) -> list[TrialNight]:
    first = date(2013, 6, 1)
    return [
        TrialNight(first + timedelta(days=n), 900, 0.5, 0.5 + difference, difference)
        for n, difference in enumerate(differences)
    ]


def decide(stage: Stage, *differences: float, elapsed: int | None = None, policy: TrialPolicy = POLICY) -> str:
    return judge_trial(stage, nights(*differences), elapsed or len(differences), policy).decision


def test_a_night_is_compared_on_the_same_rows() -> None:
    labels = np.array([1, 0])
    serving, beside = np.array([0.8, 0.2]), np.array([0.5, 0.5])
    challenger = compare_night(date(2013, 6, 1), labels, serving, beside, beside_is_judged=True)
    assert challenger.difference == pytest.approx(np.log(0.8 / 0.5))
    assert challenger.rows == 2
    fresh = compare_night(date(2013, 6, 1), labels, serving, beside, beside_is_judged=False)
    assert fresh.difference == -challenger.difference
    assert fresh.serving_log_loss == challenger.serving_log_loss == pytest.approx(-np.log(0.8))


@pytest.mark.parametrize(("stage", "onward"), [("shadow", "canary"), ("canary", "promote"), ("standby", "confirm")])
def test_a_model_that_does_no_worse_goes_on_after_enough_nights(stage: Stage, onward: str) -> None:
    better = (-0.01, -0.012, -0.009, -0.011)
    needed = {"shadow": 3, "canary": 4, "standby": 3}[stage]
    for count in range(1, 5):
        assert decide(stage, *better[:count]) == (onward if count >= needed else "hold")


@pytest.mark.parametrize(("stage", "back"), [("shadow", "withdraw"), ("canary", "withdraw"), ("standby", "roll_back")])
def test_a_model_that_is_shown_to_be_worse_goes_back_at_once(stage: Stage, back: str) -> None:
    assert decide(stage, 0.05) == "hold"
    assert decide(stage, 0.05, 0.051) == back


def test_a_little_worse_within_the_margin_is_no_worse() -> None:
    assert decide("shadow", 0.004, 0.005, 0.0045) == "canary"
    assert decide("shadow", 0.004, 0.005, 0.0045, policy=replace(POLICY, margin_log_loss=0.001)) == "withdraw"


def test_nights_that_scatter_show_nothing_until_time_is_up() -> None:
    scattered = (-0.08, 0.09, -0.07, 0.08, -0.06, 0.07, -0.05, 0.05)
    for stage in ("shadow", "canary"):
        assert decide(stage, *scattered[:7]) == "hold"
        assert decide(stage, *scattered) == "withdraw"
    assert decide("standby", *scattered) == "confirm"
    assert decide("standby", *(d + 0.02 for d in scattered)) == "roll_back"


@pytest.mark.parametrize(("stage", "decision"), [("shadow", "hold"), ("canary", "withdraw"), ("standby", "roll_back")])
def test_one_terrible_night_ends_what_is_published(stage: Stage, decision: str) -> None:
    assert decide(stage, 0.11) == decision
    assert decide(stage, -0.01, -0.012, 0.11, -0.011) == decision
    assert decide(stage, 0.1) == "hold"


@pytest.mark.parametrize(("stage", "ended"), [("shadow", "withdraw"), ("canary", "withdraw"), ("standby", "confirm")])
def test_nights_that_do_not_count_use_up_the_time(stage: Stage, ended: str) -> None:
    assert decide(stage, elapsed=7) == "hold"
    assert decide(stage, elapsed=8) == ended
    assert decide(stage, -0.01, elapsed=7) == "hold"
    assert decide(stage, -0.01, elapsed=8) == ended


@pytest.mark.parametrize(
    ("difference", "decision"), [(0.0, "canary"), (-0.02, "canary"), (0.01, "hold"), (0.02, "withdraw")]
)
def test_nights_without_spread_leave_no_doubt(difference: float, decision: str) -> None:
    assert decide("shadow", difference, difference, difference) == decision
    assert decide("shadow", difference, difference + 1e-16, difference) == decision


def test_one_night_is_never_enough() -> None:
    policy = replace(POLICY, shadow_nights=1)
    assert decide("shadow", -0.05, policy=policy) == "hold"
    assert decide("shadow", -0.05, -0.051, policy=policy) == "canary"


def test_the_test_is_scipys_and_its_bound_agrees_with_it() -> None:
    differences = np.array([0.003, -0.004, 0.006, 0.001, 0.002])
    no_worse, worse, bound = margin_test(differences, 0.01, 0.95)
    assert no_worse == pytest.approx(stats.ttest_1samp(differences, 0.01, alternative="less").pvalue)
    assert worse == pytest.approx(1 - no_worse)
    assert bound == pytest.approx(
        differences.mean() + stats.t.ppf(0.95, 4) * differences.std(ddof=1) / np.sqrt(len(differences))
    )
    p_at_bound, _, _ = margin_test(differences, bound, 0.95)
    assert p_at_bound == pytest.approx(0.05)


def test_models_that_are_equally_good_are_rarely_promoted_if_they_are_worse() -> None:
    """At the margin itself, the test is wrong as often as its confidence allows."""
    rng = np.random.default_rng(7)
    draws = rng.normal(POLICY.margin_log_loss, 0.01, size=(2000, 6))
    promoted = np.mean([margin_test(draw, POLICY.margin_log_loss, 0.95)[0] < 0.05 for draw in draws])
    assert promoted == pytest.approx(0.05, abs=0.015)


def test_the_reason_holds_the_numbers() -> None:
    judged = judge_trial("canary", nights(-0.01, -0.012, -0.009, -0.011), 5, POLICY)
    assert judged.decision == "promote"
    for part in ("no worse than the margin", "4 of 5 nights count", "-0.0105", "margin 0.01"):
        assert part in judged.reason
    assert judged.bound is not None
    assert judged.mean_difference == pytest.approx(-0.0105)


# What is recorded, and what a person reads


def trial(decision: str, stage: str = "canary", **more: Any) -> dict[str, Any]:
    models = {version: {"uri": f"s3://b/{version}/", "sha256": version, "kind": "model"} for version in ("new", "old")}
    return {
        "partition": "2013-06-09",
        "stage": stage,
        "since": "2013-06-04",
        "share": 0.1,
        "challenger": "new",
        "incumbent": "old",
        "champion": "new" if stage == "standby" else "old",
        "models": models,
        "nights": [night.to_json() for night in nights(-0.01, 0.02)],
        "missing": [{"partition": "2013-06-03", "reason": "<refused>"}],
        "mean_difference": 0.005,
        "bound": 0.1,
        "p_value": 0.4,
        "decision": decision,
        "reason": "because & so",
        **more,
    }


@pytest.mark.parametrize(
    ("decision", "stage", "recorded"),
    [
        ("canary", "shadow", ("canary", "challenger", "new", None)),
        ("promote", "canary", ("promoted", "champion", "new", "old")),
        ("withdraw", "canary", ("withdrawn", "challenger", "new", None)),
        ("roll_back", "standby", ("rolled_back", "champion", "old", "new")),
        ("confirm", "standby", ("confirmed", "champion", "new", None)),
    ],
)
def test_what_is_recorded(decision: str, stage: str, recorded: tuple[str, ...]) -> None:
    made = deployment_of(trial(decision, stage), 0.1, approval=False)
    assert made is not None
    assert (made.action, made.role, made.model_version, made.replaces) == recorded
    assert made.model is not None
    assert made.model.sha256 == made.model_version
    assert made.reason.get("share") == (0.1 if decision == "canary" else None)
    assert made.partition == date(2013, 6, 9)


@pytest.mark.parametrize("decision", ["nothing", "hold"])
def test_what_is_not_recorded(decision: str) -> None:
    assert deployment_of(trial(decision), 0.1, approval=True) is None


def test_only_a_promotion_awaits_approval() -> None:
    made = deployment_of(trial("promote"), 0.1, approval=True)
    assert made is not None
    assert (made.action, made.role, made.replaces) == ("awaiting_approval", "challenger", None)
    back = deployment_of(trial("roll_back", "standby"), 0.1, approval=True)
    assert back is not None
    assert back.action == "rolled_back"


def test_the_table_names_the_judged_model_whichever_was_beside() -> None:
    (first, _) = night_rows(trial("hold"))
    assert (first["night"], first["challenger_log_loss"], first["incumbent_log_loss"]) == (date(2013, 6, 1), 0.49, 0.5)
    (first, _) = night_rows(trial("hold", "standby"))
    assert (first["challenger_log_loss"], first["incumbent_log_loss"]) == (0.5, 0.49)


def test_the_page_says_it_in_words_and_runs_nothing() -> None:
    page = render(trial("withdraw"), title="Late <flights>", sources=[("scores", "s3://b/scores/")]).decode()
    assert "Withdrawn" in page
    assert "because &amp; so" in page
    assert "&lt;refused&gt;" in page
    assert "Late &lt;flights&gt;" in page
    assert "+0.0200" in page
    assert "<script" not in page
    nothing = trial("nothing", stage="", nights=[], missing=[])
    assert "No model is on trial" in render(nothing | {"stage": None}, title="x", sources=[]).decode()


def test_a_person_reads_who_and_why() -> None:
    text = approval_summary("Late flights", trial("promote"), hours=24.0, page_uri="s3://b/trial.html")
    for part in ("`new`", "`old`", "because & so", "within 24 hours", "2013-06-02 | 900", "s3://b/trial.html"):
        assert part in text
