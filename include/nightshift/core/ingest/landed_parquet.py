"""Decode a delivered Parquet file, in memory that does not depend on its number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.core.ingest.landed_checks import (
    CHANGE_FEED,
    ROW_BYTES,
    SEND_AGAIN,
    CellCheck,
    Sample,
    check_names,
    check_repeated,
    check_size,
)
from nightshift.core.ingest.representable import representable
from nightshift.core.parquet_file import row_batches
from nightshift.declare.feeds import Column, ColumnType, Feed
from nightshift.errors import MalformedFile, SchemaChanged

BUFFER_BYTES = 2**20
"""Of a column of a row group that is read ahead; without a limit it is read as a whole."""


def read_parquet(feed: Feed, uri: str, file: Path, schema: pa.Schema) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The landed columns by that schema in batches, as delivered and as typed: null where a value cannot be used.

    A column with such values is text in the first table. The file is decoded twice: a fault of the whole file is
    raised, as MalformedFile or SchemaChanged, before the first batch.
    """
    _check_ends(uri, file)
    unusable = _check_columns(feed, uri, file, schema)
    for batch in _decoded(feed, uri, file):
        values = {column.name: _cast(column, batch[column.name], schema) for column in feed.landed}
        # As text, because neither JSON nor Python has a value for all of them.
        delivered = {name: cells.cast(pa.string()) if name in unusable else cells for name, cells in values.items()}
        typed = {column.name: _usable(column, values[column.name]) for column in feed.landed}
        yield pa.table(delivered), pa.table(typed)


def _check_ends(uri: str, file: Path) -> None:
    size = file.stat().st_size
    if not size:
        raise MalformedFile("NS-LAND-014", f"{uri} is empty (0 bytes). {SEND_AGAIN}")
    with file.open("rb") as data:
        start = data.read(4)
        data.seek(max(size - 4, 0))
        end = data.read(4)
    if not (start == end == b"PAR1" and size > 12):
        raise MalformedFile(
            "NS-LAND-015", f"{uri} is half-written: {size} bytes without a Parquet footer. {SEND_AGAIN}"
        )


def _check_columns(feed: Feed, uri: str, file: Path, schema: pa.Schema) -> set[str]:
    """Names of the columns with values that cannot be used. Raises MalformedFile and SchemaChanged."""
    checks = {column.name: CellCheck(column) for column in feed.landed}
    failed: dict[str, pa.ArrowException] = {}
    for batch in _decoded(feed, uri, file):
        for column in feed.landed:
            if column.name in failed:
                continue
            try:
                values = _cast(column, batch[column.name], schema)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                failed[column.name] = error
                continue
            wrong = pc.and_(pc.is_valid(values), pc.is_null(_usable(column, values)))
            cells = values.cast(pa.string()) if pc.any(wrong).as_py() else values
            checks[column.name].add(cells, wrong)
    for column in feed.landed:
        if column.name in failed:
            kind = pq.read_schema(file).field(column.name).type
            examples = ""
            # Python has no value for some instants.
            if not pa.types.is_temporal(kind):
                sample = Sample(batch[column.name] for batch in _decoded(feed, uri, file))
                examples = f", for example {sample.shown()}"
            raise _retyped(column, uri, kind, examples) from failed[column.name]
        checks[column.name].check(uri)
    return {name for name, check in checks.items() if check.bad}


def _decoded(feed: Feed, uri: str, file: Path) -> Iterator[pa.Table]:
    """The file's rows, text as strings, in batches, at least one."""
    try:
        schema, metadata = pq.read_schema(file), pq.read_metadata(file)
        # Names and types first: a nested value may be larger than any limit.
        check_repeated(uri, schema.names)
        check_names(feed, uri, {name: Sample() for name in schema.names})
        for column in feed.landed:
            kind = schema.field(column.name).type
            if not _fits(column, kind):
                raise _retyped(column, uri, kind)
        groups = range(metadata.num_row_groups)
        check_size(feed, uri, sum(metadata.row_group(number).total_byte_size for number in groups))
        if not metadata.num_rows:
            yield schema.empty_table()
        # Text as a dictionary: a cell of a megabyte may be repeated a million times in a file of a megabyte.
        texts = [column.name for column in feed.landed if _is_text(schema.field(column.name).type)]
        with pq.ParquetFile(file, read_dictionary=texts, buffer_size=BUFFER_BYTES) as rows:
            yield from _bounded(feed, uri, rows)
    # UnicodeDecodeError: names of columns are text too.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MalformedFile("NS-LAND-016", f"{uri} cannot be read as Parquet: {error}. {SEND_AGAIN}") from error


def _bounded(feed: Feed, uri: str, file: pq.ParquetFile) -> Iterator[pa.Table]:
    """The file's rows, text as strings, up to the feed's `max_bytes`."""
    size = 0
    for batch in row_batches(file):
        size += batch.num_rows * ROW_BYTES + sum(map(_decoded_bytes, batch.columns))
        check_size(feed, uri, size)
        batch.validate(full=True)
        columns = [values.cast(pa.string()) if _is_text(values.type) else values for values in batch.columns]
        yield pa.table(columns, names=batch.schema.names)


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


def _cast(column: Column, values: pa.ChunkedArray, schema: pa.Schema) -> pa.ChunkedArray:
    # Nanoseconds may be truncated to microseconds; nothing else may change.
    options = pc.CastOptions(schema.field(column.name).type, allow_time_truncate=column.type == "timestamp")
    return values.cast(options=options)


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
