"""Point-in-time joins: for each entity row, the newest feature values at or before its time.

DuckDB's ASOF joins (https://duckdb.org/docs/stable/guides/sql_features/asof_join), all views in one
query. Feature values, not entity columns, come back from DuckDB: entity columns stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

COMPARED = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class FeatureRows:
    """Rows of one feature view, over time.

    `join_keys`: column here -> column of the entities. `features`: column here -> name in the
    result. `timestamp`: when a row's values became known. `created`: breaks ties between rows
    of the same keys and time, the later winning; without it, or if that is equal too, the later
    row of `table`. `ttl`: a value older than this is not used; None or zero: any age is good.
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
    """The entities, in their order, with each view's features appended; null where nothing is known.

    A row of a view is used for an entity row with equal join keys (nulls are never equal) if its
    time is at or before the entity's `timestamp` and, with a ttl, at most the ttl before it.
    Times are compared in microseconds, UTC; those without a zone are taken as UTC. Entity
    columns keep their types, features those of their view. Raises ValueError for a feature
    named like another column of the result.
    """
    names = [*entities.column_names, *(name for view in views for name in view.features.values())]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"The result would have several columns named {', '.join(twice)}; ask for full feature names.")
    keys = sorted({column for view in views for column in view.join_keys.values()})
    spine = pa.table(
        {
            "row": pa.array(range(entities.num_rows), pa.int64()),
            "asked_at": entities[timestamp].cast(COMPARED, safe=False),
            **{f"key_{i}": entities[key] for i, key in enumerate(keys)},
        }
    )
    place = {key: f"key_{i}" for i, key in enumerate(keys)}
    with _database(threads) as connection:
        _copy(connection, "spine", spine)
        selected, joins = ["spine.row"], []
        for n, view in enumerate(views):
            _copy_moments(connection, f"view_{n}", view)
            selected += [
                _selected_value(f"view_{n}", i, view.ttl) + f" AS value_{n}_{i}" for i in range(len(view.features))
            ]
            equal = [f"spine.{place[entity]} = view_{n}.key_{i}" for i, entity in enumerate(view.join_keys.values())]
            on = " AND ".join([*equal, f"spine.asked_at >= view_{n}.known_at"])
            joins.append(f"ASOF LEFT JOIN view_{n} ON {on}")
        joined = _rows(connection, f"SELECT {', '.join(selected)} FROM spine {' '.join(joins)}")  # noqa: S608
    joined = joined.take(pc.sort_indices(joined["row"]))
    result = entities
    for n, view in enumerate(views):
        for i, (column, name) in enumerate(view.features.items()):
            values = joined[f"value_{n}_{i}"].cast(view.table.schema.field(column).type)
            result = result.append_column(name, values)
    return result


def newest_rows(table: pa.Table, join_keys: Sequence[str], timestamp: str, created: str | None = None) -> pa.Table:
    """The newest row of each combination of join keys, in the table's order; ties as in FeatureRows."""
    view = FeatureRows(table, {key: key for key in join_keys}, {}, timestamp, created)
    keys = ", ".join(f"key_{i}" for i in range(len(join_keys)))
    with _database(None) as connection:
        _copy(connection, "moments", _moments(view))
        kept = f"SELECT position FROM moments QUALIFY {_first(keys, 'known_at DESC')} ORDER BY position"  # noqa: S608
        return table.take(_rows(connection, kept)["position"])


def _moments(view: FeatureRows) -> pa.Table:
    columns = {
        "position": pa.array(range(view.table.num_rows), pa.int64()),
        "known_at": view.table[view.timestamp].cast(COMPARED, safe=False),
        "created": view.table[view.created] if view.created else pa.nulls(view.table.num_rows),
        **{f"key_{i}": view.table[key] for i, key in enumerate(view.join_keys)},
        **{f"value_{i}": view.table[feature] for i, feature in enumerate(view.features)},
    }
    return pa.table(columns)


def _copy_moments(connection: duckdb.DuckDBPyConnection, name: str, view: FeatureRows) -> None:
    """Copy a view's rows, one for each moment: combination of join keys and time."""
    moments = _moments(view)
    _copy(connection, name, moments)
    moment = ", ".join([*(f"key_{i}" for i in range(len(view.join_keys))), "known_at"])
    ties = f"SELECT 1 FROM {name} GROUP BY {moment} HAVING count(*) > 1 LIMIT 1"  # noqa: S608
    if connection.execute(ties).fetchone():
        once = f"SELECT * FROM {name} QUALIFY {_first(moment)}"  # noqa: S608
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS {once}")


def _first(keys: str, *order: str) -> str:
    ordering = ", ".join([*order, "created DESC NULLS LAST", "position DESC"])
    return f"row_number() OVER (PARTITION BY {keys} ORDER BY {ordering}) = 1"


def _selected_value(view: str, i: int, ttl: timedelta | None) -> str:
    if not ttl:
        return f"{view}.value_{i}"
    expires = f"{view}.known_at + to_microseconds({ttl // timedelta(microseconds=1)})"
    return f"CASE WHEN spine.asked_at <= {expires} THEN {view}.value_{i} END"


def _copy(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    # Never joined as a registered Arrow table: without statistics the join takes a hundred times as long.
    connection.register("incoming", table)
    connection.execute(f"CREATE TABLE {name} AS FROM incoming")
    connection.unregister("incoming")


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    return connection.execute(query).to_arrow_table()


@contextmanager
def _database(threads: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if threads:
            connection.execute(f"SET threads = {int(threads)}")
        yield connection
