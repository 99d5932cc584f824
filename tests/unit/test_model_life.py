"""The life of models, as it follows from decisions."""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from typing import Any

import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.model_life import (
    Life,
    approval_asked_for,
    champion_judged_against,
    life_as_of,
    overtaken_by,
    repeated,
)
from nightshift.deployment import Deployment

ROLES = {"promoted": "champion", "rolled_back": "champion", "confirmed": "champion", "bootstrap": "fallback"}
STEPS = {"bootstrap": "register_fallback", "failed": "train", "canary": "advance_model", "promoted": "advance_model"}
STEPS |= dict.fromkeys(("withdrawn", "confirmed", "held", "awaiting_approval"), "advance_model")
STEPS |= dict.fromkeys(("rolled_back", "killed", "restored", "retired"), "hand:ann")
STEPS |= dict.fromkeys(("approved", "declined", "approval_timed_out"), "record_approval")


def day(number: int) -> date:
    return date(2013, 5, 1) + timedelta(days=number - 1)


def said(partition: int, action: str, version: str = "none", by: str = "", **more: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "partition": day(partition),
            "action": action,
            "role": ROLES.get(action, "challenger"),
            "model_version": version,
            "model": ArtifactRef(uri=f"s3://bucket/{version}/", sha256=version, kind="model"),
            "decided_by": by or STEPS.get(action, "register"),
            **more,
        }
    )


START = [said(1, "bootstrap", "f"), said(1, "promoted", "a", "register")]


def seen(decisions: list[Deployment], partition: int) -> dict[str, Any]:
    life = life_as_of(decisions, day(partition))
    trial = life.trial
    return {
        "serving": life.serving and life.serving.model_version,
        "role": life.serving_role,
        "champion": life.champion and life.champion.model_version,
        "trial": trial and (trial.deployment.model_version, trial.stage, trial.share),
        "former": [one.model_version for one in life.former],
    }


def serving(decisions: list[Deployment], first: int, last: int) -> list[str | None]:
    return [seen(decisions, partition)["serving"] for partition in range(first, last + 1)]


def test_before_any_decision_nothing_serves() -> None:
    assert life_as_of([], day(1)) == Life()
    assert life_as_of([], day(1)).serving is None


def test_the_fallback_serves_the_partition_that_made_it_and_a_champion_the_next_one() -> None:
    assert serving(START, 0, 3) == [None, "f", "a", "a"]
    assert [seen(START, n)["role"] for n in (1, 2)] == ["fallback", "champion"]


def test_a_challenger_goes_through_shadow_canary_and_standby() -> None:
    decisions = [
        *START,
        said(3, "shadow", "b"),
        said(6, "canary", "b", reason={"share": 0.1}),
        said(9, "promoted", "b", replaces="a"),
        said(12, "confirmed", "b"),
    ]
    trials = [seen(decisions, n)["trial"] for n in range(3, 14)]
    assert trials == (
        [None] + [("b", "shadow", 0.0)] * 3 + [("b", "canary", 0.1)] * 3 + [("a", "standby", 0.0)] * 3 + [None]
    )
    assert serving(decisions, 3, 13) == ["a"] * 7 + ["b"] * 4
    assert seen(decisions, 13)["former"] == ["a"]
    since = [life_as_of(decisions, day(n)).trial for n in (4, 7, 10)]
    assert [trial and trial.since for trial in since] == [day(3), day(6), day(9)]


def test_every_partition_keeps_its_answer_whatever_is_decided_later() -> None:
    decisions = [
        *START,
        said(3, "shadow", "b"),
        said(6, "canary", "b", reason={"share": 0.1}),
        said(9, "promoted", "b"),
        said(10, "rolled_back", "a", replaces="b"),
        said(11, "killed", "a"),
        said(12, "retired", "b"),
        said(13, "restored", "a"),
    ]
    for length in range(len(START), len(decisions) + 1):
        newest = (decisions[length - 1].partition - day(1)).days + 1
        for partition in range(1, newest + 1):
            assert life_as_of(decisions[:length], day(partition)) == life_as_of(decisions, day(partition))


def test_decisions_count_by_partition_whatever_order_they_were_recorded_in() -> None:
    decisions = [
        *START,
        said(3, "shadow", "b"),
        said(5, "canary", "b", reason={"share": 0.2}),
        said(7, "promoted", "b"),
        said(9, "confirmed", "b"),
    ]
    for order in itertools.permutations(decisions):
        assert [life_as_of(order, day(n)) for n in range(12)] == [life_as_of(decisions, day(n)) for n in range(12)]


def test_within_a_partition_training_comes_before_promotion_and_people_come_last() -> None:
    """On day 5 the old trial ends, and the model registered that day found the place still taken."""
    decisions = [
        *START,
        said(3, "shadow", "b"),
        said(5, "killed", "a", "hand:ann"),
        said(5, "withdrawn", "b"),
        said(5, "shadow", "c"),
    ]
    assert seen(decisions, 6) == {
        "serving": "f",
        "role": "fallback",
        "champion": "a",
        "trial": None,
        "former": [],
    }


def test_a_step_run_again_replaces_what_it_said() -> None:
    once = [*START, said(3, "shadow", "b"), said(4, "canary", "b", reason={"share": 0.1})]
    held = [*once, said(4, "held", "b")]
    assert seen(once, 5)["trial"] == ("b", "canary", 0.1)
    assert seen(held, 5)["trial"] == ("b", "shadow", 0.0)
    again = [*held, said(4, "canary", "b", reason={"share": 0.3})]
    assert seen(again, 5)["trial"] == ("b", "canary", 0.3)


def test_a_training_that_failed_is_replaced_by_the_one_that_was_run_after_it() -> None:
    decisions = [*START, said(3, "failed"), said(3, "shadow", "b")]
    assert seen(decisions, 4)["trial"] == ("b", "shadow", 0.0)
    assert seen([*decisions, said(3, "failed")], 4)["trial"] is None


def test_a_champion_trained_anew_and_rejected_is_none() -> None:
    decisions = [said(1, "bootstrap", "f"), said(2, "promoted", "a", "register"), said(2, "rejected", "a2")]
    assert serving(decisions, 3, 3) == ["f"]


def test_one_place_for_a_trial() -> None:
    decisions = [*START, said(3, "shadow", "b"), said(4, "shadow", "c"), said(5, "shelved", "d")]
    assert seen(decisions, 6)["trial"] == ("b", "shadow", 0.0)
    assert seen([*decisions, said(5, "withdrawn", "b"), said(6, "shadow", "e")], 7)["trial"] == ("e", "shadow", 0.0)


@pytest.mark.parametrize("action", ["canary", "withdrawn", "confirmed"])
def test_what_is_said_of_a_model_that_is_not_on_trial_changes_nothing(action: str) -> None:
    decisions = [*START, said(3, "shadow", "b")]
    assert seen([*decisions, said(4, action, "c")], 5) == seen(decisions, 5)
    standby = [*START, said(3, "shadow", "b"), said(4, "promoted", "b")]
    assert seen([*standby, said(5, action, "c")], 6) == seen(standby, 6)


@pytest.mark.parametrize("action", ["awaiting_approval", "approved", "declined", "approval_timed_out", "held"])
def test_what_is_only_said_changes_nothing(action: str) -> None:
    decisions = [*START, said(3, "shadow", "b"), said(4, "canary", "b", reason={"share": 0.1})]
    assert life_as_of([*decisions, said(5, action, "b")], day(6)) == life_as_of(decisions, day(6))


def test_an_approval_promotes_after_the_partition_it_is_recorded_for() -> None:
    decisions = [
        *START,
        said(3, "shadow", "b"),
        said(5, "awaiting_approval", "b"),
        said(7, "approved", "b"),
        said(7, "promoted", "b", "record_approval"),
    ]
    assert serving(decisions, 5, 8) == ["a", "a", "a", "b"]
    assert seen(decisions, 8)["trial"] == ("a", "standby", 0.0)


def test_a_rollback_takes_the_former_champion_and_ends_the_trial() -> None:
    decisions = [*START, said(3, "promoted", "b"), said(5, "rolled_back", "a", replaces="b")]
    assert serving(decisions, 4, 6) == ["b", "b", "a"]
    assert seen(decisions, 6)["trial"] is None
    assert seen(decisions, 6)["former"] == []
    assert seen(decisions, 6)["role"] == "champion"


def test_several_champions_are_rolled_back_one_by_one() -> None:
    decisions = [*START, said(3, "promoted", "b"), said(5, "promoted", "c")]
    assert seen(decisions, 6)["former"] == ["a", "b"]
    assert seen(decisions, 6)["trial"] == ("b", "standby", 0.0)
    decisions += [said(6, "rolled_back", "b", replaces="c")]
    assert seen(decisions, 7)["former"] == ["a"]
    decisions += [said(7, "rolled_back", "a", replaces="b")]
    assert serving(decisions, 6, 8) == ["c", "b", "a"]


def test_a_former_champion_promoted_again_is_no_longer_a_former_one() -> None:
    decisions = [*START, said(3, "promoted", "b"), said(5, "promoted", "a")]
    assert seen(decisions, 6)["former"] == ["b"]


def test_the_same_model_promoted_again_has_no_predecessor() -> None:
    assert seen([*START, said(3, "promoted", "a")], 4) == seen(START, 4)


def test_a_champion_promoted_again_by_a_late_run_keeps_its_predecessor_standing_by() -> None:
    decisions = [*START, said(3, "shadow", "b"), said(6, "promoted", "b"), said(5, "promoted", "b")]
    assert [seen(decisions, n)["trial"] for n in (6, 7, 8)] == [("a", "standby", 0.0)] * 3
    assert seen([*decisions, said(8, "confirmed", "b")], 9)["trial"] is None


def test_a_late_training_is_overtaken_by_a_later_trial_that_stands() -> None:
    """As it would be: put on trial as of day 3, c would throw b out of its canary."""
    decisions = [*START, said(4, "shadow", "b"), said(6, "canary", "b", reason={"share": 0.1})]
    assert seen([*decisions, said(3, "shadow", "c")], 7)["trial"] == ("c", "shadow", 0.0)
    later = overtaken_by(decisions, day(3))
    assert later is not None
    assert (later.model_version, later.partition) == ("b", day(4))
    assert overtaken_by(decisions, day(4)) is None
    assert overtaken_by([*decisions, said(4, "rejected", "b2")], day(3)) is None


def test_kill_and_restore() -> None:
    decisions = [*START, said(3, "killed", "a"), said(6, "restored", "a")]
    assert serving(decisions, 3, 7) == ["a", "f", "f", "f", "a"]
    assert seen(decisions, 5)["champion"] == "a"


def test_a_champion_promoted_while_the_kill_switch_is_on_serves_once_it_is_off() -> None:
    decisions = [*START, said(3, "killed", "a"), said(4, "promoted", "b"), said(6, "restored", "b")]
    assert serving(decisions, 4, 7) == ["f", "f", "f", "b"]


def test_what_people_decide_is_kept_row_by_row() -> None:
    decisions = [*START, said(3, "killed", "a"), said(3, "restored", "a"), said(3, "killed", "a")]
    assert serving(decisions, 4, 4) == ["f"]
    assert serving(decisions[:-1], 4, 4) == ["a"]


def test_a_retired_model_leaves_every_place() -> None:
    decisions = [*START, said(3, "shadow", "b"), said(4, "retired", "b")]
    assert seen(decisions, 5)["trial"] is None
    decisions = [*START, said(3, "promoted", "b"), said(4, "retired", "a")]
    assert seen(decisions, 5) == {"serving": "b", "role": "champion", "champion": "b", "trial": None, "former": []}
    assert life_as_of(decisions, day(5)).retired == {"a"}


def test_a_retired_champion_gives_its_place_to_its_predecessor() -> None:
    """Promoted and retired on one day: a person decides last, and a retired model never serves."""
    decisions = [*START, said(3, "shadow", "b"), said(5, "retired", "b"), said(5, "promoted", "b")]
    assert seen(decisions, 6) == {"serving": "a", "role": "champion", "champion": "a", "trial": None, "former": []}
    assert serving([*START, said(3, "retired", "a")], 4, 4) == ["f"]


@pytest.mark.parametrize("action", ["shadow", "promoted", "rolled_back"])
def test_a_retired_model_never_serves_again(action: str) -> None:
    decisions = [*START, said(3, "shadow", "b"), said(4, "retired", "b")]
    assert seen([*decisions, said(6, action, "b")], 7) == seen(decisions, 7)


# What a decision is judged against, and what is said already


def judged_against(decisions: list[Deployment], made: Deployment) -> str | None:
    champion = champion_judged_against(decisions, made)
    return champion and champion.model_version


def test_a_promotion_is_judged_against_the_champion_but_for_what_its_step_said() -> None:
    promotion = said(5, "promoted", "b")
    assert judged_against(START, promotion) == "a"
    assert judged_against([*START, promotion], said(5, "promoted", "c")) == "a"
    assert judged_against([*START, said(4, "promoted", "c")], promotion) == "c"
    assert judged_against([*START, said(6, "promoted", "c")], promotion) == "a"


def test_what_people_decided_for_the_partition_counts() -> None:
    decisions = [*START, said(3, "promoted", "b"), said(5, "rolled_back", "a")]
    assert judged_against(decisions, said(5, "promoted", "c")) == "a"
    assert judged_against(decisions, said(5, "rolled_back", "z", "hand:ann")) == "a"


def test_a_step_repeats_itself_whatever_others_said_meanwhile() -> None:
    first = said(3, "shadow", "b")
    assert not repeated([], [first])
    assert repeated([*START, first, said(3, "killed", "a"), said(4, "held", "b")], [first])
    assert not repeated([first, said(3, "rejected", "b2")], [first])
    assert not repeated([first, said(3, "failed")], [first])


def test_a_person_repeats_only_the_very_last_word() -> None:
    killed = said(3, "killed", "a")
    assert repeated([*START, killed], [killed])
    assert repeated([*START, killed, said(4, "held", "b")], [killed])
    assert not repeated([*START, killed, said(3, "held", "b")], [killed])
    assert not repeated([*START, said(3, "killed", "a", "hand:bob")], [killed])


def test_two_rows_are_repeated_as_two() -> None:
    both = [said(3, "approved", "b"), said(3, "promoted", "b", "record_approval")]
    assert repeated([*START, *both], both)
    assert not repeated([*START, both[0]], both)
    assert not repeated([*START, *both, said(3, "declined", "b")], both)


# Approvals


@pytest.mark.parametrize("answer", ["approved", "declined", "approval_timed_out", "promoted", "withdrawn"])
def test_a_question_is_open_until_it_is_answered(answer: str) -> None:
    asked = [*START, said(3, "shadow", "b"), said(5, "awaiting_approval", "b")]

    def open_on(decisions: list[Deployment], partition: int, version: str = "b") -> date | None:
        return approval_asked_for(decisions, day(partition), version)

    assert [open_on(asked, n) for n in (5, 6, 7, 90)] == [None, day(5), day(5), day(5)]
    assert open_on(asked, 6, "c") is None
    answered = [*asked, said(6, answer, "b")]
    assert [open_on(answered, n) for n in (6, 7)] == [day(5), None]


def test_an_answer_counts_though_another_one_was_recorded_for_the_same_partition() -> None:
    decisions = [
        *START,
        said(5, "awaiting_approval", "b"),
        said(7, "approval_timed_out", "b", reason={"asked_on": str(day(5))}),
        said(7, "declined", "c", reason={"asked_on": str(day(6))}),
    ]
    assert approval_asked_for(decisions, day(8), "b") is None
