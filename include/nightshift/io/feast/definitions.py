"""Feast objects of a use case, derived from its declaration; a file in feature_repo/ binds them at its top level."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, ValueType
from feast.types import Float64, String

from nightshift.declare.features import FeatureTable
from nightshift.declare.use_case import UseCase

# Features of a partition are used for the predictions of the next day; older ones expire.
TTL = timedelta(days=2)


def feast_definitions(use_case: UseCase) -> dict[str, Project | Entity | FeatureView | FeatureService]:
    """Project, entities, one feature view per feature table and the feature service, by their names.

    There is one entity per join key, of the same name. The source of a view is the table of its name in each published
    partition of the step publish_features; `event_timestamp` is the cutoff of the partition.
    """
    tables = use_case.features.tables
    entities = {
        key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        for key in dict.fromkeys(key for table in tables for key in table.join_keys)
    }
    views = {table.name: _view(use_case.name, table, entities) for table in tables}
    service = FeatureService(name=use_case.features.service, features=list(views.values()))
    project = Project(name=use_case.name, description=use_case.title)
    return {
        "project": project,
        service.name: service,
        **{f"entity_{key}": one for key, one in entities.items()},
        **views,
    }


def _view(use_case: str, table: FeatureTable, entities: dict[str, Entity]) -> FeatureView:
    return FeatureView(
        name=table.name,
        entities=[entities[key] for key in table.join_keys],
        ttl=TTL,
        schema=[
            *(Field(name=key, dtype=String) for key in table.join_keys),
            *(Field(name=name, dtype=Float64) for name in table.numeric),
            *(Field(name=name, dtype=String) for name in table.categorical),
        ],
        source=FileSource(
            name=table.name,
            path=f"artifacts://{use_case}/publish_features/{table.name}.parquet",
            timestamp_field="event_timestamp",
        ),
        description=table.description,
    )
