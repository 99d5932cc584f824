"""Features of a flight, all known at 03:00 the night before: which there are, and the SQL that computes them.

Rates are shrunken by n / (n + 10) towards the overall rate. `relative` rates have the overall rate
of the same window taken off: trees memorise the level of single days and are wrong about the next.
"""

from __future__ import annotations

from pathlib import Path

from nightshift.usecase import FeatureSet, FeatureTable

SQL = Path(__file__).resolve().parent / "sql"
TRAINING_SPINE = SQL / "training_spine.sql"
SCORING_SPINE = SQL / "scoring_spine.sql"

NUMERIC = (
    # flight_schedule
    "departure_minute",
    "arrival_minute",
    "scheduled_clock_minutes",
    "distance_miles",
    "day_of_week",
    "days_after_holiday",
    "origin_departures_30min",
    "origin_departures_60min",
    "origin_departures_until_now",
    "carrier_share_60min",
    "destination_flights",
    "origin_flights",
    # plane
    "typical_seats",
    "typical_plane_age_years",
    "times_flown_60d",
    "planes_per_flight_60d",
    # flight_delays
    "flight_relative_late_rate_60d",
    "hour_relative_late_rate_28d",
    # origin_weather
    "dew_point_spread_f",
    "wind_speed_mph",
    "wind_gust_mph",
    "wind_from_east_mph",
    "wind_from_north_mph",
    "visibility_miles",
    "wind_speed_24h_max_mph",
    "visibility_24h_min_miles",
    "precipitation_6h_inches",
    "precipitation_24h_inches",
    "pressure_change_24h_millibars",
    # carrier_delays
    "carrier_late_rate_28d",
    "carrier_relative_late_rate_7d",
    "carrier_relative_late_rate_28d",
    "carrier_relative_late_rate_60d",
    "carrier_relative_cancellation_rate_28d",
    # route_delays
    "route_late_rate_28d",
    "route_relative_late_rate_7d",
    "route_relative_late_rate_28d",
    "route_relative_late_rate_60d",
    "route_relative_cancellation_rate_28d",
    # destination_delays
    "destination_relative_late_rate_7d",
    "destination_relative_late_rate_28d",
    "destination_relative_late_rate_60d",
    "destination_relative_cancellation_rate_28d",
    # origin_delays
    "origin_relative_late_rate_7d",
    "origin_relative_late_rate_28d",
    "origin_relative_late_rate_60d",
    "origin_relative_cancellation_rate_28d",
)

# Join keys that are features themselves: they need no feature view.
CATEGORICAL = ("carrier", "origin", "dest")

FALLBACK_FEATURES = ("carrier_late_rate_28d", "route_late_rate_28d")


def _table(name: str, join_key: str) -> FeatureTable:
    return FeatureTable(name, (join_key,), SQL / f"{name}.sql")


FEATURES = FeatureSet(
    prelude=SQL / "prelude.sql",
    tables=(
        _table("flight_schedule", "flight_id"),
        _table("plane", "flight_id"),
        _table("flight_delays", "flight_id"),
        _table("origin_weather", "origin"),
        _table("carrier_delays", "carrier"),
        _table("route_delays", "route"),
        _table("destination_delays", "dest"),
        _table("origin_delays", "origin"),
    ),
    lookback_days=60,
    service="flight_delay_v1",
    numeric=NUMERIC,
    categorical=CATEGORICAL,
)
