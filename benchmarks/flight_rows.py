"""Training rows of 2013, computed from the replayed deliveries by flight_delay's own SQL, without any service."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from flight_delay import replay
from nightshift.core.features.feature_computation import compute_features, compute_spine
from nightshift.core.features.point_in_time import FeatureRows, point_in_time_join
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.ingest.curated_table import curate, published_columns
from nightshift.core.ingest.landed_table import read_landed
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.partitions import partition_range

Feeds = dict[str, list[pa.Table]]
LAST = date(2013, 12, 30)


def curated_feeds(use_case: UseCase, partitions: list[date]) -> dict[str, pa.Table]:
    """Every feed as it is published, with `delivered_on`, without the expectations' quarantine."""
    found: Feeds = defaultdict(list)
    for partition in partitions:
        landed: Feeds = defaultdict(list)
        for name, _, file_name, body in replay.deliveries(partition):
            landed[name].append(read_landed(use_case.feed(name), file_name, body).rows)
        for name, tables in landed.items():
            rows = published_columns(use_case.feed(name), curate(use_case.feed(name), pa.concat_tables(tables)).rows)
            stamp = pa.array([partition] * rows.num_rows, pa.date32())
            found[name].append(rows.append_column("delivered_on", stamp))
    return {name: pa.concat_tables(tables) for name, tables in found.items()}


def features_of(partitions: list[date]) -> list[dict[str, pa.Table]]:
    """Feature tables of a run of partitions; a process of its own, DuckDB being held to one thread."""
    use_case = load_use_case("flight_delay")
    lookback = timedelta(days=use_case.features.lookback_days)
    first = max(use_case.first_partition, partitions[0] - lookback)
    feeds = curated_feeds(use_case, sorted({use_case.first_partition, *partition_range(first, partitions[-1])}))
    found = []
    for partition in partitions:
        seen = {
            name: table
            if use_case.feed(name).cadence == "snapshot"
            else table.filter(between(table["delivered_on"], partition - lookback, partition))
            for name, table in feeds.items()
        }
        found.append(compute_features(use_case, seen, partition))
    return found


def between(days: pa.ChunkedArray, first: date, last: date) -> pa.ChunkedArray:
    """Which of the days are from first to last."""
    return pc.and_(pc.greater_equal(days, pa.scalar(first)), pc.less_equal(days, pa.scalar(last)))


def training_rows(use_case: UseCase) -> pa.Table:
    """Every label of 2013 with the partition that delivered it and the features of its own partition."""
    partitions = partition_range(use_case.first_partition, use_case.last_partition or LAST)
    size = 31
    chunks = [partitions[start : start + size] for start in range(0, len(partitions), size)]
    with ProcessPoolExecutor(2) as pool:
        tables = [tables for chunk in pool.map(features_of, chunks) for tables in chunk]
    feeds = curated_feeds(use_case, partitions)
    delivered = []
    for partition in partitions:
        known = {
            name: rows.filter(pc.equal(rows["delivered_on"], pa.scalar(partition))) for name, rows in feeds.items()
        }
        spine = compute_spine(use_case, use_case.training_spine, known, partition)
        delivered.append(spine.append_column(KNOWN_ON, pa.array([partition] * spine.num_rows, pa.date32())))
    spine = pa.concat_tables(delivered)
    spine = spine.filter(pc.greater_equal(spine["partition"], pa.scalar(use_case.first_partition)))
    return with_features(use_case, spine, tables)


def with_features(use_case: UseCase, spine: pa.Table, tables: list[dict[str, pa.Table]]) -> pa.Table:
    """The rows of a spine with the features of their partitions, from the feature tables of all partitions."""
    views = []
    for table in use_case.features.tables:
        view = pa.concat_tables([found[table.name] for found in tables])
        columns = [c for c in view.column_names if c not in (*table.join_keys, "event_timestamp")]
        keys = {name: name for name in table.join_keys}
        views.append(FeatureRows(view, keys, {name: name for name in columns}, timestamp="event_timestamp"))
    return point_in_time_join(spine, "event_timestamp", views)
