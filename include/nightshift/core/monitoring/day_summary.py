"""Summaries of the columns of a partition: how often each value occurs. Summaries of several days are merged by sums.

Numbers are counted by their value rounded to DIGITS significant digits: bins that are fixed before any data is seen, so
that summaries of all partitions of all time fit each other.
"""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats
from nightshift.core.parquet_file import BATCH_ROWS

DIGITS = 3
MOST_TEXTS = 50
"""A text column with more values than this on a day, most of them different, holds identifiers: only its rows and nulls
are counted."""

SUMMARY_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("column_name", pa.string(), nullable=False),
        pa.field("number", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)
"""One row per value of a column. Null cells are the row in which number and text are null."""

IDENTIFIER = "(identifier)"


def summarise(source: str, table: pa.Table, *, partition: date, cutoff: datetime) -> pa.Table:
    """Counts of the values of every column of a table; SUMMARY_SCHEMA, in the order of columns and values.

    Timestamps (UTC, with or without zone) are counted as hours before `cutoff` (with a zone), dates as days after
    `partition`, booleans as 0 and 1.
    """
    tables = [_counts(source, name, _comparable(table[name], partition, cutoff)) for name in table.column_names]
    return pa.concat_tables([SUMMARY_SCHEMA.empty_table(), *tables])


def rounded(values: Floats) -> Floats:
    """Values rounded to DIGITS significant digits; NaN and infinities as they are."""
    # Through decimals, so that sums like 0.1 + 0.2 fall into the bin of 0.3. A list of all takes four times their
    # memory.
    parts = (values[start : start + BATCH_ROWS].tolist() for start in range(0, len(values), BATCH_ROWS))
    bins = (float(f"{value:.{DIGITS}g}") for part in parts for value in part)
    return np.fromiter(bins, np.float64, len(values))


def _comparable(column: pa.ChunkedArray, partition: date, cutoff: datetime) -> pa.ChunkedArray:
    """Strings as they are, everything else as float64 with NaN as null."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        # Without zone: UTC by convention of all feeds and features.
        seconds = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
        return pc.divide(pc.subtract(cutoff.timestamp() * 1e6, seconds.cast(pa.float64())), 3.6e9)
    if pa.types.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32()).cast(pa.float64())
        return pc.subtract(days, float((partition - date(1970, 1, 1)).days))
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    return column.cast(pa.float64())


def _counts(source: str, name: str, column: pa.ChunkedArray) -> pa.Table:
    filled = column.drop_null()
    texts: list[str | None]
    numbers: list[float | None]
    if pa.types.is_string(column.type):
        counted = pc.value_counts(filled)
        if len(counted) > max(MOST_TEXTS, len(filled) / 2):
            texts, rows = [IDENTIFIER], [len(filled)]
        else:
            counted = counted.take(pc.sort_indices(counted.field("values")))
            texts, rows = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        numbers = [None] * len(texts)
    else:
        values, frequency = np.unique(filled.to_numpy(), return_counts=True)
        finite = ~np.isnan(values)
        merged, position = np.unique(rounded(values[finite]), return_inverse=True)
        numbers = list(merged.tolist())
        rows = np.bincount(position, frequency[finite], len(merged)).astype(np.int64).tolist()
        texts = [None] * len(numbers)
    missing = len(column) - sum(rows)
    if missing or not rows:
        numbers, texts, rows = [*numbers, None], [*texts, None], [*rows, missing]
    size = len(rows)
    return pa.table([[source] * size, [name] * size, numbers, texts, rows], schema=SUMMARY_SCHEMA)
