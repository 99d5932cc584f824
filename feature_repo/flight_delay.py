"""Feast definitions of flight_delay: entities, one feature view per published table, one service per model version.

A view's source is the table of its name in each published partition of the step publish_features; event_timestamp
is the cutoff of the partition.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, ValueType
from feast.types import Float64, String

USE_CASE = "flight_delay"

# Features of a partition serve the predictions of that night; a view that was missing for a night must not live on.
TTL = timedelta(days=2)

project = Project(name=USE_CASE, description="Flights out of New York that will arrive late")

flight = Entity(name="flight", join_keys=["flight_id"], value_type=ValueType.STRING, description="a flight on a day")
origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING, description="airport of departure")
dest = Entity(name="dest", join_keys=["dest"], value_type=ValueType.STRING, description="airport of arrival")
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING, description="airline")
route = Entity(name="route", join_keys=["route"], value_type=ValueType.STRING, description="ORIGIN-DEST")


def _view(name: str, entity: Entity, description: str, features: list[str]) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=TTL,
        schema=[
            Field(name=entity.join_key, dtype=String),
            *(Field(name=feature, dtype=Float64) for feature in features),
        ],
        source=FileSource(
            name=name, path=f"artifacts://{USE_CASE}/publish_features/{name}.parquet", timestamp_field="event_timestamp"
        ),
        description=description,
    )


flight_schedule = _view(
    "flight_schedule",
    flight,
    "schedule, calendar and congestion of a scheduled flight",
    [
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
    ],
)

plane = _view(
    "plane",
    flight,
    "the typical plane of a scheduled flight",
    [
        "typical_seats",
        "typical_plane_age_years",
        "times_flown_60d",
        "planes_per_flight_60d",
    ],
)

flight_delays = _view(
    "flight_delays",
    flight,
    "delay history of a flight number and of its hour of departure",
    [
        "flight_relative_late_rate_60d",
        "hour_relative_late_rate_28d",
    ],
)

origin_weather = _view(
    "origin_weather",
    origin,
    "weather at an origin as observed before the cutoff",
    [
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
    ],
)

carrier_delays = _view(
    "carrier_delays",
    carrier,
    "delay history of an airline",
    [
        "carrier_late_rate_28d",
        "carrier_relative_late_rate_7d",
        "carrier_relative_late_rate_28d",
        "carrier_relative_late_rate_60d",
        "carrier_relative_cancellation_rate_28d",
    ],
)

route_delays = _view(
    "route_delays",
    route,
    "delay history of a route",
    [
        "route_late_rate_28d",
        "route_relative_late_rate_7d",
        "route_relative_late_rate_28d",
        "route_relative_late_rate_60d",
        "route_relative_cancellation_rate_28d",
    ],
)

destination_delays = _view(
    "destination_delays",
    dest,
    "delay history of a destination",
    [
        "destination_relative_late_rate_7d",
        "destination_relative_late_rate_28d",
        "destination_relative_late_rate_60d",
        "destination_relative_cancellation_rate_28d",
    ],
)

origin_delays = _view(
    "origin_delays",
    origin,
    "delay history of an origin",
    [
        "origin_relative_late_rate_7d",
        "origin_relative_late_rate_28d",
        "origin_relative_late_rate_60d",
        "origin_relative_cancellation_rate_28d",
    ],
)

origin_level = _view(
    "origin_level",
    origin,
    "level of delay of the last days, everywhere and at an origin",
    [
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
    ],
)

weather_level = _view(
    "weather_level",
    origin,
    "weather of the night, for the level of delay",
    [
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
    ],
)

flight_form = _view(
    "flight_form",
    flight,
    "how a flight number did lately, in minutes",
    [
        "flight_minutes_behind_60d",
        "flight_minutes_lost_60d",
        "flight_minutes_behind_7d",
        "route_minutes_lost_7d",
        "hour_minutes_behind_60d",
        "origin_carrier_minutes_behind_60d",
        "origin_carrier_minutes_behind_7d",
        "carrier_destination_minutes_behind_60d",
    ],
)

carrier_form = _view(
    "carrier_form",
    carrier,
    "last days of an airline against all",
    [
        "carrier_relative_late_rate_1d",
        "carrier_relative_late_rate_3d",
        "carrier_relative_cancellation_rate_1d",
        "carrier_relative_departure_delay_evening_minutes",
    ],
)

destination_form = _view(
    "destination_form",
    dest,
    "last days of a destination against all",
    [
        "destination_relative_late_rate_1d",
        "destination_relative_late_rate_3d",
        "destination_relative_cancellation_rate_1d",
    ],
)

flight_delay_v1 = FeatureService(
    name="flight_delay_v1",
    features=[
        flight_schedule,
        plane,
        flight_delays,
        origin_weather,
        carrier_delays,
        route_delays,
        destination_delays,
        origin_delays,
        origin_level,
        weather_level,
        flight_form,
        carrier_form,
        destination_form,
    ],
    description="what the models of flight_delay are fitted on and scored with",
)
