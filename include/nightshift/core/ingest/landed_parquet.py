"""Decode a delivered Parquet file, in memory that the feed's `max_bytes` bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.core.ingest.landed_checks import (
    CHANGE_FEED,
    ROW_BYTES,
    SEND_AGAIN,
    check_names,
    check_repeated,
    check_size,
    check_type,
    sample,
)
from nightshift.core.ingest.representable import representable
from nightshift.declare.feeds import Column, ColumnType, Feed
from nightshift.errors import MalformedFile, SchemaChanged

BATCH_ROWS = 65_536


def read_parquet(feed: Feed, uri: str, data: bytes, schema: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """The landed columns by that schema, as delivered and as typed: null where a value cannot be used.

    A column with such values is text in the first table. Raises MalformedFile and SchemaChanged.
    """
    if not data:
        raise MalformedFile("NS-LAND-014", f"{uri} is empty (0 bytes). {SEND_AGAIN}")
    if not (data.startswith(b"PAR1") and data.endswith(b"PAR1") and len(data) > 12):
        raise MalformedFile(
            "NS-LAND-015", f"{uri} is half-written: {len(data)} bytes without a Parquet footer. {SEND_AGAIN}"
        )
    try:
        table = _decoded(feed, uri, data)
    # UnicodeDecodeError: names of columns are text too.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MalformedFile("NS-LAND-016", f"{uri} cannot be read as Parquet: {error}. {SEND_AGAIN}") from error
    delivered, typed = {}, {}
    for column in feed.landed:
        values = _cast(column, uri, table[column.name], schema.field(column.name).type)
        typed[column.name] = _usable(column, values)
        unusable = pc.and_(pc.is_valid(values), pc.is_null(typed[column.name]))
        # As text, because neither JSON nor Python has a value for all of them.
        delivered[column.name] = values.cast(pa.string()) if pc.any(unusable).as_py() else values
        check_type(column, uri, delivered[column.name], unusable)
    return pa.table(delivered), pa.table(typed)


def _decoded(feed: Feed, uri: str, data: bytes) -> pa.Table:
    source = pa.BufferReader(data)
    schema, metadata = pq.read_schema(source), pq.read_metadata(source)
    # Names and types first: a nested value may be larger than any limit.
    check_repeated(uri, schema.names)
    check_names(feed, uri, schema.empty_table())
    for column in feed.landed:
        kind = schema.field(column.name).type
        if not _fits(column, kind):
            raise _retyped(column, uri, kind)
    groups = range(metadata.num_row_groups)
    check_size(feed, uri, sum(metadata.row_group(number).total_byte_size for number in groups))
    # Text as a dictionary: a cell of a megabyte may be repeated a million times in a file of a megabyte.
    texts = [column.name for column in feed.landed if _is_text(schema.field(column.name).type)]
    batches = list(_bounded(feed, uri, pq.ParquetFile(source, read_dictionary=texts)))
    return pa.Table.from_batches(batches) if batches else schema.empty_table()


def _bounded(feed: Feed, uri: str, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The file's rows, text as strings, up to the feed's `max_bytes`."""
    size = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        size += batch.num_rows * ROW_BYTES + sum(map(_decoded_bytes, batch.columns))
        check_size(feed, uri, size)
        batch.validate(full=True)
        columns = [values.cast(pa.string()) if _is_text(values.type) else values for values in batch.columns]
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _decoded_bytes(values: pa.Array) -> int:
    if not (pa.types.is_dictionary(values.type) and _is_text(values.type)):
        return int(values.nbytes)
    lengths = pc.binary_length(values.dictionary).take(values.indices)
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    kind = _value_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _fits(column: Column, kind: pa.DataType) -> bool:
    """Whether values of that Arrow type can be values of the column."""
    kind = _value_type(kind)
    if pa.types.is_null(kind):
        return True
    fits: dict[ColumnType, bool] = {
        "string": _is_text(kind),
        # pandas writes integers with gaps as floats; a fraction fails the cast.
        "int64": pa.types.is_integer(kind) or pa.types.is_floating(kind),
        "float64": pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "bool": pa.types.is_boolean(kind),
        "date": pa.types.is_date(kind),
        "timestamp": pa.types.is_timestamp(kind) and kind.tz is not None,
    }
    return fits[column.type]


def _cast(column: Column, uri: str, values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    # Nanoseconds may be truncated to microseconds; nothing else may change.
    options = pc.CastOptions(target, allow_time_truncate=column.type == "timestamp")
    try:
        return values.cast(options=options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        # Python has no value for some instants.
        examples = "" if pa.types.is_temporal(values.type) else f", for example {sample(values)}"
        raise _retyped(column, uri, values.type, examples) from error


def _retyped(column: Column, uri: str, kind: pa.DataType, examples: str = "") -> SchemaChanged:
    return SchemaChanged(
        "NS-LAND-017",
        f"{uri}: column {column.name!r} is no longer {column.type} but {_value_type(kind)}{examples}. {CHANGE_FEED}",
    )


def _usable(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Null in place of what is not read from CSV either: NaN, infinity, text with a NUL, years outside 1 to 9999."""
    if column.type == "float64":
        usable = pc.is_finite(values)
    elif column.type == "string":
        usable = pc.invert(pc.match_substring(values, "\0"))
    else:
        return representable(values)
    return pc.if_else(usable, values, pa.scalar(None, values.type))
