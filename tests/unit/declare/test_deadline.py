"""When the predictions of a partition have to be published."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time

import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase

ORDINARY, SPRING = date(2013, 2, 1), date(2013, 3, 9)


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    """03:00 in New York, from 2013-01-01 on, without an end."""
    return replace(load_use_case("flight_delay"), last_partition=None)


def test_two_hours_after_the_cutoff_unless_declared(use_case: UseCase) -> None:
    assert use_case.deadline_of(ORDINARY) == datetime(2013, 2, 2, 10, tzinfo=UTC)
    assert use_case.deadline_of(SPRING) == datetime(2013, 3, 10, 9, tzinfo=UTC)  # 05:00, four hours after midnight
    assert replace(use_case, deadline=time(6, 30)).deadline_of(ORDINARY) == datetime(2013, 2, 2, 11, 30, tzinfo=UTC)


def test_a_deadline_earlier_in_the_day_than_the_cutoff_is_on_the_next_day(use_case: UseCase) -> None:
    late = replace(use_case, cutoff_time=time(23), deadline=time(0, 30))
    assert late.deadline_of(ORDINARY) == datetime(2013, 2, 3, 5, 30, tzinfo=UTC)
    assert late.due_partition(datetime(2013, 2, 3, 5, 29, tzinfo=UTC)) == date(2013, 1, 31)
    assert late.due_partition(datetime(2013, 2, 3, 5, 30, tzinfo=UTC)) == ORDINARY


def test_the_newest_due_partition_changes_at_its_deadline(use_case: UseCase) -> None:
    assert use_case.due_partition(datetime(2013, 2, 2, 9, 59, 59, tzinfo=UTC)) == date(2013, 1, 31)
    assert use_case.due_partition(datetime(2013, 2, 2, 10, tzinfo=UTC)) == ORDINARY


def test_nothing_is_due_before_the_first_partition_and_after_the_end_of_a_replay(use_case: UseCase) -> None:
    assert use_case.due_partition(datetime(2013, 1, 2, 9, tzinfo=UTC)) is None
    replay = replace(use_case, last_partition=ORDINARY)
    assert replay.due_partition(datetime(2013, 2, 3, 9, tzinfo=UTC)) == ORDINARY
    assert replay.due_partition(datetime(2013, 2, 3, 10, tzinfo=UTC)) is None
