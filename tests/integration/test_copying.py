"""Rows in PostgreSQL's binary format are the rows that were given."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from psycopg import sql

from nightshift.io.warehouse.copying import ENCODED_AS, copy_rows
from nightshift.io.warehouse.schema import connect
from nightshift.settings import Settings

TABLE = sql.Identifier("pg_temp", "every type")
VALUES: dict[str, list[object]] = {
    "bigint": [2**63 - 1, -(2**63)],
    "boolean": [True, False],
    "date": [date(1, 1, 1), date(9999, 12, 31)],
    "double precision": [0.1 + 0.2, -float("inf")],
    "integer": [2**31 - 1, -(2**31)],
    "jsonb": [{"a": [1, None, "é"]}, []],
    "smallint": [2**15 - 1, -(2**15)],
    "text": ['"é",\n\\.\t', ""],
    "timestamp with time zone": [
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(2013, 6, 1, 3, 4, 5, 678901, tzinfo=UTC),
    ],
}


def created(connection) -> None:  # type: ignore[no-untyped-def]
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(kind), sql.SQL(kind))  # type: ignore[arg-type]
        for kind in ENCODED_AS
    )
    connection.execute(sql.SQL("CREATE TEMP TABLE {} ({})").format(sql.Identifier("every type"), columns))


def given() -> pa.Table:
    texts = {"jsonb": ['{"a": [1, null, "é"]}', "[]"]}
    # As they come: 64 bits for all numbers, and a column without values has no type.
    kinds = {kind: pa.int64() if pa.types.is_integer(arrow) else arrow for kind, arrow in ENCODED_AS.items()}
    return pa.table({kind: pa.array([*texts.get(kind, VALUES[kind]), None], kinds[kind]) for kind in ENCODED_AS})


def test_values_of_every_type_are_what_was_given(settings: Settings) -> None:
    with connect(settings) as connection:
        created(connection)
        assert copy_rows(connection, TABLE, given()) == 3
        copied = connection.execute(sql.SQL("SELECT * FROM {}").format(TABLE)).fetchall()
    assert copied == [*zip(*(VALUES[kind] for kind in ENCODED_AS), strict=True), (None,) * len(ENCODED_AS)]


def test_batches_of_a_reader_are_copied_one_after_the_other(settings: Settings) -> None:
    batches = [pa.record_batch({"text": [f"{number}"]}) for number in range(3)]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, iter([*batches, batches[0].slice(1)]))
    with connect(settings) as connection:
        created(connection)
        assert copy_rows(connection, TABLE, reader) == 3
        texts = connection.execute(sql.SQL("SELECT text FROM {} ORDER BY 1").format(TABLE)).fetchall()
    assert texts == [("0",), ("1",), ("2",)]


def test_no_rows_are_none(settings: Settings) -> None:
    with connect(settings) as connection:
        created(connection)
        assert copy_rows(connection, TABLE, pa.table({"text": pa.array([], pa.string())})) == 0
        assert copy_rows(connection, TABLE, pa.table({"text": pa.nulls(1)})) == 1


def test_value_that_does_not_fit_is_an_error(settings: Settings) -> None:
    with connect(settings) as connection:
        created(connection)
        with pytest.raises(pa.ArrowInvalid, match="32768"):
            copy_rows(connection, TABLE, pa.table({"smallint": [32768]}))
