"""Opens Feast for a use case: applies its definitions, takes addresses from the settings, reads features.

Importing Feast takes seconds, so it is imported inside the functions that need it.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import yaml
from pydantic import ValidationError

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.core.features.feature_computation import EVENT_TIMESTAMP
from nightshift.declare.discovery import PROJECT_ROOT
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, FeatureContractError, WarehouseUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast.offline_partitions import PublishedPartitions
from nightshift.io.warehouse.schema import connect, describe, hold_lock, lock, plain_url
from nightshift.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

REGISTRY_SCHEMA = "feast_registry"
DEFINITIONS_TAG = "definitions_sha256"
STEP = "publish_features"
TIMEOUT_SECONDS = 10
"""Timeout of a request to Redis."""


class ViewSchema(NamedTuple):
    """What a feature view declares: join keys and features with their Arrow types."""

    join_keys: tuple[str, ...]
    fields: Mapping[str, pa.DataType]


def declared_views(use_case: UseCase, service: str = "") -> dict[str, ViewSchema]:
    """The feature views of a feature service (default: the use case's), by name, from its definitions file.

    Raises FeatureContractError if the file does not define that service.
    """
    from feast import FeatureService, FeatureView
    from feast.types import from_feast_to_pyarrow_type

    objects = _definitions(use_case.feature_repo)
    name = service or use_case.features.service
    feature_service = next((o for o in objects if isinstance(o, FeatureService) and o.name == name), None)
    if feature_service is None:
        raise FeatureContractError("NS-FEATURE-010", f"{use_case.feature_repo} defines no feature service {name!r}.")
    served = {projection.name for projection in feature_service.feature_view_projections}
    return {
        view.name: ViewSchema(
            tuple(view.join_keys), {field.name: from_feast_to_pyarrow_type(field.dtype) for field in view.schema}
        )
        for view in objects
        if isinstance(view, FeatureView) and view.name in served
    }


def historical_features(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    service: str,
    spine: pa.Table,
    *,
    partitions: Mapping[date, ArtifactRef] | PublishedPartitions | None = None,
) -> pa.Table:
    """The spine, rows and columns as they are, with the features of a feature service appended.

    Point-in-time: each row gets the values published at or before its `event_timestamp`, null
    where there are none. With `partitions`, the published artifacts to read, it gets those of exactly that time, as
    when it is scored; without, the newest of those that are published now. Raises ConfigurationError for an unknown
    service, FeatureContractError if the spine lacks a join key, WarehouseUnavailable if the registry's database does
    not answer.
    """
    from feast.errors import FeatureServiceNotFoundException
    from typeguard import suppress_type_checks

    feast = open_feature_store(use_case, settings)
    read_through = partitions if isinstance(partitions, PublishedPartitions) else PublishedPartitions(store, partitions)
    feast.config.offline_store.read_from(read_through)
    try:
        with _registry_errors(settings):
            feature_service = feast.get_feature_service(service)
    except FeatureServiceNotFoundException as error:
        raise ConfigurationError(
            "NS-FEATURE-011", f"{use_case.feature_repo} defines no feature service {service!r}."
        ) from error
    # Feast reads each view from its registry anyway: publish_features has checked that its join keys are the declared.
    served = {projection.name for projection in feature_service.feature_view_projections}
    keys = sorted({key for table in use_case.features.tables if table.name in served for key in table.join_keys})
    missing = sorted(set(keys) - set(spine.column_names))
    if missing:
        raise FeatureContractError(
            "NS-FEATURE-012", f"The spine of {use_case.name} lacks the join keys {', '.join(missing)} of {service}."
        )
    entities = spine.select([*keys, EVENT_TIMESTAMP]).to_pandas()
    # Feast checks the types of every field of every view each time that it reads its registry.
    with suppress_type_checks(), _registry_errors(settings):
        joined = feast.get_historical_features(entity_df=entities, features=feature_service).to_arrow()
    for name in joined.column_names:
        if name not in entities.columns:
            spine = spine.append_column(name, joined[name])
    return spine


def open_feature_store(use_case: UseCase, settings: Settings) -> FeatureStore:
    """A Feast store of the use case's project, with the current definitions applied.

    Opened once per process. Definitions are applied only if they changed since the last time. Raises
    ConfigurationError for unusable settings, WarehouseUnavailable if the registry's database does not answer.
    """
    return _open(use_case.name, use_case.feature_repo, settings)


@contextmanager
def loading_online(use_case: UseCase, settings: Settings) -> Iterator[None]:
    """Hold the lock for loading a use case's online store. Opening the feature store does not take this lock."""
    with hold_lock(settings, "feast online", use_case.name, url=settings.feast_registry_url):
        yield


def drop_expired(feast: FeatureStore, views: Sequence[str], known_at: datetime) -> dict[str, int]:
    """Delete online values older than their view's ttl at `known_at`; returns the number for each view.

    {} with Redis, which expires keys itself.
    """
    from nightshift.io.feast.postgres_online_store import PostgresUrlOnlineStore

    online = feast._get_provider().online_store
    if not isinstance(online, PostgresUrlOnlineStore):
        return {}
    return {view: online.drop_expired(feast.config, feast.get_feature_view(view), known_at) for view in views}


@cache
def _open(use_case: str, definitions: Path, settings: Settings) -> FeatureStore:
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    path = next(p for p in (definitions.parent, PROJECT_ROOT / "feature_repo") if (p / "feature_store.yaml").exists())
    values = yaml.safe_load((path / "feature_store.yaml").read_text(encoding="utf-8"))
    values["project"] = use_case
    _, _, address = plain_url(settings.feast_registry_url or settings.warehouse_url).partition("://")
    values["registry"] |= {"path": f"postgresql+psycopg://{address}"}
    values["offline_store"] |= {"threads": settings.threads}
    redis = settings.redis_url if settings.feast_online_store == "redis" else None
    values["online_store"] = online_store_settings(
        values["online_store"], settings.warehouse_url.get_secret_value(), redis.get_secret_value() if redis else None
    )
    # Feast's registry has no lock of its own.
    with _locked(settings, "feast", use_case), _registry_errors(settings):
        try:
            feast = FeatureStore(config=RepoConfig(**values, repo_path=path))
        except ValidationError as error:
            # Without the values, and without the cause, which has them: addresses contain passwords.
            faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ConfigurationError(
                "NS-FEATURE-013", f"{path / 'feature_store.yaml'} is not usable: {faults}"
            ) from None
        _apply_if_changed(feast, definitions)
    return feast


def _apply_if_changed(feast: FeatureStore, definitions: Path) -> None:
    from feast import Project
    from feast.errors import ProjectObjectNotFoundException

    objects = [o for o in _definitions(definitions) if not isinstance(o, Project)]
    digest = sha256_hex(b"".join(o.to_proto().SerializeToString(deterministic=True) for o in objects))
    try:
        applied = feast.get_project(feast.project).tags.get(DEFINITIONS_TAG)
    except ProjectObjectNotFoundException:
        applied = None
    if applied != digest:
        # The project last: its tag marks the definitions as applied.
        feast.apply(objects)
        feast.apply([Project(name=feast.project, tags={DEFINITIONS_TAG: digest})])


def _definitions(path: Path) -> list[Any]:
    """The Feast objects a definitions file binds at its top level."""
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, Project

    if not path.exists():
        raise ConfigurationError("NS-FEATURE-014", f"There is no {path}: a use case needs its Feast definitions there.")
    kinds = (Project, Entity, FeatureView, OnDemandFeatureView, FeatureService)
    return [value for value in runpy.run_path(str(path)).values() if isinstance(value, kinds)]


def online_store_settings(declared: Mapping[str, object], warehouse: str, redis: str | None) -> dict[str, object]:
    """Feast's `online_store` settings: those declared, in the warehouse's database, or Redis at that URL."""
    if redis is None:
        return {**declared, "url": warehouse}
    from redis.connection import parse_url

    # Feast's format of a connection string: host:port,name=value,...
    parts = parse_url(redis)  # type: ignore[no-untyped-call, unused-ignore]
    parts |= {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    names = ("db", "username", "password", "socket_timeout", "socket_connect_timeout")
    options = [f"{name}={parts[name]}" for name in names if parts.get(name) is not None]
    address = f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}"
    week = 7 * 24 * 3600
    return {"type": "redis", "connection_string": ",".join([address, *options]), "key_ttl_seconds": week}


@contextmanager
def _registry_errors(settings: Settings) -> Iterator[None]:
    """Raise WarehouseUnavailable for what SQLAlchemy raises when the registry's database does not answer."""
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except OperationalError as error:
        where = describe(plain_url(settings.feast_registry_url or settings.warehouse_url))
        # Without the cause, whose text has the statement and its values.
        message = str(error.orig).strip()
        raise WarehouseUnavailable(
            "NS-FEATURE-022", f"The database of Feast's registry at {where} failed: {message}. Try again."
        ) from None


@contextmanager
def _locked(settings: Settings, *names: str) -> Iterator[None]:
    """Hold a lock in the database of Feast's registry, whose schema is created if it does not exist.

    Feast uses other connections meanwhile; as with all connections, the server ends one that is idle for too long.
    """
    with connect(settings, url=settings.feast_registry_url) as connection:
        lock(connection, *names)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {REGISTRY_SCHEMA}")
        # Feast uses another connection, so the schema must be committed, which releases the lock.
        connection.commit()
        lock(connection, *names)
        yield
