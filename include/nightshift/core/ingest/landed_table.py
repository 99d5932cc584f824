"""Read a delivered file (CSV or Parquet) as typed rows.

Faults of the whole file reject the partition (SchemaChanged, MalformedFile). Faults of single
rows quarantine the row with the reason: a cell that is not of its column's type, a missing
required value, a row with too many or too few cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.ingest.landed_checks import LONGEST_BEGINNING, SEND_AGAIN, check_kind, check_size
from nightshift.core.ingest.landed_csv import read_csv, row_number
from nightshift.core.ingest.landed_parquet import read_parquet
from nightshift.core.ingest.quarantine import LANDED_ROW, LANDED_URI, QUARANTINE, set_aside
from nightshift.core.ingest.spool import Spool
from nightshift.declare.feeds import Column, ColumnType, Feed
from nightshift.errors import MalformedFile

STEP = "land"

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class LandedTable:
    """`rows`: the feed's landed columns, typed, plus landed_uri and landed_row, in file order.
    `quarantine`: the quarantined rows, in any order. `delivered`: the number of rows of the file, that is of both."""

    rows: Spool
    quarantine: Spool
    delivered: int


def landed_schema(columns: Sequence[Column]) -> pa.Schema:
    """Arrow schema of declared columns plus landed_uri and landed_row."""
    fields = [pa.field(column.name, ARROW_TYPES[column.type]) for column in columns]
    return pa.schema([*fields, pa.field(LANDED_URI, pa.string()), pa.field(LANDED_ROW, pa.int64())])


def read_landed(feed: Feed, uri: str, file: Path, folder: Path) -> LandedTable:
    """The file's rows by the feed's `landed` schema, kept in the folder; columns may come in any order.

    Parquet is recognised by its first bytes or its name, all else is read as CSV (UTF-8, with a header). Raises
    MalformedFile for an empty, half-written or unreadable file, another delimiter, or more than the feed's
    `max_bytes` as delivered or decoded, and SchemaChanged for missing, extra, renamed or retyped columns.
    """
    check_size(feed, uri, file.stat().st_size)
    with file.open("rb") as data:
        start = data.read(LONGEST_BEGINNING)
    check_kind(uri, start)
    is_parquet = start.startswith(b"PAR1") or uri.endswith(".parquet")
    batches = _parquet_batches(feed, uri, file) if is_parquet else _csv_batches(feed, uri, file)
    with Spool(folder, landed_schema(feed.landed)) as rows, Spool(folder, QUARANTINE) as quarantine:
        for valid, others in batches:
            rows.write(valid)
            for table in others:
                quarantine.write(table)
    # What Arrow keeps of the file's batches would add to the memory of the SQL that follows.
    pa.default_memory_pool().release_unused()
    return LandedTable(rows, quarantine, rows.rows + quarantine.rows)


def nothing_landed(feed: Feed, folder: Path) -> LandedTable:
    """What a delivery without rows is read as."""
    with Spool(folder, landed_schema(feed.landed)) as rows, Spool(folder, QUARANTINE) as quarantine:
        return LandedTable(rows, quarantine, 0)


Batches = Iterator[tuple[pa.Table, list[pa.Table]]]
"""Valid rows with lineage, and QUARANTINE tables of the others."""


def _parquet_batches(feed: Feed, uri: str, file: Path) -> Batches:
    read = 0
    for delivered, typed in read_parquet(feed, uri, file, landed_schema(feed.landed)):
        rows, others = _split(feed, uri, delivered, typed, np.arange(read + 1, read + len(typed) + 1))
        read += len(typed)
        yield rows, [others]


def _csv_batches(feed: Feed, uri: str, file: Path) -> Batches:
    for batch in read_csv(feed, uri, file):
        rows, others = _split(feed, uri, batch.delivered, batch.typed, batch.numbers)
        texts = pa.table({"text": pa.array([row.text for row in batch.broken], pa.string())})
        texts = _with_lineage(texts, uri, np.array([row_number(row) for row in batch.broken], np.int64))
        reasons = [[f"{row.actual_columns} cells instead of {row.expected_columns}"] for row in batch.broken]
        yield rows, [others, set_aside(texts, reasons, step=STEP)]


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
