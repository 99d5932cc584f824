"""The SQL of the flight feeds: clocks, time zones, tail numbers, weather that jumps."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from flight_delay import replay
from flight_delay.feeds import FLIGHTS, SCHEDULE, WEATHER
from nightshift.core.ingest.landed_table import landed_schema
from nightshift.declare.feeds import Feed
from nightshift.partitions import partition_range
from support.landing import curate, read_landed

FLIGHT: dict[str, Any] = {
    "year": 2013,
    "month": 3,
    "day": 9,
    "sched_dep_time": 2130,
    "sched_arr_time": 45,
    "carrier": "B6",
    "flight": 671,
    "origin": "JFK",
    "dest": "LAX",
    "distance": 2475.0,
    "hour": 21,
    "minute": 30,
    "time_hour": datetime(2013, 3, 10, 2, tzinfo=UTC),
    "dep_time": 2140,
    "dep_delay": 10.0,
    "arr_time": 50,
    "arr_delay": 5.0,
    "tailnum": "N625JB",
    "air_time": 340.0,
}


def curated(feed: Feed, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    names = {column.name for column in feed.landed}
    numbered = [
        {name: value for name, value in row.items() if name in names} | {"landed_uri": "f", "landed_row": n}
        for n, row in enumerate(rows, start=1)
    ]
    result = curate(feed, pa.Table.from_pylist(numbered, schema=landed_schema(feed.landed)))
    found: list[dict[str, Any]] = result.rows.to_pylist()
    return found


def at(local_hour: int, minute: int, utc: datetime, day: tuple[int, int, int]) -> dict[str, Any]:
    year, month, day_of_month = day
    return {
        **FLIGHT,
        "year": year,
        "month": month,
        "day": day_of_month,
        "sched_dep_time": local_hour * 100 + minute,
        "hour": local_hour,
        "minute": minute,
        "time_hour": utc,
    }


@pytest.mark.parametrize(
    ("local_hour", "utc_hour", "day", "agrees"),
    [
        (21, 2, (2013, 3, 9), True),  # standard time, the evening before
        (1, 6, (2013, 3, 10), True),  # the last standard hour
        (2, 7, (2013, 3, 10), False),  # an hour that was never on a clock
        (3, 7, (2013, 3, 10), True),  # the first daylight hour
        (3, 8, (2013, 3, 10), False),  # still on standard time: an hour off
        (1, 5, (2013, 11, 3), True),  # 01:30 came twice that night
        (1, 6, (2013, 11, 3), True),
        (12, 12, (2013, 6, 1), False),  # local time labelled as UTC
    ],
)
def test_departures_count_if_local_clock_and_utc_agree(
    local_hour: int, utc_hour: int, day: tuple[int, int, int], agrees: bool
) -> None:
    utc_day = 10 if local_hour == 21 else day[2]
    hour = datetime(day[0], day[1], utc_day, utc_hour, tzinfo=UTC)
    [row] = curated(SCHEDULE, at(local_hour, 30, hour, day))
    assert row["scheduled_departure_at"] == (hour.replace(minute=30) if agrees else None)
    assert row["scheduled_departure_minute"] == local_hour * 60 + 30
    assert row["flight_date"] == date(*day)


@pytest.mark.parametrize("changed", [{"month": 13}, {"day": 31, "month": 2}, {"sched_dep_time": 2175}])
def test_impossible_times_and_days_become_null(changed: dict[str, Any]) -> None:
    first, second = curated(SCHEDULE, FLIGHT | changed, FLIGHT | {"flight": 1})
    assert first["scheduled_departure_at"] is None
    assert second["scheduled_departure_at"] == datetime(2013, 3, 10, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "changed", [{"minute": -(2**63)}, {"dep_delay": 1e300}, {"dep_delay": 1e10}, {"air_time": -1e10}]
)
def test_absurd_times_become_null(changed: dict[str, Any]) -> None:
    first, second = curated(FLIGHTS, FLIGHT | changed, FLIGHT | {"flight": 1})
    assert first["arrived_at"] is None
    assert second["arrived_at"] is not None


def test_every_clock_of_a_daylight_saving_week_agrees_with_utc() -> None:
    for partition in partition_range(date(2013, 3, 8), date(2013, 3, 11)):
        for feed in (SCHEDULE, FLIGHTS):
            bodies = [body for name, _, _, body in replay.deliveries(partition) if name == feed.name]
            for body in bodies:
                rows = curate(feed, read_landed(feed, "f", body).rows).rows
                assert rows["scheduled_departure_at"].null_count == 0


def test_arrival_in_utc_needs_no_time_zone_of_the_destination() -> None:
    # 21:40 to 00:50 on the clocks is 190 minutes; 340 in the air, so 30 of taxi and three hours of longitude.
    [row] = curated(FLIGHTS, FLIGHT)
    assert row["arrived_at"] == datetime(2013, 3, 10, 8, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, "arrived"),
        ({"arr_delay": None, "air_time": None}, "diverted"),
        (dict.fromkeys(("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum")), "cancelled"),
    ],
)
def test_status(changed: dict[str, Any], status: str) -> None:
    [row] = curated(FLIGHTS, FLIGHT | changed)
    assert row["status"] == status
    assert (row["arrived_at"] is None) == (status != "arrived")


@pytest.mark.parametrize(
    ("tailnum", "kept"), [("N625JB", True), ("N5PBMQ", True), ("N0EGMQ", False), ("D942DN", False), (None, False)]
)
def test_a_malformed_tail_number_costs_itself_and_not_the_flight(tailnum: str | None, kept: bool) -> None:
    [row] = curated(FLIGHTS, FLIGHT | {"tailnum": tailnum})
    assert row["tailnum"] == (tailnum if kept else None)
    assert row["landed_tailnum"] == tailnum
    assert row["arrival_delay_minutes"] == 5.0


def weather(*hours: tuple[int, float | None]) -> list[dict[str, Any]]:
    rows = [
        {
            "origin": "JFK",
            "year": 2013,
            "month": 5,
            "day": 8,
            "hour": hour,
            "temp": temperature,
            "time_hour": datetime(2013, 5, 8, hour + 4, tzinfo=UTC),
        }
        for hour, temperature in hours
    ]
    return curated(WEATHER, *rows)


@pytest.mark.parametrize(
    ("temperatures", "jumps"),
    [
        ([57, 57, 13, 57, 57], [0, 0, 44, 0, 0]),
        ([57, 80, 80, 80], [23, 0, 0, 0]),  # a front moves on and stays
        ([13, 57, 57], [44, 0, 0]),  # the first of the delivery has one neighbour
        ([57, 57, 13], [0, 0, 44]),
        ([57, None, 13], [None, None, None]),
        ([57], [None]),
    ],
)
def test_temperature_jumps(temperatures: list[float | None], jumps: list[float | None]) -> None:
    rows = weather(*enumerate(temperatures))
    assert [row["temperature_jump_f"] for row in rows] == jumps


def test_neighbours_far_apart_are_no_neighbours() -> None:
    assert [row["temperature_jump_f"] for row in weather((0, 40), (8, 70), (16, 40))] == [None, None, None]
    assert [row["hours_missing_before"] for row in weather((0, 40), (1, 40), (4, 40))] == [0, 0, 2]


def test_weather_hours_count_if_local_clock_and_utc_agree() -> None:
    row = {"origin": "JFK", "year": 2013, "month": 5, "day": 8, "hour": 1}
    rows = [row | {"time_hour": datetime(2013, 5, 8, hour, tzinfo=UTC)} for hour in (1, 5)]
    assert [found["observed_at"] for found in curated(WEATHER, *rows)] == [None, datetime(2013, 5, 8, 5, tzinfo=UTC)]
