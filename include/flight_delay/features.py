"""Feature tables of a flight, all known at 03:00 on the day of departure, and the SQL that computes them.

Rates are shrunken by n / (n + 10) towards the overall rate. `relative` rates are minus the overall rate
of the same window: trees memorise the level of single days, which does not carry over to the next day.
"""

from __future__ import annotations

from pathlib import Path

from nightshift.declare.features import FeatureSet, FeatureTable

SQL = Path(__file__).resolve().parent / "sql"
TRAINING_SPINE = SQL / "training_spine.sql"
SCORING_SPINE = SQL / "scoring_spine.sql"


def _table(name: str, join_key: str, description: str, *numeric: str, monitored: tuple[str, ...] = ()) -> FeatureTable:
    return FeatureTable(
        name, (join_key,), SQL / f"{name}.sql", numeric=numeric, monitored=monitored, description=description
    )


TABLES = (
    _table(
        "flight_schedule",
        "flight_id",
        "schedule, calendar and congestion of a scheduled flight",
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
        # A clock that is wrong by an hour in local time and UTC changes no distribution of a day by much.
        monitored=("departure_hours_later_than_last_week",),
    ),
    _table(
        "plane",
        "flight_id",
        "the typical plane of a scheduled flight",
        "typical_seats",
        "typical_plane_age_years",
        "times_flown_60d",
        "planes_per_flight_60d",
    ),
    _table(
        "flight_delays",
        "flight_id",
        "delay history of a flight number and of its hour of departure",
        "flight_relative_late_rate_60d",
        "hour_relative_late_rate_28d",
    ),
    _table(
        "origin_weather",
        "origin",
        "weather at an origin as observed before the cutoff",
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
    ),
    _table(
        "carrier_delays",
        "carrier",
        "delay history of an airline",
        "carrier_late_rate_28d",
        "carrier_relative_late_rate_7d",
        "carrier_relative_late_rate_28d",
        "carrier_relative_late_rate_60d",
        "carrier_relative_cancellation_rate_28d",
    ),
    _table(
        "route_delays",
        "route",
        "delay history of a route",
        "route_late_rate_28d",
        "route_relative_late_rate_7d",
        "route_relative_late_rate_28d",
        "route_relative_late_rate_60d",
        "route_relative_cancellation_rate_28d",
    ),
    _table(
        "destination_delays",
        "dest",
        "delay history of a destination",
        "destination_relative_late_rate_7d",
        "destination_relative_late_rate_28d",
        "destination_relative_late_rate_60d",
        "destination_relative_cancellation_rate_28d",
    ),
    _table(
        "origin_delays",
        "origin",
        "delay history of an origin",
        "origin_relative_late_rate_7d",
        "origin_relative_late_rate_28d",
        "origin_relative_late_rate_60d",
        "origin_relative_cancellation_rate_28d",
    ),
    _table(
        "origin_level",
        "origin",
        "level of delay of the last days, everywhere and at an origin",
        "level_late_1d",
        "level_late_3d",
        "level_late_7d",
        "level_late_28d",
        "level_cancelled_1d",
        "level_cancelled_3d",
        "level_late_morning",
        "level_late_evening",
        "level_departure_delay_minutes",
        "level_departure_delay_evening_minutes",
        "level_gained_1d_minutes",
        "level_gained_7d_minutes",
        "level_overdue",
        "level_flights",
        "level_head_wind_1d_percent",
        "level_head_wind_change_percent",
        "origin_level_late_1d",
        "origin_level_late_3d",
        "origin_level_late_7d",
        "origin_level_late_28d",
        "origin_level_cancelled_1d",
        "origin_level_cancelled_3d",
        "origin_level_late_evening",
        "origin_level_departure_delay_evening_minutes",
        "origin_level_overdue",
    ),
    _table(
        "weather_level",
        "origin",
        "weather of the night, for the level of delay",
        "night_temperature_f",
        "night_temperature_anomaly_f",
        "night_temperature_change_24h_f",
        "night_dew_point_f",
        "night_dew_point_change_24h_f",
        "night_humidity_percent",
        "night_pressure_millibars",
        "night_pressure_change_3h_millibars",
        "night_wind_mph",
        "night_wind_from_east_mph",
        "night_wind_from_north_mph",
        "night_visibility_miles",
        "night_precipitation_6h",
        "night_precipitation_24h",
        "origin_night_wind_mph",
        "origin_night_visibility_miles",
    ),
    _table(
        "flight_form",
        "flight_id",
        "how a flight number did lately, in minutes",
        "flight_minutes_behind_60d",
        "flight_minutes_lost_60d",
        "flight_minutes_behind_7d",
        "route_minutes_lost_7d",
        "hour_minutes_behind_60d",
        "origin_carrier_minutes_behind_60d",
        "origin_carrier_minutes_behind_7d",
        "carrier_destination_minutes_behind_60d",
    ),
    _table(
        "carrier_form",
        "carrier",
        "last days of an airline against all",
        "carrier_relative_late_rate_1d",
        "carrier_relative_late_rate_3d",
        "carrier_relative_cancellation_rate_1d",
        "carrier_relative_departure_delay_evening_minutes",
    ),
    _table(
        "destination_form",
        "dest",
        "last days of a destination against all",
        "destination_relative_late_rate_1d",
        "destination_relative_late_rate_3d",
        "destination_relative_cancellation_rate_1d",
    ),
)

FEATURES = FeatureSet(
    prelude=SQL / "prelude.sql",
    tables=TABLES,
    lookback_days=60,
    service="flight_delay_v1",
    join_keys=("carrier", "origin", "dest"),
)

# Equal for all flights of a day and origin.
LEVEL = (
    "origin_flights",
    *(name for table in FEATURES.tables if table.join_keys == ("origin",) for name in table.numeric),
)
# Equal everywhere on a day.
DAY = tuple(name for name in LEVEL if name.startswith("level_"))
PLACE = ("origin",)
CALENDAR = ("day_of_week", "days_after_holiday")
TILT = "departure_minute"

FALLBACK_FEATURES = ("carrier_late_rate_28d", "route_late_rate_28d")
