"""DuckDB over Arrow tables, for SQL that a use case declares."""

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
