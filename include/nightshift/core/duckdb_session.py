"""DuckDB over Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import duckdb
import pyarrow as pa


@cache
def _database() -> duckdb.DuckDBPyConnection:
    # Opening a database takes ten times as long as a query over one night's rows.
    # One thread: sums of floats depend on their order, and equal inputs must give equal bytes.
    return duckdb.connect(config={"threads": 1})


@contextmanager
def duckdb_session(**tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session of its own that sees the given tables by name, and UTC as its time zone."""
    with _database().cursor() as session:
        session.execute("SET TimeZone = 'UTC'")
        session.execute("SET python_enable_replacements = false")
        for name, table in tables.items():
            session.register(name, table)
        yield session


@contextmanager
def duckdb_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own for tables that are copied into it; one thread and UTC."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def copy_table(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Copy a table in. DuckDB keeps no statistics of Arrow tables: a join with one takes a hundred times as long."""
    connection.register("incoming", table)
    connection.execute(f'CREATE OR REPLACE TABLE "{name}" AS FROM incoming')
    connection.unregister("incoming")
