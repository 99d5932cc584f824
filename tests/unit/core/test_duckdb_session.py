"""Sessions see only what was created in them, also side by side and after an error."""

from __future__ import annotations

import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from nightshift.core import duckdb_session as duckdb_session_module
from nightshift.core.duckdb_session import duckdb_session
from nightshift.errors import ConfigurationError
from support.errors import raises_code


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


def test_what_is_spilled_is_out_of_reach_of_other_users(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = duckdb_session_module._private_folder()
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert duckdb_session_module._private_folder() == folder
    folder.chmod(0o755)
    with raises_code(ConfigurationError, "NS-CURATE-015", folder):
        duckdb_session_module._private_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with raises_code(ConfigurationError, "NS-CURATE-015", folder):
        duckdb_session_module._private_folder()


def test_sessions_spill_into_that_folder():
    with duckdb_session() as session:
        (spilled,) = session.execute("SELECT current_setting('temp_directory')").fetchone()
    assert Path(spilled).parent == duckdb_session_module._private_folder()


def test_an_error_within_a_transaction_is_the_one_that_is_raised():
    with pytest.raises(duckdb.CatalogException, match="no_such_table"), duckdb_session() as session:
        session.execute("BEGIN; CREATE TABLE made AS SELECT 1; SELECT * FROM no_such_table")
    with duckdb_session() as session:
        assert session.execute("SELECT count(*) FROM duckdb_databases() WHERE NOT internal").fetchone() == (2,)
