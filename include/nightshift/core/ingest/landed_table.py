"""Read a delivered file (CSV or Parquet) as a typed table.

Faults of the whole file reject the partition (SchemaChanged, MalformedFile). Faults of single
rows quarantine the row with the reason: a cell that is not of its column's type, a missing
required value, a row with too many or too few cells.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.ingest.landed_checks import (
    CHANGE_FEED,
    ROW_BYTES,
    SEND_AGAIN,
    check_kind,
    check_names,
    check_repeated,
    check_size,
    check_type,
)
from nightshift.core.ingest.landed_parquet import read_parquet
from nightshift.core.ingest.quarantine import LANDED_ROW, LANDED_URI, gathered, set_aside
from nightshift.core.ingest.representable import representable
from nightshift.declare.feeds import Column, ColumnType, Feed
from nightshift.errors import MalformedFile

STEP = "land"
HEADER_CHARACTERS = 100_000
DELIMITERS = (",", ";", "\t", "|")

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

# SQL for one text cell; NULL where the text is not of the type. A timestamp has to state its
# offset from UTC: without it, the instant depends on the zone. PostgreSQL has no text with a NUL.
_PARSED: dict[ColumnType, str] = {
    "string": "CASE WHEN NOT contains({0}, chr(0)) THEN {0} END",
    "int64": "CASE WHEN regexp_full_match({0}, '[+-]?[0-9]+(\\.0*)?') THEN try_cast({0} AS BIGINT) END",
    # DuckDB reads 1_000 as a number.
    "float64": "CASE WHEN isfinite(try_cast({0} AS DOUBLE)) AND NOT contains({0}, '_') "
    "THEN try_cast({0} AS DOUBLE) END",
    "bool": "try_cast({0} AS BOOLEAN)",
    "date": "CASE WHEN regexp_full_match({0}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}') THEN try_cast({0} AS DATE) END",
    "timestamp": "CASE WHEN regexp_full_match({0}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ][0-9]{{2}}:[0-9]{{2}}"
    "(:[0-9]{{2}}(\\.[0-9]+)?)?(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)') "
    "THEN try_cast({0} AS TIMESTAMPTZ) END",
}


@dataclass(frozen=True)
class LandedTable:
    """`rows`: the feed's landed columns, typed, plus landed_uri and landed_row, in file order.
    `quarantine`: the quarantined rows. `delivered`: the number of rows of the file, that is of both."""

    rows: pa.Table
    quarantine: pa.Table
    delivered: int


def landed_schema(columns: Sequence[Column]) -> pa.Schema:
    """Arrow schema of declared columns plus landed_uri and landed_row."""
    fields = [pa.field(column.name, ARROW_TYPES[column.type]) for column in columns]
    return pa.schema([*fields, pa.field(LANDED_URI, pa.string()), pa.field(LANDED_ROW, pa.int64())])


def read_landed(feed: Feed, uri: str, data: bytes) -> LandedTable:
    """The file's rows by the feed's `landed` schema; columns may come in any order.

    Parquet is recognised by its first bytes or its name, all else is read as CSV (UTF-8, with a header). Raises
    MalformedFile for an empty, half-written or unreadable file, another delimiter, or more than the feed's
    `max_bytes` as delivered or decoded, and SchemaChanged for missing, extra, renamed or retyped columns.
    """
    check_size(feed, uri, len(data))
    check_kind(uri, data)
    if data.startswith(b"PAR1") or uri.endswith(".parquet"):
        delivered, typed = read_parquet(feed, uri, data, landed_schema(feed.landed))
        return LandedTable(*_split(feed, uri, delivered, typed, np.arange(1, len(typed) + 1)), len(typed))
    return _read_csv(feed, uri, data)


def _read_csv(feed: Feed, uri: str, data: bytes) -> LandedTable:
    header = _csv_header(feed, uri, data)
    broken: list[pyarrow.csv.InvalidRow] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row)
        return "skip" if len(broken) * ROW_BYTES < feed.max_bytes else "error"

    try:
        cells = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            # Row numbers are reported only with one thread.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=feed.delimiter, newlines_in_values=True, invalid_row_handler=keep
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys([*header, *(c.name for c in feed.landed)], pa.string()),
                null_values=list(feed.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise MalformedFile("NS-LAND-004", f"{uri} cannot be read as CSV: {error}. {SEND_AGAIN}") from error
    delivered = cells.num_rows + len(broken)
    check_size(feed, uri, cells.nbytes + delivered * ROW_BYTES)
    check_names(feed, uri, cells)
    # Numbers count the header as row 1.
    at = {row.number - 1: row for row in broken}
    if delivered in at and at[delivered].actual_columns < len(header):
        raise MalformedFile(
            "NS-LAND-005",
            f"{uri} is half-written: its last row has {at[delivered].actual_columns} of {len(header)} cells "
            f"({at[delivered].text[:80]!r}). {SEND_AGAIN}",
        )
    if len(broken) * 2 > delivered:
        raise MalformedFile(
            "NS-LAND-114",
            f"{uri}: {len(broken)} of {delivered} rows have not the {len(header)} cells of the header, for example "
            f"row {broken[0].number - 1} with {broken[0].actual_columns} ({broken[0].text[:80]!r}). {SEND_AGAIN}",
        )
    cells = cells.select([c.name for c in feed.landed])
    typed = _typed(feed, cells)
    for column in feed.landed:
        check_type(column, uri, cells[column.name], _unreadable(cells[column.name], typed[column.name]))
    numbers = np.delete(np.arange(1, delivered + 1), [number - 1 for number in at])
    rows, quarantine = _split(feed, uri, cells, typed, numbers)
    texts = pa.table({"text": pa.array([row.text for row in broken], pa.string())})
    texts = _with_lineage(texts, uri, np.array(list(at), np.int64))
    reasons = [[f"{row.actual_columns} cells instead of {len(header)}"] for row in broken]
    return LandedTable(rows, gathered([quarantine, set_aside(texts, reasons, step=STEP)]), delivered)


def _csv_header(feed: Feed, uri: str, data: bytes) -> list[str]:
    if not data.strip():
        raise MalformedFile("NS-LAND-006", f"{uri} is empty ({len(data)} bytes). {SEND_AGAIN}")
    if not data.endswith((b"\n", b"\r")):
        tail = data[-60:].decode("utf-8", "replace").splitlines()[-1]
        raise MalformedFile(
            "NS-LAND-007", f"{uri} is half-written: its last line has no line end ({tail!r}). {SEND_AGAIN}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedFile("NS-LAND-008", f"{uri} is not UTF-8 text ({error}). {SEND_AGAIN}") from error
    if text.count('"') % 2:
        raise MalformedFile(
            "NS-LAND-009", f"{uri} has an unbalanced quote: half-written, or quotes are not doubled. {SEND_AGAIN}"
        )
    # Not the whole text: a list of millions of lines takes many times its bytes.
    first = text[:HEADER_CHARACTERS].splitlines()[0]
    if len(first) >= HEADER_CHARACTERS:
        raise MalformedFile(
            "NS-LAND-115",
            f"{uri} has a first line of {HEADER_CHARACTERS} characters or more ({first[:80]!r}), which is no header. "
            f"{SEND_AGAIN}",
        )
    header = next(csv.reader([first], delimiter=feed.delimiter))
    if not set(header) & {column.name for column in feed.landed}:
        others = [d for d in DELIMITERS if d != feed.delimiter and d in first]
        if others:
            raise MalformedFile(
                "NS-LAND-010",
                f"{uri} is delimited by {max(others, key=first.count)!r} instead of {feed.delimiter!r} "
                f"(header {first[:80]!r}). {CHANGE_FEED}",
            )
        raise MalformedFile("NS-LAND-011", f"{uri} has no header: its first line is {first[:80]!r}. {SEND_AGAIN}")
    check_repeated(uri, header)
    return header


def _typed(feed: Feed, cells: pa.Table) -> pa.Table:
    """Text cells as the feed's types; null where a cell is not of its column's type."""
    text = {c.name: f'"{c.name}"' if c.type == "string" else f'trim("{c.name}")' for c in feed.landed}
    parsed = ", ".join(f'{_PARSED[c.type].format(text[c.name])} AS "{c.name}"' for c in feed.landed)
    with duckdb_session(cells=cells) as session:
        typed = session.execute(f"SELECT {parsed} FROM cells").to_arrow_table()  # noqa: S608 - declared names
    return pa.table([representable(values) for values in typed.columns], names=typed.column_names)


def _split(
    feed: Feed, uri: str, delivered: pa.Table, typed: pa.Table, numbers: npt.NDArray[np.int64]
) -> tuple[pa.Table, pa.Table]:
    """Valid rows, typed, and the others as delivered, with their reasons. `numbers`: row numbers in the file."""
    masks = {f"{c.name} is not {c.type}": _unreadable(delivered[c.name], typed[c.name]) for c in feed.landed}
    masks |= {f"{c.name} is missing": pc.is_null(delivered[c.name]) for c in feed.landed if not c.nullable}
    reasons: dict[int, list[str]] = {}
    for reason, mask in masks.items():
        # Not pc.indices_nonzero: pyarrow 25.0.1 crashes in it on an array without chunks, as empty tables have.
        for position in np.flatnonzero(mask.to_numpy()):
            reasons.setdefault(int(position), []).append(reason)
    bad = np.zeros(len(numbers), bool)
    bad[list(reasons)] = True
    rows = _with_lineage(typed.filter(pa.array(~bad)), uri, numbers[~bad]).cast(landed_schema(feed.landed))
    others = _with_lineage(delivered.filter(pa.array(bad)), uri, numbers[bad])
    return rows.combine_chunks(), set_aside(others, [reasons[position] for position in sorted(reasons)], step=STEP)


def _unreadable(delivered: pa.ChunkedArray, typed: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.and_(pc.is_valid(delivered), pc.is_null(typed))


def _with_lineage(table: pa.Table, uri: str, numbers: npt.NDArray[np.int64]) -> pa.Table:
    table = table.append_column(LANDED_URI, pa.repeat(pa.scalar(uri, pa.string()), table.num_rows))
    return table.append_column(LANDED_ROW, pa.array(numbers, pa.int64()))


def reject_if_undelivered(feed: Feed, tables: Sequence[LandedTable], where: str) -> None:
    """Raises MalformedFile if a daily feed's files have no rows at all."""
    if feed.cadence == "daily" and not any(table.delivered for table in tables):
        raise MalformedFile("NS-LAND-019", f"{where} holds a header and no row. {SEND_AGAIN}")
