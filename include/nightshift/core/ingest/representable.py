"""Instants and days that Arrow and DuckDB hold and Python does not."""

from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

FIRST, LAST = date(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - Arrow adds the zone


def representable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates and timestamps with null outside the years 1 to 9999; other values, and nanoseconds, as they are."""
    kind = values.type
    if pa.types.is_date(kind):
        first, last = pa.scalar(FIRST, kind), pa.scalar(LAST.date(), kind)
    elif pa.types.is_timestamp(kind) and kind.unit != "ns":
        plain = pa.timestamp(kind.unit)
        first, last = (pa.scalar(at, plain).cast(pa.int64()) for at in (datetime(*FIRST.timetuple()[:3]), LAST))  # noqa: DTZ001
        first, last = first.cast(kind), last.cast(kind)
    else:
        return values
    inside = pc.and_(pc.greater_equal(values, first), pc.less_equal(values, last))
    return pc.if_else(inside, values, pa.scalar(None, kind))
