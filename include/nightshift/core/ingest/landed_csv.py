"""Decode a delivered CSV file, in memory that does not depend on its number of rows."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
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
    CellCheck,
    Sample,
    check_names,
    check_repeated,
    check_size,
)
from nightshift.core.ingest.representable import representable
from nightshift.declare.feeds import ColumnType, Feed
from nightshift.errors import MalformedFile

HEADER_CHARACTERS = 100_000
DELIMITERS = (",", ";", "\t", "|")
CHUNK_BYTES = 2**20
"""Of a file, in memory together; more than the longest header."""

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
class CsvBatch:
    """Some rows: `delivered` as text and `typed`, null where a cell is not of its column's type, with their `numbers`
    in the file; and those that have not the cells of the header."""

    delivered: pa.Table
    typed: pa.Table
    numbers: npt.NDArray[np.int64]
    broken: list[pyarrow.csv.InvalidRow]


@dataclass
class _Rows:
    """Counts the rows of a file while it is parsed. `pending`: broken ones behind the `numbered` ones."""

    limit: int
    good: int = 0
    broken: int = 0
    numbered: int = 0
    first: pyarrow.csv.InvalidRow | None = None
    last: pyarrow.csv.InvalidRow | None = None
    pending: list[pyarrow.csv.InvalidRow] = field(default_factory=list)

    @property
    def delivered(self) -> int:
        return self.good + self.broken

    def keep(self, row: pyarrow.csv.InvalidRow) -> str:
        """What the parser does about a broken row; it is up to a block ahead of the good ones."""
        self.broken += 1
        self.first, self.last = self.first or row, row
        self.pending.append(row)
        return "skip" if self.broken * ROW_BYTES < self.limit else "error"

    def number(self, count: int) -> tuple[npt.NDArray[np.int64], list[pyarrow.csv.InvalidRow]]:
        """Numbers in the file of the next good rows, and the broken rows before the last of them; without, all."""
        candidates = np.arange(self.numbered + 1, self.numbered + count + len(self.pending) + 1)
        numbers = candidates[~np.isin(candidates, [row_number(row) for row in self.pending])][:count]
        self.good += count
        broken = self.pending
        if count:
            self.numbered = int(numbers[-1])
            broken = [row for row in self.pending if row_number(row) < self.numbered]
        self.pending = self.pending[len(broken) :]
        return numbers, broken


def row_number(row: pyarrow.csv.InvalidRow) -> int:
    """The number of a broken row in its file. The parser's counts the header as row 1."""
    return int(row.number) - 1


def read_csv(feed: Feed, uri: str, file: Path) -> Iterator[CsvBatch]:
    """The rows of a file by the feed's landed columns, some at a time.

    A fault of the whole file, as MalformedFile or SchemaChanged, is raised before the first batch or after the last.
    """
    header = _header(feed, uri, file)
    rows, size = _Rows(feed.max_bytes), 0
    names = [column.name for column in feed.landed]
    examples: dict[str, Sample] = {}
    checks = [CellCheck(column) for column in feed.landed]
    with duckdb_session() as session:
        for batch in _parsed(feed, uri, file, header, rows):
            numbers, broken = rows.number(len(batch))
            size += batch.nbytes
            for name, values in zip(batch.column_names, batch.columns, strict=True):
                sample = examples.setdefault(name, Sample())
                if name not in names:
                    sample.add(values)
            # What has other columns or is too large is only parsed further, for the faults that come first.
            if sorted(batch.column_names) != sorted(names) or size + rows.delivered * ROW_BYTES > feed.max_bytes:
                continue
            cells = batch.select(names)
            typed = _typed(session, feed, cells)
            for check in checks:
                delivered, values = cells[check.column.name], typed[check.column.name]
                check.add(delivered, pc.and_(pc.is_valid(delivered), pc.is_null(values)))
            yield CsvBatch(cells, typed, numbers, broken)
    check_size(feed, uri, size + rows.delivered * ROW_BYTES)
    check_names(feed, uri, examples)
    _check_broken(uri, rows, len(header))
    for check in checks:
        check.check(uri)


def _check_broken(uri: str, rows: _Rows, cells: int) -> None:
    """Raise MalformedFile if the last row is cut, or most rows have not the cells of the header."""
    if rows.first is None or rows.last is None:
        return
    if row_number(rows.last) == rows.delivered and rows.last.actual_columns < cells:
        raise MalformedFile(
            "NS-LAND-005",
            f"{uri} is half-written: its last row has {rows.last.actual_columns} of {cells} cells "
            f"({rows.last.text[:80]!r}). {SEND_AGAIN}",
        )
    if rows.broken * 2 > rows.delivered:
        raise MalformedFile(
            "NS-LAND-114",
            f"{uri}: {rows.broken} of {rows.delivered} rows have not the {cells} cells of the header, for example "
            f"row {row_number(rows.first)} with {rows.first.actual_columns} ({rows.first.text[:80]!r}). {SEND_AGAIN}",
        )


def _parsed(feed: Feed, uri: str, file: Path, header: list[str], rows: _Rows) -> Iterator[pa.Table]:
    """The cells as text, block by block, at least one; no broken row is left after the last."""
    names = [*header, *(column.name for column in feed.landed)]
    try:
        reader = pyarrow.csv.open_csv(
            file,
            # Row numbers are reported only with one thread.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=feed.delimiter, newlines_in_values=True, invalid_row_handler=rows.keep
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=list(feed.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        with reader:
            for batch in reader:
                if len(batch):
                    yield pa.table(batch)
            if rows.pending or not rows.good:
                yield reader.schema.empty_table()
    except pa.ArrowInvalid as error:
        raise MalformedFile("NS-LAND-004", f"{uri} cannot be read as CSV: {error}. {SEND_AGAIN}") from error


def _header(feed: Feed, uri: str, file: Path) -> list[str]:
    """The names of the columns. Raises MalformedFile and SchemaChanged for what a pass over the bytes finds."""
    start = _checked_text(uri, file)
    first = start[:HEADER_CHARACTERS].splitlines()[0]
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


def _checked_text(uri: str, file: Path) -> str:
    """The beginning of the text. Raises MalformedFile for an empty or half-written file, and one that is not UTF-8."""
    size = file.stat().st_size
    if all(not chunk.strip() for chunk in _chunks(file)):
        raise MalformedFile("NS-LAND-006", f"{uri} is empty ({size} bytes). {SEND_AGAIN}")
    with file.open("rb") as data:
        data.seek(max(size - 60, 0))
        end = data.read()
    if not end.endswith((b"\n", b"\r")):
        tail = end.decode("utf-8", "replace").splitlines()[-1]
        raise MalformedFile(
            "NS-LAND-007", f"{uri} is half-written: its last line has no line end ({tail!r}). {SEND_AGAIN}"
        )
    decoder, start, quotes, read = codecs.getincrementaldecoder("utf-8")(), None, 0, 0
    for chunk in _chunks(file):
        # Not utf-8-sig, which counts its places from the mark on.
        body = chunk.removeprefix(codecs.BOM_UTF8) if start is None else chunk
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(body, final=False)
        except UnicodeDecodeError as error:
            raise _not_utf8(uri, error, read - held) from error
        start = text if start is None else start
        quotes += body.count(b'"')
        read += len(body)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(uri, error, read - len(decoder.getstate()[0])) from error
    if quotes % 2:
        raise MalformedFile(
            "NS-LAND-009", f"{uri} has an unbalanced quote: half-written, or quotes are not doubled. {SEND_AGAIN}"
        )
    return start or ""


def _not_utf8(uri: str, error: UnicodeDecodeError, before: int) -> MalformedFile:
    """The fault at a place in the file; the error has it from `before` on."""
    start, end = before + error.start, before + error.end - 1
    byte = f"byte 0x{error.object[error.start]:02x} in position {start}"
    where = byte if start == end else f"bytes in position {start}-{end}"
    text = f"{error.encoding!r} codec can't decode {where}: {error.reason}"
    return MalformedFile("NS-LAND-008", f"{uri} is not UTF-8 text ({text}). {SEND_AGAIN}")


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as data:
        while chunk := data.read(CHUNK_BYTES):
            yield chunk


def _typed(session: duckdb.DuckDBPyConnection, feed: Feed, cells: pa.Table) -> pa.Table:
    """Text cells as the feed's types; null where a cell is not of its column's type."""
    text = {c.name: f'"{c.name}"' if c.type == "string" else f'trim("{c.name}")' for c in feed.landed}
    parsed = ", ".join(f'{_PARSED[c.type].format(text[c.name])} AS "{c.name}"' for c in feed.landed)
    session.register("cells", cells)
    typed = session.execute(f"SELECT {parsed} FROM cells").to_arrow_table()  # noqa: S608 - declared names
    session.unregister("cells")
    return pa.table([representable(values) for values in typed.columns], names=typed.column_names)
