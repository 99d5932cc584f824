"""Parquet files, written and read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 65_536
"""Rows that are in memory together, and of a row group."""


def row_batches(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order, at most BATCH_ROWS at a time; of all columns unless some are named."""
    # A reader of all row groups keeps memory of each until the last: 230 MiB of six million rows (pyarrow 25).
    for number in range(file.num_row_groups):
        yield from file.iter_batches(BATCH_ROWS, row_groups=[number], columns=columns)


def fits_a_batch(file: pq.ParquetFile) -> bool:
    """Whether `row_batches` yields at most one batch."""
    return bool(file.num_row_groups <= 1 and file.metadata.num_rows <= BATCH_ROWS)


def write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write the rows of tables of that schema, of which one is held at a time; returns their number.

    The file has the bytes of `parquet_bytes` of all rows in one table, however they are divided among tables.
    """
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rest, written = schema.empty_table(), 0
        for table in tables:
            rest = pa.concat_tables([rest, table])
            while rest.num_rows >= BATCH_ROWS:
                # The borders of chunks would become borders of pages.
                writer.write_table(rest.slice(0, BATCH_ROWS).combine_chunks(), BATCH_ROWS)
                rest, written = rest.slice(BATCH_ROWS), written + BATCH_ROWS
        if rest.num_rows or not written:
            writer.write_table(rest.combine_chunks(), BATCH_ROWS)
    return written + int(rest.num_rows)
