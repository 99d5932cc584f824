"""DuckDB over Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa


@contextmanager
def duckdb_session(**tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new in-memory database with copies of the tables, by name; its time zone is UTC."""
    # One thread: sums of floats depend on their order, and equal inputs must give equal bytes.
    with duckdb.connect(config={"threads": 1, "python_enable_replacements": False}) as session:
        session.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            # DuckDB keeps no statistics of Arrow tables: without the copy a join takes a hundred times as long.
            session.register("incoming", table)
            session.execute(f'CREATE TABLE "{name}" AS FROM incoming')
            session.unregister("incoming")
        yield session
