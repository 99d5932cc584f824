"""Rows of a spine are for the day, and within the window, that their partition predicts."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from nightshift.core.checks.declaration_checks import begun_at_cutoff
from nightshift.core.features.feature_computation import check_days, check_moments, compute_spine
from nightshift.declare.discovery import load_use_case
from nightshift.declare.feeds import Column
from nightshift.declare.use_case import UseCase, Window
from nightshift.errors import FeatureContractError
from support.errors import raises_code

DAY = date(2024, 5, 20)
NEXT = DAY + timedelta(days=1)


def use_case(window: Window, moment: str = "at") -> UseCase:
    """Cutoffs at 03:00 in New York, 07:00 UTC in May."""
    key = (Column("day", "date", nullable=False), Column("hour", "int64", nullable=False))
    flights = load_use_case("flight_delay")
    return dataclasses.replace(
        flights, prediction_key=key, prediction_date="day", window=window, prediction_moment=moment
    )


@pytest.fixture
def spine(tmp_path: Path) -> Path:
    """24 rows, one for each hour of the window; a partition is the day before the key's."""
    path = tmp_path / "spine.sql"
    path.write_text(
        "select ($partition + 1)::date as day, range as hour, $partition as partition, "
        "$window_start + range * interval 1 hour as at from range(24)"
    )
    return path


def changed(spine: Path, old: str, new: str) -> Path:
    text = spine.read_text()
    assert old in text
    spine.write_text(text.replace(old, new))
    return spine


@pytest.mark.parametrize(("window", "first"), [("day", 4), ("cutoff_to_cutoff", 7)])
def test_sql_gets_the_window(window: Window, first: int, spine: Path) -> None:
    moments = compute_spine(use_case(window), spine, {}, DAY)["at"].to_pylist()
    assert [(one.day, one.hour) for one in (moments[0], moments[-1])] == [(21, first), (22, first - 1)]


@pytest.mark.parametrize("window", ["day", "cutoff_to_cutoff"])
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("range(24)", "range(25)", "NS-FEATURE-021"),
        ("$window_start +", "$window_start - interval 1 second +", "NS-FEATURE-021"),
        ("interval 1 hour as at", "null::interval as at", "NS-FEATURE-021"),
        ("$partition + 1", "$partition + 2", "NS-FEATURE-020"),
        # As a training spine does that takes the day before the calendar day for the partition.
        ("$partition as partition", "($partition - 1)::date as partition", "NS-FEATURE-020"),
    ],
)
def test_a_row_outside_is_an_error(window: Window, old: str, new: str, code: str, spine: Path) -> None:
    changed(spine, old, new)
    rows = compute_spine(use_case(window), spine, {}, DAY)
    with raises_code(FeatureContractError, code, "spine.sql"):
        check_days(use_case(window), spine, rows)
        check_moments(use_case(window), spine, rows, DAY)


def test_moments_are_not_checked_unless_declared(spine: Path) -> None:
    by_day = use_case("day", moment="")
    check_moments(by_day, spine, compute_spine(by_day, changed(spine, "range(24)", "range(25)"), {}, DAY), DAY)


def test_rows_of_the_day_that_begin_before_the_cutoff_are_noted(spine: Path) -> None:
    def moments(of: UseCase) -> list[datetime]:
        found: list[datetime] = compute_spine(of, spine, {}, DAY)["at"].to_pylist()
        return found

    by_day, by_cutoff = use_case("day"), use_case("cutoff_to_cutoff")
    note = begun_at_cutoff(by_day, DAY, moments(by_day))
    assert note is not None
    assert note.code == "NS-USECASE-043"
    assert note.what.startswith("3 of the 24 rows")
    assert begun_at_cutoff(by_cutoff, DAY, moments(by_cutoff)) is None
