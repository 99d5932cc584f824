"""Quarantined rows, each with all its reasons, in one schema for all feeds.

QUARANTINE: landed_uri string, landed_row int64 (1 is the first row below the header),
step string (that quarantined it), reasons list<string>, row string (the row as JSON).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import canonical_json
from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.ingest.spool import Spool
from nightshift.core.parquet_file import BATCH_ROWS, write_parquet

LANDED_URI = "landed_uri"
LANDED_ROW = "landed_row"
LINEAGE = (LANDED_URI, LANDED_ROW)

QUARANTINE = pa.schema(
    [
        pa.field(LANDED_URI, pa.string(), nullable=False),
        pa.field(LANDED_ROW, pa.int64(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("row", pa.string(), nullable=False),
    ]
)


def set_aside(rows: pa.Table, reasons: Sequence[Sequence[str]], *, step: str) -> pa.Table:
    """The rows (any columns, with landed_uri and landed_row) as a QUARANTINE table; `reasons` has one list per row."""
    bodies = [
        canonical_json({name: value for name, value in row.items() if name not in LINEAGE}).decode()
        for row in rows.to_pylist()
    ]
    return pa.table(
        [
            rows[LANDED_URI].combine_chunks().cast(pa.string()),
            rows[LANDED_ROW].combine_chunks().cast(pa.int64()),
            pa.array([step] * rows.num_rows, pa.string()),
            pa.array([list(row_reasons) for row_reasons in reasons], pa.list_(pa.string())),
            pa.array(bodies, pa.string()),
        ],
        schema=QUARANTINE,
    )


def gathered(tables: Sequence[pa.Table]) -> pa.Table:
    """Several QUARANTINE tables as one, in the order of landed file and row."""
    together = pa.concat_tables([QUARANTINE.empty_table(), *tables]).combine_chunks()
    return together.sort_by([(name, "ascending") for name in LINEAGE])


def write_quarantine(path: Path, tables: Sequence[Spool]) -> Path:
    """QUARANTINE rows in a Parquet file, in the order of landed file and row; returns its path."""
    batches = (batch for spool in tables for batch in spool.batches())
    with duckdb_session(quarantined=pa.RecordBatchReader.from_batches(QUARANTINE, batches)) as session:
        rows = session.execute(f"FROM quarantined ORDER BY {', '.join(LINEAGE)}").to_arrow_reader(BATCH_ROWS)
        write_parquet(path, QUARANTINE, (pa.table(batch).cast(QUARANTINE) for batch in rows))
    return path


def without_rows(rows: pa.Table, quarantine: pa.Table) -> pa.Table:
    """The rows (with landed_uri and landed_row) that are not in a QUARANTINE table."""
    for uri in rows[LANDED_URI].unique() if quarantine.num_rows else ():
        numbers = quarantine.filter(pc.equal(quarantine[LANDED_URI], uri))[LANDED_ROW].combine_chunks()
        removed = pc.and_(pc.equal(rows[LANDED_URI], uri), pc.is_in(rows[LANDED_ROW], value_set=numbers))
        rows = rows.filter(pc.invert(removed))
    return rows


def reason_counts(quarantine: pa.Table) -> dict[str, int]:
    """Rows per reason, by reason. A row with two reasons counts under both."""
    counts = Counter(reason for reasons in quarantine["reasons"].to_pylist() for reason in reasons)
    return dict(sorted(counts.items()))
