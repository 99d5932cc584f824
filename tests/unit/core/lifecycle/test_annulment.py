"""Decisions that are annulled: from when on, and what stays."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.lifecycle.annulment import first_affected
from nightshift.core.lifecycle.state import state_as_of
from nightshift.deployment import Deployment
from support.decisions import WATCHED, day, decide, primary


def numbered(decisions: list[Deployment]) -> list[Deployment]:
    """As they are read from the warehouse."""
    return [one.model_copy(update={"deployment_id": number}) for number, one in enumerate(decisions, start=1)]


def annul(decisions: list[Deployment], number: int, partition: int) -> list[Deployment]:
    return numbered([*decisions, decide(partition, "annulled", by="hand:ann", annuls=number)])


def test_annulled_decision_counts_up_to_the_partition_of_the_annulment() -> None:
    killed = [*WATCHED, decide(7, "killed")]
    assert primary(annul(killed, len(killed), 9), 7, 8, 9, 10) == ["b3", "f1", "f1", "b3"]
    # Annulled as of its own partition, or an earlier one, it never counts.
    for partition in (7, 5):
        assert primary(annul(killed, len(killed), partition), 7, 8, 9) == ["b3", "b3", "b3"]


def test_annulled_rollback_leaves_later_decisions_in_place() -> None:
    rolled_back = [*WATCHED, decide(7, "rolled_back", "a", "hand:ann", replaces="b"), decide(8, "killed")]
    state = state_as_of(annul(rolled_back, len(rolled_back) - 1, 9), day(10))
    assert (state.champion, state.former, state.killed is not None) == ("b", ("a",), True)


@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 12))
def test_annulment_changes_later_partitions_only(number: int, partition: int, asked: int) -> None:
    by_hand_ = [("killed", ""), ("restored", ""), ("rolled_back", "a"), ("retired", "a")]
    rows = [decide(5 + n, action, spec, "hand:ann") for n, (action, spec) in enumerate(2 * by_hand_)]
    decisions = numbered([*WATCHED, *rows])
    annulled = len(WATCHED) + number
    without = [one for one in decisions if one.deployment_id != annulled]
    expected = decisions if asked <= partition else without
    assert state_as_of(annul(decisions, annulled, partition), day(asked)) == state_as_of(expected, day(asked))


def test_first_affected_partition_of_an_annulment() -> None:
    decisions = numbered([*WATCHED, decide(7, "killed"), decide(9, "restored"), decide(20, "killed")])
    killed, later = len(WATCHED) + 1, len(WATCHED) + 3

    def affected(number: int, partition: int) -> date | None:
        return first_affected(decisions, decide(partition, "annulled", by="hand:ann", annuls=number))

    assert affected(killed, 6) == affected(killed, 7) == day(8)
    assert affected(killed, 8) == day(9)
    assert affected(killed, 9) is None
    # One of a later date has no effect before that.
    assert affected(later, 9) == day(21)
