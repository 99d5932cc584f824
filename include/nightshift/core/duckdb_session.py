"""DuckDB over Arrow tables."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import duckdb
import pyarrow as pa

_numbers = itertools.count()


@contextmanager
def duckdb_session(**tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new in-memory database with copies of the tables, by name; its time zone is UTC.

    It is dropped, with all that was created in it, at the end of the block: read results as tables before.
    """
    name = f"session_{next(_numbers)}"
    with _instance(os.getpid()).cursor() as session:
        session.execute(f"ATTACH ':memory:' AS {name}; USE {name}; SET TimeZone = 'UTC'")
        try:
            for table_name, table in tables.items():
                # DuckDB keeps no statistics of Arrow tables: without the copy a join takes a hundred times as long.
                session.register("incoming", table)
                session.execute(f'CREATE TABLE "{table_name}" AS FROM incoming')
                session.unregister("incoming")
            yield session
        finally:
            # A use case's SQL may have failed within a transaction; an error here would replace that one.
            with suppress(duckdb.TransactionException):
                session.rollback()
            session.execute(f"USE memory; DETACH {name}")


@cache
def _instance(process: int) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 - an instance does not survive a fork
    """DuckDB in this process: starting it takes 20 ms of processor time, a database in it 3 ms."""
    # One thread: sums of floats depend on their order, and equal inputs must give equal bytes.
    return duckdb.connect(config={"threads": 1, "python_enable_replacements": False})
