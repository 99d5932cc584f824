"""A feed of another use case's predictions is compared with that use case when it is loaded."""

from __future__ import annotations

import dataclasses
import itertools
import os
from datetime import time
from pathlib import Path

import pytest

from nightshift.declare.discovery import all_use_cases, broken_use_cases, load_fault, load_use_case
from nightshift.declare.feeds import Column
from nightshift.declare.predictions import Predictions
from nightshift.declare.upstreams import check_upstreams
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.services.check_use_case import check
from support.errors import raises_code
from support.second_use_case import CONSUMER_ROOT, ROOT

NUMBERS = itertools.count()


@pytest.fixture
def late_fees(monkeypatch) -> UseCase:
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", os.pathsep.join([str(ROOT), str(CONSUMER_ROOT)]))
    return load_use_case("late_fees")


def changed(use_case: UseCase, source: Predictions, *columns: Column, **changes) -> UseCase:
    """The consumer with another source, further columns of its feed of predictions, and other declarations."""
    feeds = tuple(
        dataclasses.replace(feed, source=source, landed=(*feed.landed, *columns)) if feed.source else feed
        for feed in use_case.feeds
    )
    return dataclasses.replace(use_case, feeds=feeds, **changes)


def test_a_consumer_is_found_beside_its_upstream(late_fees):
    assert {use_case.name for use_case in all_use_cases()} == {"flight_delay", "late_fees", "late_returns"}
    assert late_fees.upstreams == ("late_returns",)
    assert load_use_case("late_returns").upstreams == ()
    assert check("late_fees") == []


def test_published_columns_are_those_of_the_predictions(late_fees):
    published = {column.name: column.type for column in load_use_case("late_returns").published_columns}
    assert published == {
        "booking_date": "date", "booking": "int64", "branch": "string", "p_late": "float64", "decision": "bool",
        "model_version": "string",
    }  # fmt: skip


@pytest.mark.parametrize(
    "column",
    [Column("hours", "float64"), Column("p_late", "int64"), Column("raw_score", "float64")],
    ids=["not published", "other type", "not public"],
)
def test_a_column_that_the_upstream_does_not_publish_is_rejected(late_fees, column):
    feeds = changed(late_fees, Predictions("late_returns", lag=0), column)
    with raises_code(ConfigurationError, "NS-UPSTREAM-003", f"'{column.name}' ({column.type})", "p_late (float64)"):
        check_upstreams(feeds, load_use_case)


@pytest.mark.parametrize(
    ("timezone", "cutoff", "lag", "accepted"),
    [
        ("Europe/Vienna", time(4, 30), 0, False),
        ("Europe/Vienna", time(4, 31), 0, True),
        ("Europe/Vienna", time(4, 30), 1, True),
        ("Europe/Vienna", time(3, 30), 1, True),
        # 03:30 in London is 04:30 in Vienna.
        ("Europe/London", time(3, 30), 0, False),
        ("Europe/London", time(3, 45), 0, True),
        # 02:35 UTC is 03:35 in Vienna in winter and 04:35 in summer: known in summer only.
        ("UTC", time(2, 35), 0, False),
        ("UTC", time(3, 35), 0, True),
    ],
)  # fmt: skip
def test_predictions_have_to_be_known_at_every_cutoff(late_fees, timezone, cutoff, lag, accepted):
    use_case = changed(late_fees, Predictions("late_returns", lag=lag), timezone=timezone, cutoff_time=cutoff)
    if accepted:
        check_upstreams(use_case, load_use_case)
        return
    with raises_code(ConfigurationError, "NS-UPSTREAM-004", "late_returns", "return_scores"):
        check_upstreams(use_case, load_use_case)


def test_lag_1_is_not_enough_across_the_date_line(late_fees):
    late = dataclasses.replace(load_use_case("late_returns"), timezone="Etc/GMT+12", cutoff_time=time(23))
    early = changed(late_fees, Predictions("late_returns"), timezone="Pacific/Kiritimati", cutoff_time=time(1))
    with raises_code(ConfigurationError, "NS-UPSTREAM-004"):
        check_upstreams(early, lambda name: late)


@pytest.mark.parametrize("values", [{"lag": 2}, {"lag": -1}, {"on_missing": "wait"}])
def test_other_rules_are_rejected(values):
    with raises_code(ConfigurationError, "NS-UPSTREAM-005", *values.values()):
        Predictions("late_returns", **values)


def test_a_snapshot_of_predictions_is_rejected(late_fees):
    feeds = tuple(dataclasses.replace(feed, cadence="snapshot") if feed.source else feed for feed in late_fees.feeds)
    with raises_code(ConfigurationError, "NS-UPSTREAM-006", "return_scores"):
        check_upstreams(dataclasses.replace(late_fees, feeds=feeds), load_use_case)


# Cycles, among use cases that are written to a root


SOURCE = """
from dataclasses import replace
from datetime import time
from pathlib import Path
from late_returns.use_case import USE_CASE as MODEL, KEY, SQL
from nightshift.declare.feeds import Feed, Predictions

feeds = tuple(
    Feed(f"of_{{name}}", KEY, KEY, SQL / "bookings.sql", ("booking",), source=Predictions(name)) for name in {upstreams}
)
USE_CASE = replace(MODEL, name="{name}", feeds=(*MODEL.feeds, *feeds), folder=Path(__file__).parent)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes use cases with upstreams among each other: names of their own, because packages stay imported."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", os.pathsep.join([str(ROOT), str(tmp_path)]))
    load_use_case("late_returns")
    number = next(NUMBERS)

    def write_all(**upstreams: str) -> dict[str, str]:
        names = {name: f"{name}_{number}" for name in upstreams}
        for name, read in upstreams.items():
            folder = tmp_path / "include" / names[name]
            folder.mkdir(parents=True)
            text = SOURCE.format(name=names[name], upstreams=[names.get(one, one) for one in read.split()])
            (folder / "use_case.py").write_text("USE_CASE = nothing\n" if read == "BROKEN" else text)
        return names

    return write_all


def test_a_cycle_is_rejected_and_stops_only_its_members(write):
    names = write(a="b", b="c", c="a", reader="a", other="late_returns")
    loaded = {use_case.name for use_case in all_use_cases()}
    assert loaded == {"flight_delay", "late_returns", names["reader"], names["other"]}
    broken = {Path(path).parent.name: fault for path, fault in broken_use_cases().items()}
    assert set(broken) == {names["a"], names["b"], names["c"]}
    assert f"NS-UPSTREAM-002: {names['a']} reads" in broken[names["a"]]
    assert f"{names['b']} reads {names['c']} reads {names['a']} reads {names['b']}" in broken[names["b"]]
    (fault,) = check(names["a"])
    assert (fault.code, Path(fault.file).parent.name) == ("NS-UPSTREAM-002", names["a"])


def test_a_use_case_that_reads_itself_is_rejected(write):
    names = write(a="a")
    with raises_code(ConfigurationError, "NS-UPSTREAM-002", f"{names['a']} reads {names['a']}"):
        load_use_case(names["a"])


def test_two_ways_to_one_upstream_are_no_cycle(write):
    names = write(a="b c", b="d", c="d", d="late_returns")
    assert load_use_case(names["a"]).upstreams == (names["b"], names["c"])


def test_a_broken_upstream_does_not_stop_its_consumer(write):
    names = write(a="b", b="BROKEN")
    assert load_use_case(names["a"]).name == names["a"]
    assert load_fault(names["a"]) is None
    assert "NameError" in (load_fault(names["b"]) or "")


def test_an_unknown_upstream_is_located_in_the_declaration(write):
    names = write(a="nothing")
    (fault,) = check(names["a"])
    assert fault.code == "NS-UPSTREAM-001"
    assert Path(fault.file).name == "use_case.py"
    with raises_code(ConfigurationError, "NS-UPSTREAM-001", "'nothing'"):
        load_use_case(names["a"])
