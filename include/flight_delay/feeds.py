"""The feeds that producers deliver, and the expectations on them.

The effect of a breach depends on the feed. A quarantined `schedule` row is a flight without a
prediction, so only rows that cannot be scored are set aside there. A quarantined `flights` row is
one label less; in place of a quarantined `weather` row the hour before it is used. Unusual but
harmless rows get a warning that names each of them, and are kept.

Known faults of the data of 2013, and how they are handled:

- wind at 1,048 mph (EWR, 12 February), one hour at 13 F between two at 57 F (JFK, 8 May): quarantined
- 375 malformed tail numbers (N0EGMQ, D942DN): the number is set to null, the flight is kept, a
  warning names the row. Fleet numbers that American carriers report instead of the registration
  (N5PBMQ) identify a plane well enough and pass
- 50,094 flights of planes that are not in `planes`, planes with fewer than 20 seats, which are
  private planes matched to an airline's fleet number by mistake: warnings
- 165 missing weather hours: warnings. Missing pressure, wind and gusts are informative and allowed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightshift.declare.feeds import Column, Expectation, Feed

_SQL = Path(__file__).resolve().parent / "normalise"
_ORIGINS = ("EWR", "JFK", "LGA")
_PARTITION = {"$PARAMETER": "partition"}
_NEXT_DAY = {"$PARAMETER": "next_day"}
_OLDEST_LABEL = {"$PARAMETER": "oldest_label"}
_CUTOFF = {"$PARAMETER": "cutoff"}


def _critical(kind: str, reason: str, **kwargs: Any) -> Expectation:
    return Expectation(kind, kwargs, "critical", reason)


def _quarantine(kind: str, reason: str, **kwargs: Any) -> Expectation:
    return Expectation(kind, kwargs, "quarantine", reason)


def _warning(kind: str, reason: str, **kwargs: Any) -> Expectation:
    return Expectation(kind, kwargs, "warning", reason)


def _between(column: str, low: float, high: float, reason: str) -> Expectation:
    return _quarantine("expect_column_values_to_be_between", reason, column=column, min_value=low, max_value=high)


_PLAN_LANDED = (
    Column("year", "int64", nullable=False),
    Column("month", "int64", nullable=False),
    Column("day", "int64", nullable=False),
    Column("sched_dep_time", "int64", nullable=False, unit="HHMM, New York"),
    Column("sched_arr_time", "int64", nullable=False, unit="HHMM, local at the destination"),
    Column("carrier", "string", nullable=False),
    Column("flight", "int64", nullable=False),
    Column("origin", "string", nullable=False),
    Column("dest", "string", nullable=False),
    Column("distance", "float64", nullable=False, unit="miles"),
    Column("hour", "int64", nullable=False, unit="hour of departure, New York"),
    Column("minute", "int64", nullable=False, unit="minutes past that hour"),
    Column("time_hour", "timestamp", nullable=False, description="hour of scheduled departure"),
)

_OUTCOME_LANDED = (
    Column("dep_time", "int64", unit="HHMM, New York", description="null: cancelled"),
    Column("dep_delay", "float64", unit="minutes"),
    Column("arr_time", "int64", unit="HHMM, local at the destination"),
    Column("arr_delay", "float64", unit="minutes", description="null: cancelled or diverted"),
    Column("tailnum", "string"),
    Column("air_time", "float64", unit="minutes"),
)

_PLAN = (
    Column("flight_date", "date", nullable=False, description="day of scheduled departure, New York"),
    Column("carrier", "string", nullable=False, description="IATA code of the airline"),
    Column("flight", "int64", nullable=False, description="flight number"),
    Column("origin", "string", nullable=False, description="FAA code: EWR, JFK or LGA"),
    Column("dest", "string", nullable=False, description="FAA code of the destination"),
    Column("scheduled_departure_at", "timestamp", nullable=False),
    Column("scheduled_departure_minute", "int64", nullable=False, unit="minutes past midnight, New York"),
    Column("scheduled_arrival_minute", "int64", nullable=False, unit="minutes past midnight, local at the destination"),
    Column("distance_miles", "float64", nullable=False, unit="miles"),
)

_FLIGHT_KEY = ("flight_date", "carrier", "flight", "origin")

_PLAN_EXPECTATIONS = (
    _critical(
        "expect_table_row_count_to_be_between",
        "the number of flights is not that of a day at three airports",
        min_value=300,
        max_value=3000,
    ),
    _critical(
        "expect_column_values_to_be_in_set",
        "most flights are not from here: origin and destination are swapped",
        column="origin",
        value_set=_ORIGINS,
        mostly=0.5,
    ),
    _quarantine("expect_column_values_to_be_in_set", "unknown origin", column="origin", value_set=_ORIGINS),
    _quarantine(
        "expect_column_values_to_match_regex", "no IATA code of an airline", column="carrier", regex="^[0-9A-Z]{2}$"
    ),
    _quarantine("expect_column_values_to_match_regex", "no FAA code of an airport", column="dest", regex="^[A-Z]{3}$"),
    _between("flight", 1, 9999, "no flight number"),
    _between("distance_miles", 10, 6000, "impossible distance"),
    _quarantine(
        "expect_column_values_to_not_be_null",
        "local time of departure and UTC hour disagree",
        column="scheduled_departure_at",
    ),
    _critical(
        "expect_column_values_to_not_be_null",
        "local times of departure and UTC hours disagree: the producer's time zone changed",
        column="scheduled_departure_at",
        mostly=0.95,
    ),
    _warning(
        "expect_column_values_to_be_in_set",
        "airline is not in airlines",
        column="carrier",
        value_set={"$PARAMETER": "airlines.carrier"},
    ),
)

SCHEDULE = Feed(
    name="schedule",
    landed=_PLAN_LANDED,
    curated=_PLAN,
    normalise=_SQL / "schedule.sql",
    key=_FLIGHT_KEY,
    expectations=(
        *_PLAN_EXPECTATIONS,
        _critical(
            "expect_column_values_to_be_between",
            "the schedule is not that of the next day",
            column="flight_date",
            min_value=_NEXT_DAY,
            max_value=_NEXT_DAY,
            mostly=0.95,
        ),
        _quarantine(
            "expect_column_values_to_be_between",
            "not scheduled on the next day",
            column="flight_date",
            min_value=_NEXT_DAY,
            max_value=_NEXT_DAY,
        ),
    ),
)

FLIGHTS = Feed(
    name="flights",
    landed=_PLAN_LANDED + _OUTCOME_LANDED,
    curated=(
        *_PLAN,
        Column("tailnum", "string", description="registration or fleet number; null if none or malformed"),
        Column("departure_delay_minutes", "float64", unit="minutes"),
        Column("arrival_delay_minutes", "float64", unit="minutes", description="null unless arrived"),
        Column("air_time_minutes", "float64", unit="minutes"),
        Column("status", "string", nullable=False, description="arrived, cancelled or diverted"),
    ),
    normalise=_SQL / "flights.sql",
    key=_FLIGHT_KEY,
    expectations=(
        *_PLAN_EXPECTATIONS,
        _critical(
            "expect_column_values_to_be_between",
            "most flights are of another day",
            column="flight_date",
            min_value=_PARTITION,
            max_value=_PARTITION,
            mostly=0.5,
        ),
        _quarantine(
            "expect_column_values_to_be_between",
            "outcome of a day to come",
            column="flight_date",
            max_value=_PARTITION,
        ),
        _quarantine(
            "expect_column_values_to_be_between",
            "outcome of a day too long ago",
            column="flight_date",
            min_value=_OLDEST_LABEL,
        ),
        _quarantine(
            "expect_column_values_to_be_between",
            "arrived after the cutoff, so it cannot have been known",
            column="arrived_at",
            max_value=_CUTOFF,
            strict_max=True,
        ),
        _between("departure_delay_minutes", -120, 2880, "impossible departure delay"),
        _between("arrival_delay_minutes", -180, 2880, "impossible arrival delay"),
        _between("air_time_minutes", 10, 1200, "impossible air time"),
        _warning(
            "expect_column_values_to_match_regex",
            "malformed tail number, set to null",
            column="landed_tailnum",
            regex="^N[1-9][0-9A-Z]{1,4}$",
        ),
        _warning(
            "expect_column_values_to_be_in_set",
            "plane is not in planes",
            column="tailnum",
            value_set={"$PARAMETER": "planes.tailnum"},
        ),
    ),
)

WEATHER = Feed(
    name="weather",
    landed=(
        Column("origin", "string", nullable=False),
        Column("year", "int64", nullable=False),
        Column("month", "int64", nullable=False),
        Column("day", "int64", nullable=False),
        Column("hour", "int64", nullable=False, unit="hour, New York"),
        Column("temp", "float64", unit="F"),
        Column("dewp", "float64", unit="F"),
        Column("humid", "float64", unit="percent"),
        Column("wind_dir", "float64", unit="degrees"),
        Column("wind_speed", "float64", unit="mph"),
        Column("wind_gust", "float64", unit="mph"),
        Column("precip", "float64", unit="inches"),
        Column("pressure", "float64", unit="millibars"),
        Column("visib", "float64", unit="miles"),
        Column("time_hour", "timestamp", nullable=False),
    ),
    curated=(
        Column("origin", "string", nullable=False, description="FAA code: EWR, JFK or LGA"),
        Column("observed_at", "timestamp", nullable=False, description="hour of observation"),
        Column("temperature_f", "float64", unit="F"),
        Column("dew_point_f", "float64", unit="F"),
        Column("humidity_percent", "float64", unit="percent"),
        Column("wind_direction_degrees", "float64", unit="degrees"),
        Column("wind_speed_mph", "float64", unit="mph"),
        Column("wind_gust_mph", "float64", unit="mph"),
        Column("precipitation_inches", "float64", unit="inches"),
        Column("pressure_millibars", "float64", unit="millibars"),
        Column("visibility_miles", "float64", unit="miles"),
    ),
    normalise=_SQL / "weather.sql",
    key=("origin", "observed_at"),
    expectations=(
        _critical(
            "expect_table_row_count_to_be_between",
            "the number of observations is not that of a day at three airports",
            min_value=24,
            max_value=1000,
        ),
        _warning(
            "expect_table_row_count_to_be_between",
            "hours of weather are missing",
            min_value=69,  # three airports, and the 23 hours of the shortest day
        ),
        _warning(
            "expect_column_values_to_be_between",
            "hours of weather are missing before this one",
            column="hours_missing_before",
            max_value=0,
        ),
        _quarantine("expect_column_values_to_be_in_set", "unknown origin", column="origin", value_set=_ORIGINS),
        _quarantine("expect_column_values_to_not_be_null", "local hour and UTC hour disagree", column="observed_at"),
        _quarantine(
            "expect_column_values_to_be_between",
            "observed after the cutoff, so it cannot have been known",
            column="observed_at",
            max_value=_CUTOFF,
            strict_max=True,
        ),
        # The strongest gust on record in New York City is 113 mph (1954).
        _between("wind_speed_mph", 0, 120, "impossible wind speed"),
        _between("wind_gust_mph", 0, 150, "impossible wind gust"),
        _between("temperature_f", -40, 120, "impossible temperature"),
        _between("temperature_jump_f", 0, 25, "temperature jumps and comes back within an hour"),
        _between("dew_point_f", -60, 100, "impossible dew point"),
        _between("humidity_percent", 0, 100, "impossible humidity"),
        _between("wind_direction_degrees", 0, 360, "impossible wind direction"),
        _between("precipitation_inches", 0, 10, "impossible precipitation"),
        _between("pressure_millibars", 900, 1090, "impossible pressure"),
        _between("visibility_miles", 0, 100, "impossible visibility"),
    ),
)

PLANES = Feed(
    name="planes",
    cadence="snapshot",
    landed=(
        Column("tailnum", "string", nullable=False),
        Column("year", "int64"),
        Column("type", "string"),
        Column("manufacturer", "string"),
        Column("model", "string"),
        Column("engines", "int64"),
        Column("seats", "int64"),
        Column("speed", "float64"),
        Column("engine", "string"),
    ),
    curated=(
        Column("tailnum", "string", nullable=False),
        Column("year_built", "int64"),
        Column("type", "string"),
        Column("manufacturer", "string"),
        Column("model", "string"),
        Column("engines", "int64"),
        Column("seats", "int64"),
        Column("engine", "string"),
    ),
    normalise=_SQL / "planes.sql",
    key=("tailnum",),
    expectations=(
        _critical("expect_table_row_count_to_be_between", "a register of planes has thousands", min_value=100),
        _between("year_built", 1920, 2100, "impossible year"),
        _between("seats", 1, 900, "impossible number of seats"),
        _between("engines", 1, 8, "impossible number of engines"),
        _warning(
            "expect_column_values_to_be_between",
            "fewer than 20 seats: probably a private plane, not the airline's plane of that fleet number",
            column="seats",
            min_value=20,
        ),
    ),
)

AIRLINES = Feed(
    name="airlines",
    cadence="snapshot",
    landed=(Column("carrier", "string", nullable=False), Column("name", "string", nullable=False)),
    curated=(Column("carrier", "string", nullable=False), Column("name", "string", nullable=False)),
    normalise=_SQL / "airlines.sql",
    key=("carrier",),
    expectations=(
        _critical("expect_table_row_count_to_be_between", "there is no airline", min_value=1),
        _quarantine(
            "expect_column_values_to_match_regex", "no IATA code of an airline", column="carrier", regex="^[0-9A-Z]{2}$"
        ),
    ),
)

FEEDS = (SCHEDULE, FLIGHTS, WEATHER, PLANES, AIRLINES)
