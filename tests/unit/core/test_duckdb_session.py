"""Sessions see only what was created in them, also side by side and after an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pytest

from nightshift.core.duckdb_session import duckdb_session


def _sum_of(number: int) -> int:
    with duckdb_session(rows=pa.table({"a": [number] * 1000})) as session:
        session.execute("CREATE TABLE made AS SELECT a FROM rows; CREATE MACRO twice(x) AS 2 * x")
        (total,) = session.execute("SELECT sum(twice(a)) FROM made").fetchone() or (0,)
        return int(total)


def test_sessions_side_by_side():
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_sum_of, range(20))) == [2000 * number for number in range(20)]


def test_nothing_is_left_for_the_next_session():
    with duckdb_session(rows=pa.table({"a": [1]})) as session:
        session.execute("CREATE TABLE made AS FROM rows; SET TimeZone = 'Asia/Tokyo'")
    with pytest.raises(duckdb.Error), duckdb_session() as session:
        session.execute("SELECT * FROM no_such_table")
    with duckdb_session() as session:
        assert session.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,)
        assert session.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)


def test_an_error_within_a_transaction_is_the_one_that_is_raised():
    with pytest.raises(duckdb.CatalogException, match="no_such_table"), duckdb_session() as session:
        session.execute("BEGIN; CREATE TABLE made AS SELECT 1; SELECT * FROM no_such_table")
    with duckdb_session() as session:
        assert session.execute("SELECT count(*) FROM duckdb_databases() WHERE NOT internal").fetchone() == (2,)
