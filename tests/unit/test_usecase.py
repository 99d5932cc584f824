"""Partitions, cutoffs and the registration of use cases."""

import dataclasses
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.errors import ConfigurationError, UnknownUseCase
from nightshift.usecase import all_use_cases, load_use_case, parse_partition, partition_range

SECOND = Path(__file__).resolve().parents[1] / "second_use_case"
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
def test_partition_keys_read_back(day):
    assert parse_partition(day.isoformat()) == day


@pytest.mark.parametrize("key", ["", "2013-1-1", "20130101", "2013-02-30", "2013-01-01T00:00:00", "yesterday"])
def test_other_keys_are_refused(key):
    with pytest.raises(ConfigurationError, match="YYYY-MM-DD"):
        parse_partition(key)


def test_a_range_includes_both_ends():
    assert partition_range(date(2013, 1, 30), date(2013, 2, 1)) == [
        date(2013, 1, 30),
        date(2013, 1, 31),
        date(2013, 2, 1),
    ]
    assert partition_range(date(2013, 1, 2), date(2013, 1, 1)) == []


def test_an_unknown_use_case_is_named_with_the_known_ones():
    with pytest.raises(UnknownUseCase, match=r"'nothing'.*flight_delay"):
        load_use_case("nothing")


def test_a_folder_elsewhere_registers_a_use_case(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    found = {use_case.name: use_case for use_case in all_use_cases()}
    assert set(found) == {"flight_delay", "late_returns"}
    assert found["late_returns"].feature_repo.exists()
    assert found["late_returns"].cron == "30 4 * * *"


def test_registering_use_cases_imports_nothing_heavy():
    code = (
        "import sys; from nightshift.usecase import all_use_cases; all_use_cases(); "
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


def test_an_expectation_about_no_feature_is_refused():
    flights = load_use_case("flight_delay")
    (expectation, *_) = flights.verification.expectations
    misspelt = dataclasses.replace(expectation, feature=expectation.feature + "d")
    verification = dataclasses.replace(flights.verification, expectations=(misspelt,))
    with pytest.raises(ConfigurationError, match="none of its features"):
        dataclasses.replace(flights, verification=verification)
