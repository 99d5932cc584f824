"""Which specs and versions serve, as it follows from decisions."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.core.lifecycle.state import (
    Challenge,
    State,
    by_hand,
    repeated,
    standing,
    state_after,
    state_as_of,
)
from nightshift.deployment import Deployment, SpecAction, VersionAction
from nightshift.errors import ConfigurationError
from support import decisions as short_decisions
from support.decisions import CHALLENGED, START, WATCHED, day, decide, primary, register
from support.errors import raises_code


def names(state: State) -> dict[str, Any]:
    return {
        "primary": state.primary and (state.primary[0], state.primary[1].model_version),
        "shadows": [(role, version.model_version) for role, version in state.shadows],
    }


# Order


def test_empty() -> None:
    assert state_as_of([], day(1)) == State()
    assert State().primary is None
    assert (State().shadows, State().trained) == ([], {})


def test_decisions_count_from_the_next_partition_on() -> None:
    assert primary(START, 1, 2, 3) == [None, "a1", "a1"]
    assert state_after(START, day(1)) == state_as_of(START, day(2))


LONG = [
    *WATCHED,
    register(4, "a"),
    register(7, "b"),
    register(7, "a", "former"),
    decide(9, "rolled_back", "a", replaces="b"),
    decide(10, "killed"),
    decide(11, "retired", "b"),
    decide(12, "restored"),
    register(13, "f", "fallback"),
]


@settings(max_examples=60, deadline=None)
@given(st.permutations(LONG))
def test_order_of_recording_does_not_matter(decisions: list[Deployment]) -> None:
    for number in range(1, 16):
        assert state_as_of(decisions, day(number)) == state_as_of(LONG, day(number))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LONG), max_size=12), st.integers(1, 15))
def test_later_partitions_change_no_earlier_state(decisions: list[Deployment], number: int) -> None:
    earlier = [one for one in decisions if one.partition < day(number)]
    assert state_as_of(decisions, day(number)) == state_as_of(earlier, day(number))


def test_steps_of_one_partition_in_order_and_people_last() -> None:
    decisions = [
        *CHALLENGED,
        decide(5, "killed", by="hand:ann"),
        decide(5, "withdrawn", "b"),
        decide(5, "shadow", "c"),
    ]
    # nominate comes before advance: the place is still taken.
    state = state_as_of(decisions, day(6))
    assert state.challenge is None
    assert state.killed == decisions[-3]


def test_a_rule_decides_after_the_steps_and_before_people() -> None:
    rule = decide(5, "killed", "a", by="rule:worse")
    person = decide(5, "restored")
    assert state_as_of([person, rule], day(6)).killed is None
    assert state_as_of([decide(4, "restored"), rule], day(6)).killed == rule
    # Of one rule's decisions for a partition the last row counts; another rule's is another.
    assert repeated([rule], [rule])
    assert not repeated([rule], [decide(5, "killed", "a", by="rule:other")])


def test_step_run_again_replaces_its_decision() -> None:
    canary = decide(5, "canary", "b", reason={"share": 0.1})
    taken_back = [*CHALLENGED, canary, decide(5, "held", "b")]
    again = [*taken_back, decide(5, "canary", "b", reason={"share": 0.3})]
    challenges = [state_as_of(one, day(6)).challenge for one in ([*CHALLENGED, canary], taken_back, again)]
    assert [(one.stage, one.share) for one in challenges if one] == [("canary", 0.1), ("shadow", 0.0), ("canary", 0.3)]


def test_unknown_step() -> None:
    with raises_code(ConfigurationError, "NS-DEPLOY-002", "ann"):
        by_hand(decide(1, "held", by="ann"))


# Versions


def test_newest_version_of_the_champion_serves() -> None:
    decisions = [*START, register(2, "a"), register(4, "a")]
    assert primary(decisions, 2, 3, 4, 5) == ["a1", "a2", "a2", "a4"]


def test_late_training_does_not_replace_a_newer_version() -> None:
    assert primary([*START, register(4, "a"), register(3, "a")], 4, 5) == ["a3", "a4"]


def test_version_trained_again() -> None:
    decisions = [*START, register(2, "a"), register(2, "a", build="x")]
    assert primary(decisions, 3) == ["a2x"]
    rejected = decide(2, "rejected", "a", model_version="a2y", role="champion")
    assert primary([*decisions, rejected], 3) == ["a1"]


def test_failed_training_leaves_the_version_before() -> None:
    assert primary([*START, decide(2, "failed", model_version="none")], 3) == ["a1"]


def test_retired_version_gives_way_to_the_one_before() -> None:
    decisions = [*START, register(2, "a"), decide(3, "retired", "a", model_version="a2")]
    assert primary(decisions, 3, 4) == ["a2", "a1"]
    only = [*START, decide(3, "retired", "a", model_version="a1")]
    assert names(state_as_of(only, day(4)))["primary"] == ("fallback", "f1")
    assert state_as_of(only, day(4)).champion == "a"


# Specs


def test_stages_of_a_challenger() -> None:
    decisions = [
        *CHALLENGED,
        decide(6, "canary", "b", reason={"share": 0.1}),
        decide(9, "awaiting_approval", "b"),
        decide(10, "promoted", "b", "record_approval", replaces="a"),
        decide(14, "confirmed", "b"),
    ]
    states = {number: state_as_of(decisions, day(number)) for number in range(3, 16)}
    assert states[3].challenge is None
    assert states[4].challenge == Challenge("b", "shadow", day(3), began=day(3))
    assert states[7].challenge == Challenge("b", "canary", day(6), 0.1, began=day(3))
    assert states[10].challenge == Challenge("b", "canary", day(6), 0.1, day(9), day(3))
    assert states[11].challenge is None
    assert [states[n].champion for n in (10, 11)] == ["a", "b"]
    assert (states[11].former, states[11].watched_since) == (("a",), day(10))
    assert (states[15].former, states[15].watched_since) == (("a",), None)
    assert names(states[7]) == {
        "primary": ("champion", "a1"),
        "shadows": [("challenger", "b3"), ("fallback", "f1")],
    }
    assert names(states[11])["shadows"] == [("former", "a1"), ("fallback", "f1")]
    assert names(states[15])["shadows"] == [("fallback", "f1")]
    assert states[7].trained == {"a": "champion", "b": "challenger", "f": "fallback"}
    assert states[11].trained == {"b": "champion", "a": "former", "f": "fallback"}


@pytest.mark.parametrize("action", ["withdrawn", "declined", "approval_timed_out"])
def test_what_frees_the_place(action: str) -> None:
    decisions = [*CHALLENGED, decide(5, "shadow", "c"), decide(6, action, "b"), decide(7, "shadow", "d")]
    challenges = [state_as_of(decisions, day(n)).challenge for n in (6, 7, 8)]
    assert [one and one.spec_id for one in challenges] == ["b", None, "d"]


@pytest.mark.parametrize("action", ["canary", "awaiting_approval", "withdrawn", "declined", "approval_timed_out"])
def test_decision_about_another_spec_than_the_challenger(action: str) -> None:
    assert state_as_of([*CHALLENGED, decide(5, action, "c")], day(6)) == state_as_of(CHALLENGED, day(6))


@pytest.mark.parametrize("action", ["approved", "held", "backtest_failed", "rejected", "failed"])
def test_recorded_only(action: str) -> None:
    assert state_as_of([*CHALLENGED, decide(5, action, "b")], day(6)) == state_as_of(CHALLENGED, day(6))


def test_every_action_is_covered() -> None:
    """Each of them occurs in a test of this file."""
    here = Path(__file__)
    files = (here, here.with_name("test_annulment.py"), Path(short_decisions.__file__))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [action for action in (*get_args(SpecAction), *get_args(VersionAction)) if f'"{action}"' not in source] == []


def test_champion_is_no_challenger() -> None:
    assert state_as_of([*START, decide(3, "shadow", "a")], day(4)).challenge is None


def test_rollback() -> None:
    state = state_as_of([*WATCHED, decide(8, "rolled_back", "a", replaces="b")], day(9))
    assert (state.champion, state.former, state.watched_since, state.challenge) == ("a", (), None, None)


def test_rollbacks_one_by_one() -> None:
    decisions = [*WATCHED, decide(8, "promoted", "c", replaces="b")]
    assert state_as_of(decisions, day(9)).former == ("a", "b")
    decisions += [decide(9, "rolled_back", "b", replaces="c"), decide(10, "rolled_back", "a", replaces="b")]
    states = [state_as_of(decisions, day(n)) for n in (9, 10, 11)]
    assert [(one.champion, one.former) for one in states] == [("c", ("a", "b")), ("b", ("a",)), ("a", ())]


def test_former_champion_promoted_again() -> None:
    state = state_as_of([*WATCHED, decide(8, "promoted", "a", replaces="b")], day(9))
    assert (state.champion, state.former) == ("a", ("b",))


def test_promoted_twice() -> None:
    assert state_as_of([*WATCHED, decide(8, "promoted", "b")], day(9)) == state_as_of(WATCHED, day(9))


def test_frozen_is_the_first_version_of_the_champions_spec() -> None:
    decisions = [*START, register(2, "a"), register(3, "a"), register(3, "b", "challenger"), decide(3, "shadow", "b")]
    shadows = {n: names(state_as_of(decisions, day(n)))["shadows"] for n in (2, 3, 4)}
    assert shadows[2] == [("fallback", "f1")]  # it is the primary itself
    assert shadows[3] == [("fallback", "f1"), ("frozen", "a1")]
    assert shadows[4] == [("challenger", "b3"), ("fallback", "f1"), ("frozen", "a1")]
    promoted = [*decisions, register(5, "b"), decide(5, "promoted", "b", replaces="a"), register(6, "b")]
    assert names(state_as_of(promoted, day(7)))["shadows"] == [("former", "a3"), ("fallback", "f1"), ("frozen", "b3")]
    assert names(state_as_of([*promoted, decide(7, "killed")], day(8)))["shadows"] == []


def test_frozen_is_neither_retired_nor_replaced_by_a_training_that_ran_again() -> None:
    decisions = [*START, register(2, "a"), register(3, "a")]
    retired = state_as_of([*decisions, decide(3, "retired", "a", model_version="a1")], day(4))
    assert retired.frozen is not None
    assert retired.frozen.model_version == "a2"
    again = state_as_of([*decisions, register(1, "a", build="again")], day(4))
    assert names(again)["shadows"] == [("fallback", "f1"), ("frozen", "a1again")]


def test_frozen_is_never_primary_nor_trained() -> None:
    decisions = [*START, register(2, "a"), decide(3, "retired", "a", model_version="a2")]
    state = state_as_of(decisions, day(4))
    assert names(state) == {"primary": ("champion", "a1"), "shadows": [("fallback", "f1")]}
    assert "frozen" not in state.trained.values()
    assert state_as_of([*START, decide(3, "retired", "a")], day(4)).frozen is None


def test_kill_switch() -> None:
    decisions = [*WATCHED, decide(7, "killed"), decide(9, "restored")]
    killed = state_as_of(decisions, day(8))
    assert names(killed) == {"primary": ("fallback", "f1"), "shadows": []}
    assert killed.champion == "b"
    assert killed.trained == state_as_of(WATCHED, day(8)).trained
    assert primary(decisions, 7, 8, 9, 10) == ["b3", "f1", "f1", "b3"]
    on_off_on = [*START, *(decide(3, action) for action in ("killed", "restored", "killed"))]
    assert primary(on_off_on, 4) == ["f1"]
    assert primary(on_off_on[:-1], 4) == ["a1"]


# Retired specs


def test_retired_spec_leaves_its_place() -> None:
    assert state_as_of([*CHALLENGED, decide(5, "retired", "b")], day(6)).challenge is None
    former = state_as_of([*WATCHED, decide(8, "retired", "a")], day(9))
    assert (former.champion, former.former, former.watched_since) == ("b", (), None)


def test_retired_former_champion_is_not_watched_any_more() -> None:
    decisions = [*WATCHED, decide(8, "promoted", "c", replaces="b"), decide(9, "retired", "b")]
    state = state_as_of(decisions, day(10))
    assert (state.former, state.watched_since) == (("a",), None)
    other = state_as_of([*decisions[:-1], decide(9, "retired", "a")], day(10))
    assert (other.former, other.watched_since) == (("b",), day(8))


def test_retired_champion_gives_way_to_the_former() -> None:
    state = state_as_of([*WATCHED, decide(8, "retired", "b")], day(9))
    assert (state.champion, state.former) == ("a", ())
    assert names(state_as_of([*START, decide(3, "retired", "a")], day(4)))["primary"] == ("fallback", "f1")


@pytest.mark.parametrize("action", ["shadow", "promoted", "rolled_back"])
def test_retired_spec_never_serves_again(action: str) -> None:
    decisions = [*CHALLENGED, decide(4, "retired", "b")]
    after = state_as_of([*decisions, decide(6, action, "b")], day(7))
    assert names(after) == names(state_as_of(decisions, day(7)))
    assert (after.champion, after.challenge) == ("a", None)
    assert "b" not in after.trained


# What is recorded already


def test_step_repeats_itself() -> None:
    first = decide(3, "canary", "b")
    assert not repeated([], [first])
    assert repeated([*CHALLENGED, first, decide(3, "killed"), decide(4, "held", "b")], [first])
    assert not repeated([first, decide(3, "withdrawn", "b")], [first])
    assert not repeated([first, decide(3, "canary", "c")], [first])


def test_person_repeats_only_the_last_decision() -> None:
    killed = decide(3, "killed")
    assert repeated([*START, killed, decide(4, "held", "b")], [killed])
    assert not repeated([*START, killed, decide(3, "held", "b")], [killed])
    assert not repeated([*START, decide(3, "killed", by="hand:bob")], [killed])


def test_registrations_of_one_partition_are_separate() -> None:
    both = [register(3, "a"), register(3, "b", "challenger")]
    assert repeated([*START, *both], both)
    assert not repeated([*START, both[0]], both)
    assert standing([*both, both[0]])[-1].spec_id == "b"


def test_answer_and_what_follows() -> None:
    both = [decide(3, "approved", "b"), decide(3, "promoted", "b", "record_approval")]
    assert repeated([*CHALLENGED, *both], both)
    assert not repeated([*CHALLENGED, both[0]], both)
    # An answer about another spec, recorded for the same partition, replaces neither.
    late = decide(3, "declined", "c")
    assert state_as_of([*CHALLENGED, *both, late], day(4)).champion == "b"


def test_all_orders_of_a_stage() -> None:
    decisions = [*START, decide(3, "shadow", "b"), decide(5, "canary", "b"), decide(7, "promoted", "b")]
    for order in itertools.permutations(decisions):
        assert state_as_of(order, day(8)) == state_as_of(decisions, day(8))
