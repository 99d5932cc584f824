"""Drift of columns: each statistic finds what it is for, and ordinary days do not drift."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.monitoring.day_summary import summarise
from nightshift.core.monitoring.drift import (
    ColumnCounts,
    column_counts,
    compare,
    curve,
    describe,
    drift_of_columns,
    group,
    overall_verdict,
    window_statistics,
)
from nightshift.declare.policies import DriftPolicy
from nightshift.documents.check_drift import ColumnDrift, GroupDrift
from nightshift.partitions import partition_range

POLICY = DriftPolicy()
FIRST = date(2013, 1, 1)
DAYS = 80
ROWS = 200
Change = Callable[[dict[str, object], dict[str, object]], dict[str, object]]


def ordinary(number: int) -> dict[str, object]:
    """Wind in steps of a knot with a mean of its own each day, a minute of the day, and a carrier."""
    rng = np.random.default_rng(number)
    return {
        "wind": np.round(np.abs(rng.normal(rng.uniform(5, 15), 4, ROWS))) * 1.15078,
        "minute": rng.integers(300, 1380, ROWS).astype(float),
        "carrier": rng.choice(["AA", "B6", "DL", "UA"], ROWS, p=[0.2, 0.3, 0.2, 0.3]).tolist(),
        "age": np.where(rng.uniform(size=ROWS) < 0.1, np.nan, rng.integers(1, 20, ROWS)),
    }


def drift_with(change: Change | None, days: int = 1, total: int = DAYS) -> dict[str, ColumnDrift]:
    """The drift of the last day by column, with the last `days` days changed (their data, the day before's)."""
    tables, before = {}, ordinary(0)
    for number in range(total):
        found = ordinary(number)
        changed = change(found, before) if change and number >= total - days else found
        before = found
        day = FIRST + timedelta(days=number)
        cutoff = datetime(2013, 1, 2, 8, tzinfo=UTC) + timedelta(days=number)
        tables[day] = summarise("weather", pa.table(changed), partition=day, cutoff=cutoff)
    columns = column_counts(tables, sorted(tables))
    return {one.column: one for one in drift_of_columns(columns, POLICY)}


def test_ordinary_days_do_not_drift() -> None:
    found = drift_with(None)
    assert set(found) == {"", "wind", "minute", "carrier", "age"}
    assert not [one for one in found.values() if one.drifted]


@pytest.mark.parametrize(
    ("column", "statistic", "change"),
    [
        ("wind", "unseen", lambda now, _: now | {"wind": np.round(np.asarray(now["wind"]) * 0.44704, 2)}),
        ("wind", "outside", lambda now, _: now | {"wind": np.asarray(now["wind"]) * 100}),
        ("wind", "commonest", lambda now, _: now | {"wind": np.full(ROWS, 10 * 1.15078)}),
        ("minute", "level", lambda now, _: now | {"minute": 1379 - np.asarray(now["minute"]) % 500}),
        ("minute", "repeated", lambda _, before: before),
        ("carrier", "new", lambda now, _: now | {"carrier": ["DX" if one == "DL" else one for one in now["carrier"]]}),
        ("carrier", "gone", lambda now, _: now | {"carrier": ["AA" if one == "DL" else one for one in now["carrier"]]}),
        ("age", "nulls", lambda now, _: now | {"age": np.where(np.arange(ROWS) % 3, np.asarray(now["age"]), np.nan)}),
        ("", "rows", lambda now, _: {name: list(values)[: ROWS // 2] for name, values in now.items()}),
    ],
)
def test_each_statistic_finds_its_fault_in_one_day(column: str, statistic: str, change: Change) -> None:
    one = drift_with(change)[column]
    assert one.drifted
    if column != "carrier":  # of a renamed carrier, one name is new and one is gone
        assert one.statistic == statistic
    assert one.days == 1


def test_a_lasting_shift_within_the_range_of_days_is_found_over_several() -> None:
    def windy(now: dict[str, object], _: dict[str, object]) -> dict[str, object]:
        strong = np.random.default_rng(int(np.asarray(now["minute"])[0])).normal(15, 4, ROWS)
        return now | {"wind": np.round(np.abs(strong)) * 1.15078}

    total = POLICY.days + 5
    assert not drift_with(windy, days=1, total=total)["wind"].drifted
    one = drift_with(windy, days=28, total=total)["wind"]
    assert one.drifted
    assert one.days == 28


def test_too_short_a_reference_is_not_judged() -> None:
    needed = POLICY.least_reference_days + POLICY.recent_days - 1
    assert drift_with(None, total=needed) == {}
    assert {one.days for one in drift_with(None, total=needed + 1).values()} <= {1, 7}


@pytest.mark.parametrize("nights", [1, 2, POLICY.recent_days])
def test_a_fault_that_goes_on_is_no_reference_for_its_next_nights(nights: int) -> None:
    def metric(now: dict[str, object], _: dict[str, object]) -> dict[str, object]:
        return now | {"wind": np.round(np.asarray(now["wind"]) * 0.44704, 2)}

    one = drift_with(metric, days=nights)["wind"]
    assert (one.drifted, one.statistic) == (True, "unseen")


def test_an_empty_delivery_has_no_rows() -> None:
    one = drift_with(lambda now, _: {name: list(values)[:0] for name, values in now.items()})[""]
    assert (one.statistic, one.value, one.drifted) == ("rows", 0.0, True)


def test_a_curve_ends_with_the_value_that_was_compared() -> None:
    tables = {}
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        cutoff = datetime(2013, 1, 2, 8, tzinfo=UTC)
        tables[day] = summarise("weather", pa.table(ordinary(number)), partition=day, cutoff=cutoff)
    days = partition_range(FIRST, FIRST + timedelta(days=DAYS - 1))
    columns = column_counts(tables, days)
    for one in drift_of_columns(columns, POLICY):
        found = curve(columns, one, days, POLICY)
        assert (found.days[-1], found.values[-1]) == (days[-1], one.value)
        assert one.low == min(found.values[: -POLICY.outside_reference(one.days)])


def test_shape_and_new_are_shares_of_values() -> None:
    days = np.full((30, 10), 20, np.int64)
    days[-1] = [40, 0] * 5
    delivered, nulls = np.ones(30, bool), np.zeros(30, np.int64)
    found = window_statistics(ColumnCounts(days, nulls, delivered, np.arange(10.0)), 1, 29, 20)
    assert found["shape"][[0, -1]] == pytest.approx([0.0, 0.5])
    texts = np.array([[20, 0]] * 29 + [[15, 5]])
    found = window_statistics(ColumnCounts(texts, nulls, delivered), 1, 29, 20)
    assert found["new"][[0, -1]] == pytest.approx([0.0, 0.25])


@pytest.mark.parametrize(
    ("statistic", "earlier", "value", "excess"),
    [
        ("level", [0.5, 0.5], 0.55, 0.5),
        ("level", [0.5, 0.5], 0.3, -2.0),
        ("level", [0.995, 0.999], 0.5, -4.95),
        ("nulls", [0.0, 0.1], 0.4, 1.5),
        ("nulls", [0.2, 0.3], 0.0, 0.0),
        ("commonest", [0.14, 0.14], 0.28, 0.14 / 0.3),
    ],
)
def test_a_value_is_compared_with_range_and_least_change(statistic, earlier, value, excess) -> None:
    one = compare("weather", "wind", statistic, 7, value, np.array(earlier), POLICY)
    assert one.excess == pytest.approx(excess)


def column(name: str, excess: float) -> ColumnDrift:
    return ColumnDrift(
        source="weather", column=name, statistic="level", days=7, value=0.8, low=0.4, high=0.6, excess=excess
    )


def test_a_group_names_what_moved_most() -> None:
    found = group([column("calm", 0.2), column("wind", -3.0), column("dew", 1.5)], "")
    assert [one.column for one in found.columns] == ["wind", "dew", "calm"]
    assert [one.column for one in found.drifted] == ["wind", "dew"]
    assert found.verdict == "drifted"
    assert describe(found.columns[0]) in found.reason
    assert group([column("calm", 1.0)], "").verdict == "stable"
    assert group([], "28 days are needed").verdict == "not judged"


def test_the_overall_verdict_is_the_worst() -> None:
    stable, drifted, unknown = group([column("a", 0)], ""), group([column("a", 2)], ""), group([], "")
    for groups, expected in (
        ([stable, unknown], "stable"),
        ([stable, drifted], "drifted"),
        ([unknown], "not judged"),
    ):
        assert overall_verdict(groups) == expected
    assert isinstance(stable, GroupDrift)
