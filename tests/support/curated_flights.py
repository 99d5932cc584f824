"""Made-up curated deliveries of flight_delay: small, seeded, with corrections, cancellations and a false plane."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

MICROS = pa.timestamp("us", tz="UTC")
NEW_YORK = ZoneInfo("America/New_York")
SCHEDULE = {
    "flight_date": pa.date32(),
    "carrier": pa.string(),
    "flight": pa.int64(),
    "origin": pa.string(),
    "dest": pa.string(),
    "scheduled_departure_at": MICROS,
    "scheduled_departure_minute": pa.int64(),
    "scheduled_arrival_minute": pa.int64(),
    "distance_miles": pa.float64(),
}
FLIGHTS = SCHEDULE | {
    "tailnum": pa.string(),
    "departure_delay_minutes": pa.float64(),
    "arrival_delay_minutes": pa.float64(),
    "air_time_minutes": pa.float64(),
    "status": pa.string(),
}
WEATHER = {
    "origin": pa.string(),
    "observed_at": MICROS,
    **dict.fromkeys(
        (
            "temperature_f",
            "dew_point_f",
            "humidity_percent",
            "wind_direction_degrees",
            "wind_speed_mph",
            "wind_gust_mph",
            "precipitation_inches",
            "pressure_millibars",
            "visibility_miles",
        ),
        pa.float64(),
    ),
}
PLANES = {
    "tailnum": pa.string(),
    "year_built": pa.int64(),
    "type": pa.string(),
    "manufacturer": pa.string(),
    "model": pa.string(),
    "engines": pa.int64(),
    "seats": pa.int64(),
    "engine": pa.string(),
}
AIRLINES = {"carrier": pa.string(), "name": pa.string()}
FEEDS = {"schedule": SCHEDULE, "flights": FLIGHTS, "weather": WEATHER, "planes": PLANES, "airlines": AIRLINES}
LINE = {"landed_uri": pa.string(), "landed_row": pa.int64()}
ROUTES = [("EWR", "IAH", 1400.0), ("JFK", "MIA", 1089.0), ("LGA", "ATL", 762.0), ("EWR", "BOS", 200.0)]


def table(feed: str, rows: list[dict[str, Any]], delivered_on: date | None = None) -> pa.Table:
    """Rows as a curated table; columns not given are null. With `delivered_on`, as load_feeds returns it."""
    types = FEEDS[feed] | LINE
    numbered = [{"landed_uri": f"{feed}.csv", "landed_row": n} | row for n, row in enumerate(rows, 1)]
    made = pa.table({name: pa.array([row.get(name) for row in numbered], type_) for name, type_ in types.items()})
    if delivered_on is not None:
        made = made.append_column("delivered_on", pa.array([delivered_on] * len(rows), pa.date32()))
    return made


def flight(day: date, carrier: str = "UA", number: int = 1, minute: int = 600, route: int = 0, **more: Any) -> dict:
    """One scheduled flight; give `status` and so on for an outcome."""
    origin, dest, miles = ROUTES[route]
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=NEW_YORK)
    return {
        "flight_date": day,
        "carrier": carrier,
        "flight": number,
        "origin": origin,
        "dest": dest,
        "scheduled_departure_at": local.astimezone(UTC),
        "scheduled_departure_minute": minute,
        "scheduled_arrival_minute": (minute + 130) % 1440,
        "distance_miles": miles,
    } | more


def arrived(delay: float, tailnum: str = "N100UA") -> dict[str, Any]:
    """Outcome columns of a flight that arrived so many minutes late."""
    return {"status": "arrived", "arrival_delay_minutes": delay, "departure_delay_minutes": delay, "tailnum": tailnum}


def deliveries(first: date, days: int, *, flights_a_day: int = 24, seed: int = 5) -> dict[date, dict[str, pa.Table]]:
    """For each partition from `first`, its curated tables: what was known at 03:00 the next day."""
    rng = np.random.default_rng(seed)
    partitions = [first + timedelta(days=n) for n in range(days)]
    corrections: list[dict[str, Any]] = []
    found = {}
    for partition in partitions:
        outcomes = [_outcome(rng, row) for row in _day(partition, flights_a_day)]
        still_flying, known = outcomes[:1], outcomes[1:]
        found[partition] = {
            "schedule": table("schedule", _day(partition + timedelta(days=1), flights_a_day)),
            "flights": table("flights", known + corrections),
            "weather": table("weather", _weather(rng, partition)),
            "planes": table("planes", [_plane(n) for n in range(8)]),
            "airlines": table("airlines", [{"carrier": c, "name": c} for c in ("UA", "AA", "DL")]),
        }
        corrections = still_flying
    return found


def as_feeds(found: dict[date, dict[str, pa.Table]], upto: date, lookback_days: int) -> dict[str, pa.Table]:
    """Deliveries of the last days up to a partition, by feed, with `delivered_on`."""
    days = [day for day in sorted(found) if upto - timedelta(days=lookback_days) < day <= upto]

    def stamped(day: date, feed: str) -> pa.Table:
        rows = found[day][feed]
        return rows.append_column("delivered_on", pa.array([day] * rows.num_rows, pa.date32()))

    daily = {
        feed: pa.concat_tables([stamped(day, feed) for day in days]) for feed in ("schedule", "flights", "weather")
    }
    return daily | {feed: stamped(days[-1], feed) for feed in ("planes", "airlines")}


def _day(day: date, flights: int) -> list[dict[str, Any]]:
    return [
        flight(day, ("UA", "AA", "DL")[n % 3], 100 + n, 360 + (n * 960) // flights, n % len(ROUTES))
        for n in range(flights)
    ]


def _outcome(rng: np.random.Generator, row: dict[str, Any]) -> dict[str, Any]:
    if rng.random() < 0.03:
        return row | {"status": "cancelled"}
    late_hour = row["scheduled_departure_minute"] / 60 - 8
    delay = float(np.round(rng.normal(2 * late_hour, 15)))
    in_the_air = round(20 + row["distance_miles"] / 8 + delay / 10)
    return row | arrived(delay, f"N10{rng.integers(0, 8)}UA") | {"air_time_minutes": float(in_the_air)}


def _weather(rng: np.random.Generator, partition: date) -> list[dict[str, Any]]:
    start = datetime(partition.year, partition.month, partition.day, 3, tzinfo=NEW_YORK).astimezone(UTC)
    numbers = [name for name, type_ in WEATHER.items() if type_ == pa.float64()]
    return [
        {"origin": origin, "observed_at": start + timedelta(hours=hour)}
        | {name: float(value) for name, value in zip(numbers, rng.uniform(0, 20, len(numbers)).round(2), strict=True)}
        for origin in ("EWR", "JFK", "LGA")
        for hour in range(24)
    ]


def _plane(n: int) -> dict[str, Any]:
    # N107UA is registered with four seats: another plane of that tail number, from another time.
    return {"tailnum": f"N10{n}UA", "year_built": 1990 + n, "seats": 4 if n == 7 else 100 + 10 * n}
