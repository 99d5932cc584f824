"""A Feast offline store that joins with DuckDB's ASOF JOIN and reads published partitions from object storage.

Feast's own DuckDB store joins every entity row with all earlier feature rows and then keeps the
newest, and cannot read from an S3 store with path-style addresses. A
FileSource here is `artifacts://<use case>/<step>/<file>` (published partitions, see
offline_partitions) or, as in Feast, a local Parquet file or a folder of them.

Loaded by Feast by its class path (feature_store.yaml); importing it imports Feast, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import PrivateAttr

from nightshift.core.features.point_in_time import COMPARED, FeatureRows, newest_rows, point_in_time_join
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast.offline_partitions import SCHEME, ArtifactSource, PublishedPartitions
from nightshift.settings import load_settings

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class AsofOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc, unused-ignore]
    """`threads`: how many views are joined in parallel; None: one per core."""

    type: str = "nightshift.io.feast.asof_offline_store.AsofOfflineStore"
    threads: int | None = None
    _partitions: PublishedPartitions | None = PrivateAttr(default=None)

    def read_from(self, partitions: PublishedPartitions) -> None:
        """Read artifacts through `partitions` from now on, instead of the store of the process's settings."""
        self._partitions = partitions

    @property
    def partitions(self) -> PublishedPartitions:
        """The reader of published artifacts: the one set by `read_from`, else one from the process's settings."""
        return self._partitions or PublishedPartitions(ArtifactStore(load_settings()))


@dataclass(eq=False)
class AsofRetrievalJob(RetrievalJob):
    """Calls `retrieve` each time its result is read. The other fields are those of Feast's base class."""

    retrieve: Callable[[], pa.Table]
    full_feature_names: bool = False
    on_demand_feature_views: Sequence[OnDemandFeatureView] = ()  # type: ignore[assignment, unused-ignore]
    metadata: RetrievalMetadata | None = None

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's signature
        return self.retrieve()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:  # noqa: ARG002 - Feast's signature
        frame: pd.DataFrame = self.retrieve().to_pandas()
        return frame


class AsofOfflineStore(OfflineStore):
    """See the module docstring. Reads only: tables are written by the pipeline's steps."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **_: Any,
    ) -> RetrievalJob:
        """The entity rows, in their order, with the newest feature values at or before each row's time.

        Differs from Feast's DuckDB store in two points: the order of the rows is kept, and of rows with equal
        times the later one of a file is used, not a random one. `entity_df` is a data
        frame; SQL and time ranges raise NotImplementedError.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise NotImplementedError("AsofOfflineStore supports entity rows as a pandas data frame only.")
        timestamp = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        in_utc = entity_df.assign(**{timestamp: pd.to_datetime(entity_df[timestamp], utc=True)})
        entities = pa.Table.from_pandas(in_utc, preserve_index=False)
        first, last = _time_range(entities[timestamp])
        odfvs = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)

        def retrieve() -> pa.Table:
            views = [
                _feature_rows(
                    config, view, _requested_features(view, feature_refs), full_feature_names, first, last, entities
                )
                for view in feature_views
            ]
            return point_in_time_join(entities, timestamp, views, threads=config.offline_store.threads)

        return AsofRetrievalJob(
            retrieve,
            full_feature_names=full_feature_names,
            on_demand_feature_views=odfvs,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.column_names if name != timestamp],
                min_event_timestamp=first,
                max_event_timestamp=last,
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each combination of join keys with start_date <= time <= end_date."""
        keys, created = join_key_columns, created_timestamp_column or None
        pulled = AsofOfflineStore.pull_all_from_table_or_query(
            config, data_source, keys, feature_name_columns, timestamp_field, created, start_date, end_date
        )
        return AsofRetrievalJob(lambda: newest_rows(pulled.to_arrow(), keys, timestamp_field, created))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows with start_date <= time <= end_date; a bound that is None does not apply."""
        columns = [*join_key_columns, *feature_name_columns]
        columns += [created_timestamp_column] if created_timestamp_column else []
        first = _aware(start_date) if start_date else LONG_AGO
        last = _aware(end_date) if end_date else datetime.now(UTC)
        return AsofRetrievalJob(lambda: _read(config, data_source, timestamp_field, columns, first, last))

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Published artifacts need not exist when a view is applied; other sources are validated by Feast."""
        if isinstance(data_source, FileSource) and _is_artifact(data_source):
            ArtifactSource.parse(data_source.path)
        else:
            data_source.validate(config=config)


def _requested_features(view: FeatureView, feature_refs: list[str]) -> list[str]:
    prefix = f"{view.projection.name_to_use()}:"  # type: ignore[no-untyped-call, unused-ignore]
    return [ref.removeprefix(prefix) for ref in feature_refs if ref.startswith(prefix)]


def _feature_rows(
    config: RepoConfig,
    view: FeatureView,
    features: list[str],
    full_names: bool,
    first: datetime,
    last: datetime,
    entities: pa.Table,
) -> FeatureRows:
    source = view.batch_source
    if source is None:
        raise ConfigurationError("NS-FEATURE-008", f"Feature view {view.name} has no batch source to read from.")
    stored_as = {name: column for column, name in source.field_mapping.items()}
    created = source.created_timestamp_column or None
    join_keys = view.projection.join_key_map or {column.name: column.name for column in view.entity_columns}
    prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
    columns = [stored_as.get(name, name) for name in [*join_keys, *features]] + ([created] if created else [])
    oldest = first - view.ttl if view.ttl else LONG_AGO
    keys = {stored_as.get(key, key): entity for key, entity in join_keys.items()}
    sought = {column: entities[entity] for column, entity in keys.items()}
    pinned = isinstance(source, FileSource) and _is_artifact(source) and config.offline_store.partitions.pinned
    return FeatureRows(
        table=_read(config, source, source.timestamp_field, columns, oldest, last, sought),
        join_keys=keys,
        features={stored_as.get(name, name): prefix + name for name in features},
        timestamp=source.timestamp_field,
        created=created,
        ttl=timedelta(0) if pinned else view.ttl or None,
    )


def _read(
    config: RepoConfig,
    source: DataSource,
    timestamp: str,
    columns: list[str],
    first: datetime,
    last: datetime,
    keys: Mapping[str, pa.ChunkedArray] | None = None,
) -> pa.Table:
    if not isinstance(source, FileSource):
        raise ConfigurationError(
            "NS-FEATURE-009", f"{source.name}: AsofOfflineStore reads FileSource only, not {type(source).__name__}."
        )
    names = list(dict.fromkeys([*columns, timestamp]))
    if _is_artifact(source):
        partitions: PublishedPartitions = config.offline_store.partitions
        table = partitions.read(ArtifactSource.parse(source.path), names, first, last, keys)
    else:
        path = Path(FileSource.get_uri_for_file_path(config.repo_path, source.path))
        table = ds.dataset(path, format="parquet").to_table(columns=names)
    at = table[timestamp].cast(COMPARED, safe=False)
    return table.filter(pc.and_(pc.greater_equal(at, pa.scalar(first)), pc.less_equal(at, pa.scalar(last))))


def _is_artifact(source: FileSource) -> bool:
    return source.path.startswith(f"{SCHEME}://")


def _time_range(times: pa.ChunkedArray) -> tuple[datetime, datetime]:
    bounds = pc.min_max(times.cast(COMPARED, safe=False)).as_py()
    if bounds["min"] is None:
        return LONG_AGO, LONG_AGO
    return bounds["min"] - timedelta(microseconds=1), bounds["max"] + timedelta(microseconds=1)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
