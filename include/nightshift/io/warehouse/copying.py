"""Rows copied into tables of the warehouse, as Arrow has them, by PostgreSQL's binary COPY."""

from __future__ import annotations

from typing import LiteralString

import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import sql

from nightshift.io.warehouse.schema import Connection, column_list

BATCH_ROWS = 65_536

ENCODED_AS: dict[str, pa.DataType] = {
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "double precision": pa.float64(),
    "integer": pa.int32(),
    "jsonb": pa.string(),
    "smallint": pa.int16(),
    "text": pa.string(),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
}
"""The Arrow type whose binary form is that of a PostgreSQL type."""

_COLUMNS: LiteralString = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


def copy_rows(connection: Connection, table: sql.Identifier, rows: pa.Table | pa.RecordBatchReader) -> int:
    """COPY rows into a table that has their columns; returns how many the server counted.

    Of a reader, one batch is held at a time. Values are converted to the types of the table; raises
    pyarrow.ArrowInvalid for one that does not fit.
    """
    batches = rows.to_reader(BATCH_ROWS) if isinstance(rows, pa.Table) else rows
    names = batches.schema.names
    types: dict[str, str] = dict(connection.execute(_COLUMNS, [table.as_string(connection)]).fetchall())
    schema = pa.schema([pa.field(name, ENCODED_AS[types[name]]) for name in names])
    encoders = {
        field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
        if types[field.name] == "jsonb"
        else ArrowToPostgresBinaryEncoder.infer_encoder(field)
        for field in schema
    }
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(schema, encoders)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, column_list(names))
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(encoder.write_header())
            for batch in batches:
                copy.write(encoder.write_batch(batch.cast(schema)))
            copy.write(encoder.finish())
        return cursor.rowcount
