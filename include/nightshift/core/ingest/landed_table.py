"""Read a delivered file (CSV or Parquet) as a typed table.

Faults of the whole file reject the partition (SchemaChanged, MalformedFile). Faults of single
rows quarantine the row with the reason: a cell that is not of its column's type, a missing
required value, a row with too many or too few cells.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.ingest.quarantine import LANDED_ROW, LANDED_URI, gathered, set_aside
from nightshift.declare.feeds import Column, ColumnType, Feed
from nightshift.errors import MalformedFile, SchemaChanged

STEP = "land"
EXAMPLES = 5
DELIMITERS = (",", ";", "\t", "|")
SEND_AGAIN = "Have the producer deliver the file again, then run ingest for the partition again."
CHANGE_FEED = (
    "If it is meant, change the feed's declaration and its SQL; if not, have the producer deliver the file again."
)

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

# SQL for one text cell; NULL where the text is not of the type. A timestamp has to state its
# offset from UTC: without it, the instant depends on the zone.
_PARSED: dict[ColumnType, str] = {
    "string": "{0}",
    "int64": "CASE WHEN regexp_full_match({0}, '[+-]?[0-9]+(\\.0*)?') THEN try_cast({0} AS BIGINT) END",
    "float64": "CASE WHEN isfinite(try_cast({0} AS DOUBLE)) THEN try_cast({0} AS DOUBLE) END",
    "bool": "try_cast({0} AS BOOLEAN)",
    "date": "CASE WHEN regexp_full_match({0}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}') THEN try_cast({0} AS DATE) END",
    "timestamp": "CASE WHEN regexp_full_match({0}, '.*[0-9](Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)') "
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
    MalformedFile for an empty, half-written or unreadable file or another delimiter, and
    SchemaChanged for missing, extra, renamed or retyped columns.
    """
    if data.startswith(b"PAR1") or uri.endswith(".parquet"):
        return _read_parquet(feed, uri, data)
    return _read_csv(feed, uri, data)


# CSV


def _read_csv(feed: Feed, uri: str, data: bytes) -> LandedTable:
    header = _csv_header(feed, uri, data)
    broken: list[pyarrow.csv.InvalidRow] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    try:
        cells = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            # Row numbers are reported only with one thread.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=feed.delimiter, newlines_in_values=True, invalid_row_handler=keep
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=list(feed.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise MalformedFile("NS-LAND-004", f"{uri} cannot be read as CSV: {error}. {SEND_AGAIN}") from error
    _check_names(feed, uri, cells)
    delivered = cells.num_rows + len(broken)
    # Numbers count the header as row 1.
    at = {row.number - 1: row for row in broken}
    if delivered in at and at[delivered].actual_columns < len(header):
        raise MalformedFile(
            "NS-LAND-005",
            f"{uri} is half-written: its last row has {at[delivered].actual_columns} of {len(header)} cells "
            f"({at[delivered].text[:80]!r}). {SEND_AGAIN}",
        )
    cells = cells.select([c.name for c in feed.landed])
    typed = _typed(feed, cells)
    for column in feed.landed:
        _check_type(column, uri, cells[column.name], _unreadable(cells[column.name], typed[column.name]))
    rows, quarantine = _split(feed, uri, cells, typed, [n for n in range(1, delivered + 1) if n not in at])
    texts = _with_lineage(pa.table({"text": pa.array([row.text for row in broken], pa.string())}), uri, list(at))
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
    first = text.splitlines()[0]
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
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SchemaChanged("NS-LAND-012", f"{uri} has columns {twice} more than once. {CHANGE_FEED}")
    return header


def _typed(feed: Feed, cells: pa.Table) -> pa.Table:
    """Text cells as the feed's types; null where a cell is not of its column's type."""
    text = {c.name: f'"{c.name}"' if c.type == "string" else f'trim("{c.name}")' for c in feed.landed}
    parsed = ", ".join(f'{_PARSED[c.type].format(text[c.name])} AS "{c.name}"' for c in feed.landed)
    with duckdb_session(cells=cells) as session:
        return session.execute(f"SELECT {parsed} FROM cells").to_arrow_table()  # noqa: S608 - declared names


def _check_type(column: Column, uri: str, cells: pa.ChunkedArray, wrong: pa.ChunkedArray) -> None:
    """Raise SchemaChanged if most values of a column are not of its type; fewer are faults of single rows."""
    bad, filled = pc.sum(wrong).as_py() or 0, len(cells) - cells.null_count
    if bad * 2 <= filled:
        return
    examples = pc.unique(cells.filter(wrong)).to_pylist()[:EXAMPLES]
    hint = " A timestamp has to state its offset from UTC." if column.type == "timestamp" else ""
    raise SchemaChanged(
        "NS-LAND-013",
        f"{uri}: column {column.name!r} is no longer {column.type}: {bad} of {filled} values are not, "
        f"for example {examples}.{hint} {CHANGE_FEED}",
    )


# Parquet


def _read_parquet(feed: Feed, uri: str, data: bytes) -> LandedTable:
    if not data:
        raise MalformedFile("NS-LAND-014", f"{uri} is empty (0 bytes). {SEND_AGAIN}")
    if not (data.startswith(b"PAR1") and data.endswith(b"PAR1") and len(data) > 12):
        raise MalformedFile(
            "NS-LAND-015", f"{uri} is half-written: {len(data)} bytes without a Parquet footer. {SEND_AGAIN}"
        )
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise MalformedFile("NS-LAND-016", f"{uri} cannot be read as Parquet: {error}. {SEND_AGAIN}") from error
    _check_names(feed, uri, table)
    typed = pa.table({column.name: _cast(column, uri, table[column.name]) for column in feed.landed})
    return LandedTable(*_split(feed, uri, typed, typed, range(1, table.num_rows + 1)), table.num_rows)


def _cast(column: Column, uri: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    actual = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    fits = {
        "string": pa.types.is_string(actual) or pa.types.is_large_string(actual),
        # pandas writes integers with gaps as floats; a fraction fails the cast below.
        "int64": pa.types.is_integer(actual) or pa.types.is_floating(actual),
        "float64": pa.types.is_integer(actual) or pa.types.is_floating(actual) or pa.types.is_decimal(actual),
        "bool": pa.types.is_boolean(actual),
        "date": pa.types.is_date(actual),
        "timestamp": pa.types.is_timestamp(actual) and actual.tz is not None,
    }[column.type]
    target = ARROW_TYPES[column.type]
    if fits or pa.types.is_null(actual):
        try:
            # Nanoseconds may be truncated to microseconds; numbers must not change.
            return values.cast(target, safe=column.type != "timestamp")
        except pa.ArrowInvalid:
            pass
    examples = pc.unique(values.drop_null()).to_pylist()[:EXAMPLES]
    raise SchemaChanged(
        "NS-LAND-017",
        f"{uri}: column {column.name!r} is no longer {column.type} but {actual}, for example {examples}. {CHANGE_FEED}",
    )


# Both


def _check_names(feed: Feed, uri: str, table: pa.Table) -> None:
    declared = [column.name for column in feed.landed]
    missing = [name for name in declared if name not in table.column_names]
    extra = [name for name in table.column_names if name not in declared]
    if not missing and not extra:
        return
    problems, renamed = [], set()
    for name in missing:
        new = _likely_new_name(name, declared, table.column_names, extra)
        if new is None:
            problems.append(f"column {name!r} is missing")
        else:
            renamed.add(new)
            problems.append(f"column {name!r} is missing, probably renamed to {new!r} ({_examples(table[new])})")
    problems += [f"column {name!r} is not declared ({_examples(table[name])})" for name in extra if name not in renamed]
    raise SchemaChanged("NS-LAND-018", f"{uri}: {'; '.join(problems)}. {CHANGE_FEED}")


def _likely_new_name(name: str, declared: list[str], delivered: list[str], extra: list[str]) -> str | None:
    """An extra column at the same position, or else with a similar name; None if there is neither."""
    place = declared.index(name)
    if len(declared) == len(delivered) and delivered[place] in extra:
        return delivered[place]
    similar = difflib.get_close_matches(name, extra, n=1)
    return similar[0] if similar else None


def _examples(values: pa.ChunkedArray) -> str:
    return f"values such as {pc.unique(values.drop_null()).to_pylist()[:EXAMPLES]}"


def _split(
    feed: Feed, uri: str, delivered: pa.Table, typed: pa.Table, numbers: Sequence[int]
) -> tuple[pa.Table, pa.Table]:
    """Valid rows, typed, and the others as delivered, with their reasons. `numbers`: row numbers in the file."""
    masks = {f"{c.name} is not {c.type}": _unreadable(delivered[c.name], typed[c.name]) for c in feed.landed}
    masks |= {f"{c.name} is missing": pc.is_null(delivered[c.name]) for c in feed.landed if not c.nullable}
    reasons: list[list[str]] = [[] for _ in numbers]
    for reason, mask in masks.items():
        # Not pc.indices_nonzero: pyarrow 25.0.1 crashes in it on an array without chunks, as empty tables have.
        for position in np.flatnonzero(mask.to_numpy()):
            reasons[position].append(reason)
    bad = pa.array(map(bool, reasons), pa.bool_())
    rows = _with_lineage(typed, uri, numbers).cast(landed_schema(feed.landed)).filter(pc.invert(bad))
    others = _with_lineage(delivered, uri, numbers).filter(bad)
    return rows.combine_chunks(), set_aside(others, [row_reasons for row_reasons in reasons if row_reasons], step=STEP)


def _unreadable(delivered: pa.ChunkedArray, typed: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.and_(pc.is_valid(delivered), pc.is_null(typed))


def _with_lineage(table: pa.Table, uri: str, numbers: Sequence[int]) -> pa.Table:
    table = table.append_column(LANDED_URI, pa.array([uri] * table.num_rows, pa.string()))
    return table.append_column(LANDED_ROW, pa.array(numbers, pa.int64()))


def reject_if_undelivered(feed: Feed, tables: Sequence[LandedTable], where: str) -> None:
    """Raises MalformedFile if a daily feed's files have no rows at all."""
    if feed.cadence == "daily" and not any(table.delivered for table in tables):
        raise MalformedFile("NS-LAND-019", f"{where} holds a header and no row. {SEND_AGAIN}")
