"""Partitions, cutoffs and the registration of use cases."""

import dataclasses
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.declare.discovery import all_use_cases, broken_use_cases, load_use_case
from nightshift.declare.feeds import Column
from nightshift.errors import ConfigurationError, UnknownUseCase
from nightshift.partitions import parse_partition, partition_range
from support.errors import raises_code
from support.second_use_case import ROOT as SECOND

DAYS = st.dates(date(1990, 1, 1), date(2040, 12, 31))


def test_the_cutoff_is_three_o_clock_in_new_york_on_the_next_day():
    flights = load_use_case("flight_delay")
    assert flights.cutoff(date(2013, 1, 1)) == datetime(2013, 1, 2, 8, 0, tzinfo=UTC)
    assert flights.cutoff(date(2013, 7, 1)) == datetime(2013, 7, 2, 7, 0, tzinfo=UTC)


def test_the_cutoff_moves_with_daylight_saving():
    flights = load_use_case("flight_delay")
    before, after = flights.cutoff(date(2013, 3, 8)), flights.cutoff(date(2013, 3, 9))
    assert (after - before).total_seconds() == 23 * 3600  # 2013-03-10, clocks went forward


@given(DAYS)
def test_cutoffs_are_in_order_and_about_a_day_apart(day):
    flights = load_use_case("flight_delay")
    first, second = (flights.cutoff(d) for d in partition_range(day, date.fromordinal(day.toordinal() + 1)))
    assert 23 <= (second - first).total_seconds() / 3600 <= 25


@given(DAYS)
@pytest.mark.parametrize("window", ["day", "cutoff_to_cutoff"])
def test_windows_follow_each_other_without_gaps(window, day):
    flights = dataclasses.replace(load_use_case("flight_delay"), window=window)
    before, (start, end) = (flights.prediction_window(d) for d in (day - timedelta(days=1), day))
    assert before[1] == start < end
    assert 23 <= (end - start).total_seconds() / 3600 <= 25


def test_a_window_is_the_calendar_day_or_goes_from_cutoff_to_cutoff():
    flights, day = load_use_case("flight_delay"), date(2013, 3, 9)  # on the 10th clocks go forward, on the 9th not
    hours = [datetime(2013, 3, 10, 5, tzinfo=UTC), datetime(2013, 3, 11, 4, tzinfo=UTC)]
    assert flights.prediction_window(day) == tuple(hours)
    moved = dataclasses.replace(flights, window="cutoff_to_cutoff")
    assert moved.prediction_window(day) == (moved.cutoff(day), moved.cutoff(date(2013, 3, 10)))
    assert (
        moved.sql_values(day)["window_start"] == moved.sql_values(day)["cutoff"] == datetime(2013, 3, 10, 7, tzinfo=UTC)
    )


@given(DAYS)
def test_partition_keys_read_back(day):
    assert parse_partition(day.isoformat()) == day


@pytest.mark.parametrize("key", ["", "2013-1-1", "20130101", "2013-02-30", "2013-01-01T00:00:00", "yesterday"])
def test_other_keys_are_an_error(key):
    with raises_code(ConfigurationError, "NS-SETTINGS-003"):
        parse_partition(key)


def test_a_range_includes_both_ends():
    assert partition_range(date(2013, 1, 30), date(2013, 2, 1)) == [
        date(2013, 1, 30),
        date(2013, 1, 31),
        date(2013, 2, 1),
    ]
    assert partition_range(date(2013, 1, 2), date(2013, 1, 1)) == []


def test_an_unknown_use_case_is_named_with_the_known_ones():
    with raises_code(UnknownUseCase, "NS-USECASE-001", "'nothing'", "flight_delay"):
        load_use_case("nothing")


def test_a_folder_elsewhere_registers_a_use_case(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    found = {use_case.name: use_case for use_case in all_use_cases()}
    assert set(found) == {"flight_delay", "late_returns"}
    assert found["late_returns"].feature_repo.exists()
    assert found["late_returns"].cron == "30 4 * * *"


def test_registering_use_cases_imports_nothing_heavy():
    code = (
        "import sys; from nightshift.declare.discovery import all_use_cases; all_use_cases(); "
        "print(sorted({'pandas','numpy','pyarrow','duckdb','feast','great_expectations','sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["flight_delay", "late_returns"])
def test_a_declaration_is_consistent(monkeypatch, name):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    use_case = load_use_case(name)
    files = [f.normalise for f in use_case.feeds] + [t.sql for t in use_case.features.tables]
    for path in [*files, use_case.features.prelude, use_case.training_spine, use_case.scoring_spine]:
        assert path.is_file(), path
    key = {column.name for column in use_case.prediction_key}
    assert use_case.prediction_date in key
    for feed in use_case.feeds:
        assert set(feed.key) <= {column.name for column in feed.curated}, feed.name
    features = use_case.features.numeric + use_case.features.categorical
    assert len(set(features)) == len(features) > 0
    assert use_case.fallback.numeric
    for spec in use_case.specs.values():
        assert set(spec.numeric) <= set(use_case.features.numeric), spec.name
        assert set(spec.categorical) <= set(use_case.features.categorical), spec.name


def test_expectation_about_no_feature_is_an_error():
    flights = load_use_case("flight_delay")
    (expectation, *_) = flights.verification.expectations
    misspelt = dataclasses.replace(expectation, feature=expectation.feature + "d")
    verification = dataclasses.replace(flights.verification, expectations=(misspelt,))
    with raises_code(ConfigurationError, "NS-USECASE-005", misspelt.feature):
        dataclasses.replace(flights, verification=verification)


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"cutoff_time": time(2, 30)}, "NS-USECASE-008", "2013-03-10"),
        ({"deadline": time(2, 30)}, "NS-USECASE-080", "2013-03-10"),
        ({"timezone": "Europe/Helsinki"}, "NS-USECASE-008", "2013-03-31"),
        ({"timezone": "New York"}, "NS-USECASE-010", "'New York'"),
        ({"prediction_date": "day"}, "NS-USECASE-006", "'day'"),
        ({"labels_from": ("flight",)}, "NS-USECASE-007", "['flight']"),
        ({"window": "night"}, "NS-USECASE-026", "'night'"),
    ],
)
def test_a_faulty_declaration_is_rejected_at_load(changes, code, named):
    with raises_code(ConfigurationError, code, named):
        dataclasses.replace(load_use_case("flight_delay"), **changes)


@pytest.mark.parametrize("timezone", ["America/New_York", "Europe/Vienna", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_a_cutoff_that_every_day_has_once_is_accepted(timezone):
    dataclasses.replace(load_use_case("flight_delay"), timezone=timezone, cutoff_time=time(4, 30))


def test_a_column_type_that_there_is_not_is_rejected():
    with raises_code(ConfigurationError, "NS-USECASE-004", "'int'"):
        Column("flight", "int")


@pytest.fixture
def broken_root(tmp_path, monkeypatch):
    """A root with a use case whose line 2 raises, and a second root that holds none."""
    # Named for the test: a package that was imported once is not looked for again.
    folder = tmp_path / "one" / "include" / tmp_path.name
    folder.mkdir(parents=True)
    (folder / "use_case.py").write_text("from nightshift.declare.feeds import Column\nColumn('a', 'int')\n")
    (tmp_path / "two").mkdir()
    roots = [str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "three")]
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", os.pathsep.join(roots))
    return tmp_path


def test_a_broken_use_case_stops_no_other(broken_root):
    assert [use_case.name for use_case in all_use_cases()] == ["flight_delay"]
    assert load_use_case("flight_delay").name == "flight_delay"


def test_a_broken_use_case_is_named_with_file_and_line(broken_root):
    broken = broken_use_cases()
    path = str(broken_root / "one" / "include" / broken_root.name / "use_case.py")
    assert set(broken) == {path, str(broken_root / "two"), str(broken_root / "three")}
    assert f"{path}, line 2: ConfigurationError: NS-USECASE-004" in broken[path]
    with raises_code(ConfigurationError, "NS-USECASE-004", "'a'"):
        load_use_case(broken_root.name)


def test_the_deadline_is_two_hours_after_the_cutoff_unless_it_is_declared():
    flights, day = load_use_case("flight_delay"), date(2013, 1, 1)
    assert flights.deadline_of(day) == flights.cutoff(day) + timedelta(hours=2)
    assert dataclasses.replace(flights, deadline=time(4, 15)).deadline_of(day) == datetime(
        2013, 1, 2, 9, 15, tzinfo=UTC
    )
    evening = dataclasses.replace(flights, cutoff_time=time(22), deadline=time(6))
    assert evening.deadline_of(day) == datetime(2013, 1, 3, 11, tzinfo=UTC)
    assert dataclasses.replace(flights, cutoff_time=time(23)).deadline_of(day) == datetime(2013, 1, 3, 6, tzinfo=UTC)


@settings(deadline=None)
@given(DAYS, st.integers(0, 23), st.one_of(st.none(), st.integers(0, 23)))
def test_a_partition_is_due_from_its_deadline_to_the_next(day, cutoff, deadline):
    goes_on = dataclasses.replace(
        load_use_case("flight_delay"), timezone="UTC", cutoff_time=time(cutoff), last_partition=None,
        deadline=None if deadline is None else time(deadline), first_partition=date(1989, 1, 1),
    )  # fmt: skip
    at = goes_on.deadline_of(day)
    assert goes_on.cutoff(day) < at <= goes_on.cutoff(day) + timedelta(days=1)
    assert goes_on.due_partition(at) == day
    assert goes_on.due_partition(at - timedelta(seconds=1)) == day - timedelta(days=1)


def test_nothing_is_due_before_the_first_partition_and_after_the_last():
    flights = load_use_case("flight_delay")
    first, last = flights.first_partition, flights.last_partition
    assert flights.due_partition(flights.deadline_of(first) - timedelta(seconds=1)) is None
    assert flights.due_partition(flights.deadline_of(first)) == first
    assert flights.due_partition(flights.deadline_of(last)) == last
    assert flights.due_partition(flights.deadline_of(last + timedelta(days=1))) is None
