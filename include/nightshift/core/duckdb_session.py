"""DuckDB over Arrow tables."""

from __future__ import annotations

import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa

from nightshift.errors import ConfigurationError

MEMORY = "500MB"
"""What all sessions of a process together hold in memory; the rest goes to temporary files."""

_numbers = itertools.count()


@dataclass(frozen=True)
class LocalRows:
    """The rows of a local Parquet file, each with the same day in a further column, `day_column`."""

    path: Path
    day_column: str
    day: date


Rows: TypeAlias = pa.Table | pa.RecordBatchReader | LocalRows


@contextmanager
def duckdb_session(**tables: Rows) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new database with copies of the tables, by name; its time zone is UTC. A reader is copied batch by batch, local
    rows are a view of their file.

    It is in memory, up to MEMORY, else in temporary files. It is dropped, with all that was created in it, at the end
    of the block: read results before.
    """
    name = f"session_{next(_numbers)}"
    with _instance(os.getpid()).cursor() as session:
        session.execute(f"ATTACH ':memory:' AS {name}; USE {name}; SET TimeZone = 'UTC'")
        try:
            for table_name, table in tables.items():
                if isinstance(table, LocalRows):
                    # Queries read the columns that they name: a copy of all takes twice MEMORY.
                    path = str(table.path).replace("'", "''")
                    rows = f"SELECT *, DATE '{table.day}' AS \"{table.day_column}\" FROM read_parquet('{path}')"  # noqa: S608
                    session.execute(f'CREATE VIEW "{table_name}" AS {rows}')
                    continue
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


def _private_folder() -> Path:
    """A temporary folder that no other user can enter: what is spilled is read again, and believed."""
    folder = Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            "NS-CURATE-015",
            f"{folder} is another user's, or other users may enter it: remove it, or set TMPDIR to another folder.",
        )
    return folder


@cache
def _instance(process: int) -> duckdb.DuckDBPyConnection:
    """DuckDB in this process; it does not survive a fork. Starting it takes 20 ms of processor time, a database 3."""
    # DuckDB creates the folder when it is needed, and removes it.
    spilled = _private_folder() / f"duckdb-{process}"
    # One thread: sums of floats depend on their order, and equal inputs must give equal bytes.
    return duckdb.connect(
        config={
            "threads": 1,
            "python_enable_replacements": False,
            "memory_limit": MEMORY,
            "temp_directory": str(spilled),
        }
    )
