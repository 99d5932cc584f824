"""Point-in-time joins: for each entity row, the newest feature values at or before its time.

DuckDB's ASOF joins (https://duckdb.org/docs/stable/guides/sql_features/asof_join) give the position of the
view's row for each entity row; Arrow takes the values at these positions, so columns of any type are unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import duckdb
import numpy as np
import pyarrow as pa

from nightshift.core.duckdb_session import duckdb_session

COMPARED = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class FeatureRows:
    """Rows of one feature view, over time.

    `join_keys`: column of `table` -> column of the entities. `features`: column of `table` -> name in the
    result. `timestamp`: when a row's values became known. `created`: breaks ties between rows
    of the same keys and time, the later is used; without it, or if that is equal too, the later
    row of `table`. `ttl`: a value older than this is not used, with zero only one of the same time; None: no limit.
    """

    table: pa.Table
    join_keys: Mapping[str, str]
    features: Mapping[str, str]
    timestamp: str
    created: str | None = None
    ttl: timedelta | None = None


def point_in_time_join(
    entities: pa.Table, timestamp: str, views: Sequence[FeatureRows], *, threads: int | None = None
) -> pa.Table:
    """The entities, in their order, with each view's features appended; null where there is no value.

    A row of a view is used for an entity row with equal join keys (nulls are never equal) if its
    time is at or before the entity's `timestamp` and, with a ttl, at most the ttl before it.
    Times are compared in microseconds, UTC; those without a zone are taken as UTC. Entity
    columns keep their types, features those of their view. Raises ValueError for a feature
    named like another column of the result. Views are joined in parallel, `threads` at a time
    (None: one for each core).
    """
    names = [*entities.column_names, *(name for view in views for name in view.features.values())]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"The result would have several columns named {', '.join(twice)}; use full feature names.")
    entity_times = entities[timestamp].cast(COMPARED, safe=False)
    workers = max(1, min(threads or os.cpu_count() or 1, len(views)))
    with ThreadPoolExecutor(workers) as pool:
        values_of_views = list(pool.map(lambda view: _taken(entities, entity_times, view), views))
    result = entities
    for view, values in zip(views, values_of_views, strict=True):
        for column, name in view.features.items():
            result = result.append_column(name, values[column])
    return result


def newest_rows(table: pa.Table, join_keys: Sequence[str], timestamp: str, created: str | None = None) -> pa.Table:
    """The newest row of each combination of join keys, in the table's order; ties as in FeatureRows."""
    view = FeatureRows(table, {key: key for key in join_keys}, {}, timestamp, created)
    keys = ", ".join(f"key_{i}" for i in range(len(join_keys)))
    with duckdb_session(moments=_moments(view)) as connection:
        kept = f"SELECT position FROM moments QUALIFY {_first(keys, 'known_at DESC')} ORDER BY position"  # noqa: S608
        return table.take(_rows(connection, kept)["position"])


def _taken(entities: pa.Table, entity_times: pa.ChunkedArray, view: FeatureRows) -> pa.Table:
    """The view's features for each entity row."""
    keys = {f"key_{i}": entities[column] for i, column in enumerate(view.join_keys.values())}
    requests = pa.table({"row": _positions(entities), "requested_at": entity_times, **keys})
    with duckdb_session(requests=requests, moments=_moments(view)) as connection:
        positions = _matched_positions(connection, entities.num_rows, view)
    # One chunk first: taking from a column of many partitions' chunks is slow.
    return view.table.select(list(view.features)).combine_chunks().take(positions)


def _matched_positions(connection: duckdb.DuckDBPyConnection, rows: int, view: FeatureRows) -> pa.Array:
    """For each entity row the position of the view's row to use, null if there is none."""
    keys = [f"key_{i}" for i in range(len(view.join_keys))]
    moment = ", ".join([*keys, "known_at"])
    ties = f"SELECT 1 FROM moments GROUP BY {moment} HAVING count(*) > 1 LIMIT 1"  # noqa: S608
    if connection.execute(ties).fetchone():
        once = f"SELECT * FROM moments QUALIFY {_first(moment)}"  # noqa: S608
        connection.execute(f"CREATE OR REPLACE TABLE moments AS {once}")
    on = " AND ".join([*(f"times.{key} = moments.{key}" for key in keys), "times.requested_at >= moments.known_at"])
    fresh = ""
    if view.ttl is not None:
        fresh = f"WHERE requested_at <= known_at + to_microseconds({view.ttl // timedelta(microseconds=1)})"
    # Many rows have the same entity and time; the ASOF join is the expensive part, so it runs on distinct ones.
    matched = _rows(
        connection,
        f"WITH times AS (SELECT DISTINCT {', '.join([*keys, 'requested_at'])} FROM requests), "  # noqa: S608
        f"matches AS (SELECT times.*, position FROM times ASOF JOIN moments ON {on} {fresh}) "
        f"SELECT row, position FROM requests JOIN matches USING ({', '.join([*keys, 'requested_at'])})",
    )
    positions = np.full(rows, -1)
    positions[matched["row"].to_numpy()] = matched["position"].to_numpy()
    return pa.array(positions, mask=positions < 0)


def _moments(view: FeatureRows) -> pa.Table:
    """The columns of a view's rows that the join needs; without features, because joins of wide rows are slow."""
    keys = {f"key_{i}": view.table[column] for i, column in enumerate(view.join_keys)}
    known_at = view.table[view.timestamp].cast(COMPARED, safe=False)
    created = view.table[view.created] if view.created else pa.nulls(view.table.num_rows)
    return pa.table({"position": _positions(view.table), "known_at": known_at, "created": created, **keys})


def _positions(table: pa.Table) -> pa.Array:
    return pa.array(np.arange(table.num_rows))


def _first(keys: str, *order: str) -> str:
    ordering = ", ".join([*order, "created DESC NULLS LAST", "position DESC"])
    return f"row_number() OVER (PARTITION BY {keys} ORDER BY {ordering}) = 1"


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    return connection.execute(query).to_arrow_table()
