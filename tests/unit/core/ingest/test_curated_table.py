"""Landed rows made into curated rows: one for each, and one per key."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from nightshift.core.ingest.curated_table import SUPERSEDED, published_columns
from nightshift.core.ingest.landed_table import landed_schema
from nightshift.declare.feeds import Column, Feed
from nightshift.errors import ConfigurationError
from support.errors import raises_code
from support.landing import curate

LANDED = (Column("id", "int64"), Column("size", "int64"))
CURATED = (Column("id", "int64"), Column("size_mm", "float64"))
SQL = (
    "SELECT id, size * 10.0::DOUBLE AS size_mm, lag(size) OVER (ORDER BY id, landed_row) AS before, {lineage} "
    "FROM landed"
)
LINEAGE = "landed_uri, landed_row"


def feed(folder: Path, sql: str = SQL) -> Feed:
    path = folder / "tools.sql"
    path.write_text(sql.format(lineage=LINEAGE), encoding="utf-8")
    return Feed(name="tools", landed=LANDED, curated=CURATED, normalise=path, key=("id",))


def landed(*rows: tuple[int | None, int, str, int]) -> pa.Table:
    names = landed_schema(LANDED).names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=landed_schema(LANDED))


def test_one_row_for_each_in_landed_order(tmp_path: Path) -> None:
    curated = curate(feed(tmp_path), landed((2, 3, "b", 1), (1, 4, "a", 2), (3, 5, "a", 1)))
    assert curated.rows["id"].to_pylist() == [3, 1, 2]
    assert curated.rows.column_names == ["id", "size_mm", "before", "landed_uri", "landed_row"]
    assert curated.rows.schema.field("size_mm").type == pa.float64()
    assert (curated.exact_duplicates, curated.quarantine.num_rows) == (0, 0)


def test_columns_for_expectations_only_are_not_published(tmp_path: Path) -> None:
    tools = feed(tmp_path)
    rows = published_columns(tools, curate(tools, landed((1, 1, "a", 1))).rows)
    assert rows.column_names == ["id", "size_mm", "landed_uri", "landed_row"]


def test_exact_duplicates_are_counted_and_dropped(tmp_path: Path) -> None:
    curated = curate(feed(tmp_path), landed((1, 5, "a", 1), (2, 6, "a", 2), (1, 5, "a", 3), (1, 5, "b", 1)))
    assert curated.rows["id"].to_pylist() == [2, 1]
    assert curated.exact_duplicates == 2
    assert curated.quarantine.num_rows == 0


def test_row_delivered_last_counts(tmp_path: Path) -> None:
    curated = curate(
        feed(tmp_path),
        landed((1, 7, "tools_2", 1), (1, 5, "tools", 1), (1, 6, "tools", 2), (1, 6, "tools", 3), (2, 9, "tools", 4)),
    )
    assert dict(zip(curated.rows["id"].to_pylist(), curated.rows["size_mm"].to_pylist(), strict=True)) == {1: 70, 2: 90}
    set_aside = curated.quarantine.to_pylist()
    assert [(row["landed_uri"], row["landed_row"]) for row in set_aside] == [("tools", 1), ("tools", 3)]
    assert [json.loads(row["row"])["size_mm"] for row in set_aside] == [50, 60]
    assert {reason for row in set_aside for reason in row["reasons"]} == {SUPERSEDED}
    assert curated.exact_duplicates == 1


@pytest.mark.parametrize("name", ["position", "kept", "replaced"])
def test_a_column_of_any_name_is_only_data(tmp_path: Path, name: str) -> None:
    columns, path = (Column("id", "int64"), Column(name, "int64")), tmp_path / "tools.sql"
    path.write_text("FROM landed", encoding="utf-8")
    rows = landed((1, 9, "a", 1), (1, 1, "a", 2), (2, 0, "a", 3)).rename_columns(["id", name, *LINEAGE.split(", ")])
    curated = curate(Feed(name="tools", landed=columns, curated=columns, normalise=path, key=("id",)), rows)
    assert curated.rows[name].to_pylist() == [1, 0]
    assert [json.loads(row["row"])[name] for row in curated.quarantine.to_pylist()] == [9]


def test_neighbours_are_those_that_stay(tmp_path: Path) -> None:
    """SQL that compares rows must not see a duplicate as the neighbour."""
    curated = curate(feed(tmp_path), landed((1, 5, "a", 1), (2, 6, "a", 2), (2, 6, "b", 1)))
    assert curated.rows["before"].to_pylist() == [None, 5]


def test_rows_without_a_key_are_not_duplicates(tmp_path: Path) -> None:
    curated = curate(feed(tmp_path), landed((None, 5, "a", 1), (None, 5, "a", 2), (1, 1, "a", 3), (1, 1, "a", 4)))
    assert curated.rows.num_rows == 3
    assert curated.exact_duplicates == 1


@pytest.mark.parametrize(
    ("sql", "code", "named"),
    [
        (SQL + " WHERE id > 1", "NS-CURATE-004", ("1 rows for 2",)),
        (SQL + " UNION ALL " + SQL, "NS-CURATE-004", ("4 rows for 2",)),
        ("SELECT id, {lineage} FROM landed", "NS-CURATE-002", ("['size_mm']", "feed tools")),
        ("SELECT id, 'x' AS size_mm, {lineage} FROM landed", "NS-CURATE-003", ("size_mm", "string", "float64")),
        ("SELECT nothing FROM landed", "NS-CURATE-001", ("Binder Error", "feed tools")),
    ],
)
def test_wrong_sql_is_named(tmp_path: Path, sql: str, code: str, named: tuple[str, ...]) -> None:
    with raises_code(ConfigurationError, code, "tools.sql", *named):
        curate(feed(tmp_path, sql), landed((1, 1, "a", 1), (2, 2, "a", 2)))
