"""Feast definitions of the late_returns use case."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, ValueType
from feast.types import Float64, String

USE_CASE = "late_returns"
TTL = timedelta(days=2)

project = Project(name=USE_CASE, description="Tools that will come back late")

booking = Entity(name="booking", join_keys=["booking_key"], value_type=ValueType.STRING)
branch = Entity(name="branch", join_keys=["branch"], value_type=ValueType.STRING)


def _source(view: str) -> FileSource:
    path = f"artifacts://{USE_CASE}/publish_features/{view}.parquet"
    return FileSource(name=view, path=path, timestamp_field="event_timestamp")


booking_view = FeatureView(
    name="booking",
    entities=[booking],
    ttl=TTL,
    schema=[
        Field(name="booking_key", dtype=String),
        Field(name="hours", dtype=Float64),
        Field(name="weekday", dtype=Float64),
        Field(name="customer", dtype=String),
    ],
    source=_source("booking"),
)

branch_history = FeatureView(
    name="branch_history",
    entities=[branch],
    ttl=TTL,
    schema=[Field(name="branch", dtype=String), Field(name="branch_late_rate", dtype=Float64)],
    source=_source("branch_history"),
)

late_returns_v1 = FeatureService(name="late_returns_v1", features=[booking_view, branch_history])
