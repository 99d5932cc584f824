"""What a review decides, from the state, losses and policies."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.review import approval_summary, review_partition
from nightshift.core.lifecycle.state import Challenge, State, Version
from nightshift.declare.policies import PromotionPolicy, Risk, RiskPolicy
from nightshift.deployment import Deployment, Role
from nightshift.documents.promote import Review, ReviewedLoss

D = date(2013, 5, 1)
POLICY = PromotionPolicy(shadow_partitions=3, canary_partitions=2, watch_partitions=8, longest_partitions=10)
LOW = RiskPolicy()
CANARY = RiskPolicy(risks=(Risk("money", 2, 4, "money is lost"),))
HIGH = RiskPolicy(risks=(Risk("harm", 5, 5, "somebody is hurt"),))


def day(number: int) -> date:
    return D + timedelta(days=number)


def versions(*specs: str) -> dict[str, tuple[Version, ...]]:
    model = ArtifactRef(uri="s3://bucket/v/", sha256="0" * 64, kind="version")
    return {spec: (Version(spec, f"{spec}1", model, D),) for spec in specs}


SHADOW = State(
    champion="a", fallback="f", challenge=Challenge("b", "shadow", D, began=D), versions=versions("a", "b", "f")
)
FRESH = State(champion="b", fallback="f", former=("a",), watched_since=D, versions=versions("a", "b", "f"))
SERVING = State(champion="a", fallback="f", former=("z",), versions=versions("a", "z", "f"))


def loss(number: int, spec_id: str, role: Role, value: float, rows: int = 100, backtest: float | None = None):
    return ReviewedLoss(
        partition=day(number),
        role=role,
        spec_id=spec_id,
        model_version=f"{spec_id}1",
        rows=rows,
        predictions=100,
        log_loss=value,
        raw_log_loss=None if backtest is None else value,
        backtest_log_loss=backtest,
    )


def live(first: int, last: int, *, challenger: float = 0.5, backtest: float = 0.5) -> list[ReviewedLoss]:
    """Champion, challenger and fallback on partitions first to last; the backtest does not know the newest."""
    rows = []
    for number in range(first, last + 1):
        expected = backtest if number < last else None
        rows += [
            loss(number, "a", "champion", 0.5),
            loss(number, "b", "challenger", challenger, backtest=expected),
            loss(number, "f", "fallback", 0.55),
        ]
    return rows


def watched(differences: list[float]) -> list[ReviewedLoss]:
    """A fresh champion b beside the former champion a, from the first watched partition on."""
    rows = []
    for number, difference in enumerate(differences, start=1):
        rows += [loss(number, "b", "champion", 0.5 + difference), loss(number, "a", "former", 0.5)]
    return rows


def review(number: int, state: State, losses: list[ReviewedLoss], risk: RiskPolicy = LOW, idle=(), hold="") -> Review:
    return review_partition(day(number), state, losses, policy=POLICY, risk=risk, idle=idle, hold=hold)


# Challenger


def test_nothing() -> None:
    found = review(5, SERVING, [])
    assert (found.outcome, found.spec_id, found.champion) == ("nothing", "", "a")


def test_shadow_needs_its_partitions() -> None:
    outcomes = [review(n, SHADOW, live(1, n - 1)).outcome for n in range(2, 7)]
    assert outcomes == ["hold", "hold", "hold", "promote", "promote"]
    found = review(4, SHADOW, live(1, 3))
    assert found.why.startswith("b: 2 of 3 partitions in shadow scored one after another")


@pytest.mark.parametrize(("risk", "outcome"), [(LOW, "promote"), (CANARY, "canary"), (HIGH, "canary")])
def test_after_shadow(risk: RiskPolicy, outcome: str) -> None:
    found = review(5, SHADOW, live(1, 4), risk)
    assert (found.outcome, found.spec_id) == (outcome, "b")
    assert found.share == (POLICY.canary_share if outcome == "canary" else 0.0)
    assert "mean log loss +0.0000 from the backtest's (band 0.01)" in found.why


@pytest.mark.parametrize(("risk", "outcome"), [(CANARY, "promote"), (HIGH, "ask_approval")])
def test_after_canary(risk: RiskPolicy, outcome: str) -> None:
    state = replace(SHADOW, challenge=Challenge("b", "canary", day(4), 0.1, began=D))
    assert review(7, state, live(5, 6), risk).outcome == "hold"
    assert review(8, state, live(5, 7), risk).outcome == outcome


@pytest.mark.parametrize("backtest", [0.489, 0.511])
def test_live_losses_that_differ_from_the_backtest(backtest: float) -> None:
    found = review(5, SHADOW, live(1, 4, backtest=backtest))
    assert (found.outcome, found.spec_id) == ("withdraw", "b")
    assert review(5, SHADOW, live(1, 4, backtest=0.491)).outcome == "promote"


def test_partition_without_the_challenger_starts_the_count_again() -> None:
    losses = [one for one in live(1, 4) if (one.partition, one.spec_id) != (day(2), "b")]
    assert review(5, SHADOW, losses).outcome == "hold"
    losses = [one for one in live(1, 6) if (one.partition, one.spec_id) != (day(2), "b")]
    assert review(7, SHADOW, losses).outcome == "promote"


def test_backtest_without_a_partition() -> None:
    losses = [
        one.model_copy(update={"backtest_log_loss": None}) if (one.partition, one.spec_id) == (day(2), "b") else one
        for one in live(1, 4)
    ]
    found = review(5, SHADOW, losses)
    assert found.outcome == "hold"
    assert f"the backtest has no loss for {day(2)}" in found.why


def test_few_labels_do_not_count() -> None:
    losses = [one.model_copy(update={"rows": 19}) if one.partition == day(2) else one for one in live(1, 4)]
    assert review(5, SHADOW, losses).outcome == "hold"


def test_challenger_that_takes_too_long() -> None:
    assert review(10, SHADOW, []).outcome == "hold"
    found = review(11, SHADOW, [])
    assert found.outcome == "withdraw"
    assert found.why.startswith("not champion within 10 partitions (10 have passed)")
    # The stage before counts, partitions under the kill switch do not.
    canary = replace(SHADOW, challenge=Challenge("b", "canary", day(8), 0.1, began=D))
    assert review(11, canary, [], CANARY).outcome == "withdraw"
    assert review(11, SHADOW, [], idle={day(3)}).outcome == "hold"


def test_canary_beyond_the_emergency_margin() -> None:
    state = replace(SHADOW, challenge=Challenge("b", "canary", day(4), 0.1, began=D))
    found = review(6, state, live(5, 5, challenger=0.66), CANARY)
    assert found.outcome == "withdraw"
    assert "0.1600 above that of a" in found.why
    assert review(5, SHADOW, live(1, 4, challenger=0.66, backtest=0.66)).outcome == "promote"


def test_first_champion() -> None:
    state = replace(SHADOW, champion=None)
    losses = [one for one in live(1, 4) if one.role != "champion"]
    found = review(5, state, losses)
    assert (found.outcome, found.champion) == ("promote", None)


def test_challenger_without_a_version() -> None:
    state = replace(SHADOW, versions=versions("a", "f"))
    assert review(5, state, live(1, 4)).outcome == "hold"


def test_no_promotion_while_the_champion_is_watched() -> None:
    state = replace(SHADOW, former=("z",), watched_since=D, versions=versions("a", "b", "f", "z"))
    losses = live(1, 4) + [loss(n, "z", "former", 0.5) for n in range(1, 5)]
    found = review(5, state, losses)
    assert found.outcome == "hold"
    assert "a is watched and not confirmed yet" in found.why
    assert "a: 4 of 8 watched partitions compared with z" in found.why


# Approval


def test_open_question() -> None:
    challenge = Challenge("b", "canary", day(4), 0.1, awaiting=day(8), began=D)
    state = replace(SHADOW, challenge=challenge)
    outcomes = [review(n, state, live(5, n - 1), HIGH).outcome for n in (9, 12, 18)]
    assert outcomes == ["hold", "hold", "hold"]
    found = review(19, state, live(5, 18), HIGH)
    assert found.outcome == "time_out"
    assert "approval was requested on 2013-05-09, 11 partitions ago" in found.why


def test_open_question_for_long_hours() -> None:
    state = replace(SHADOW, challenge=Challenge("b", "canary", day(4), 0.1, awaiting=day(8), began=D))
    risk = replace(HIGH, approval_hours=24.0 * 14 + 1)  # 15 partitions and one for lost runs
    assert [review(n, state, live(5, 7), risk).outcome for n in (24, 25)] == ["hold", "time_out"]


def test_open_question_is_closed_under_the_kill_switch_too() -> None:
    killed = Deployment(partition=day(9), action="killed", role="champion", decided_by="hand:ann")
    challenge = Challenge("b", "canary", day(4), 0.1, awaiting=day(8), began=D)
    state = replace(SHADOW, challenge=challenge, killed=killed)
    assert review(12, state, [], HIGH).outcome == "hold"
    assert review(19, state, [], HIGH).outcome == "time_out"


def test_summary() -> None:
    found = review(5, SHADOW, live(1, 4), CANARY)
    text = approval_summary("Late flights", found, hours=24.0, page_uri="s3://bucket/review/")
    assert "shall `b` become champion in place of `a`, after partition 2013-05-06?" in text
    assert "| 2013-05-02 | 100 of 100 | 0.5000 | 0.5000 | 0.5000 | 0.5000 |" in text
    assert "| 2013-05-05 | 100 of 100 | 0.5000 | 0.5000 | - | - |" in text
    assert text.count("\n| 2013") == 4
    assert "within 24 hours" in text


# Champion


def test_harm_rolls_back() -> None:
    found = review(9, FRESH, watched([0.02, 0.025, 0.03, 0.02, 0.03, 0.025, 0.03, 0.05]))
    assert (found.outcome, found.spec_id, found.champion) == ("roll_back", "a", "b")
    assert "reached" in found.why
    assert "mean difference of log loss +0.02" in found.why
    assert review(5, FRESH, watched([0.02, 0.025, 0.03, 0.02])).outcome == "hold"


def test_harm_ends_the_way_of_a_challenger() -> None:
    state = replace(FRESH, challenge=Challenge("c", "shadow", D, began=D))
    assert review(2, state, watched([0.2])).outcome == "roll_back"


def test_emergency_rolls_back() -> None:
    found = review(2, FRESH, watched([0.151]))
    assert (found.outcome, found.spec_id) == ("roll_back", "a")
    assert "0.1510 above that of a" in found.why
    assert review(2, FRESH, watched([0.149])).outcome == "hold"


def test_confirmed_after_the_watch() -> None:
    assert review(8, FRESH, watched([0.001] * 7)).outcome == "hold"
    found = review(9, FRESH, watched([0.001] * 8))
    assert (found.outcome, found.spec_id) == ("confirm", "b")
    assert "8 of 8 watched partitions compared with a, mean log loss +0.0010, e-value" in found.why


def test_confirmed_without_comparisons_in_the_end() -> None:
    assert review(18, FRESH, []).outcome == "hold"
    assert review(19, FRESH, []).outcome == "confirm"
    assert review(2, replace(FRESH, versions=versions("b", "f")), []).outcome == "confirm"


def test_different_rows_are_not_compared() -> None:
    losses = [one.model_copy(update={"rows": 50}) if one.spec_id == "a" else one for one in watched([0.5])]
    assert review(2, FRESH, losses).outcome == "hold"


def test_kill_switch_partitions_do_not_count() -> None:
    assert review(2, FRESH, watched([0.5]), idle={day(1)}).outcome == "hold"


def test_champion_worse_than_the_fallback() -> None:
    losses = [loss(9, "a", "champion", 0.9), loss(9, "f", "fallback", 0.7)]
    found = review(10, SERVING, losses)
    assert (found.outcome, found.spec_id, found.champion) == ("roll_back", "z", "a")
    assert "0.2000 above that of the fallback" in found.why
    # Once rolled back, the losses of the champion before say nothing about the one there is.
    assert review(10, replace(SERVING, champion="z", former=()), losses).outcome == "nothing"


def test_champion_worse_than_the_fallback_without_a_former_one() -> None:
    losses = [loss(9, "a", "champion", 0.9), loss(9, "f", "fallback", 0.7)]
    found = review(10, replace(SERVING, former=()), losses)
    assert found.outcome == "hold"
    assert "There is no former champion to roll back to" in found.alert
    assert review(10, SERVING, [loss(9, "a", "champion", 0.8), losses[1]]).alert == ""


def test_only_the_newest_partition_is_compared_with_the_fallback() -> None:
    losses = [loss(8, "a", "champion", 0.9), loss(8, "f", "fallback", 0.7)]
    losses += [loss(9, "a", "champion", 0.6), loss(9, "f", "fallback", 0.7)]
    assert review(10, SERVING, losses).outcome == "nothing"


# Monitoring rules that hold promotions


@pytest.mark.parametrize("risk", [LOW, CANARY, HIGH])
def test_a_challenger_does_not_come_closer_to_champion_while_promotions_are_held(risk: RiskPolicy) -> None:
    found = review(5, SHADOW, live(1, 4), risk, hold="held by a rule")
    assert (found.outcome, found.spec_id) == ("hold", "b")
    assert found.why.endswith("; held by a rule")


def test_other_outcomes_are_not_held() -> None:
    assert review(11, SHADOW, [], hold="held").outcome == "withdraw"
    assert review(3, FRESH, watched([0.2, 0.2]), hold="held").outcome == "roll_back"
    assert review(1, SERVING, [], hold="held").outcome == "nothing"
    # A champion is confirmed although its challenger, which would be a canary, is held.
    state = replace(FRESH, challenge=Challenge("c", "shadow", D, began=D), versions=versions("a", "b", "c", "f"))
    losses = [*watched([0.0] * 8), *(loss(n, "c", "challenger", 0.5, backtest=0.5) for n in range(1, 9))]
    assert review(9, state, losses, CANARY).outcome == "canary"
    assert review(9, state, losses, CANARY, hold="held").outcome == "confirm"
