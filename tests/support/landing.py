"""What `land` makes of a delivered file, as tables in memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.core.ingest import curated_table, landed_table
from nightshift.core.ingest.quarantine import LINEAGE, gathered
from nightshift.core.ingest.spool import Spool
from nightshift.declare.feeds import Feed


@dataclass(frozen=True)
class LandedRows:
    """A LandedTable, read."""

    rows: pa.Table
    quarantine: pa.Table
    delivered: int


@dataclass(frozen=True)
class CuratedRows:
    """A CuratedTable, read."""

    rows: pa.Table
    quarantine: pa.Table
    exact_duplicates: int


def read_landed(feed: Feed, uri: str, data: bytes) -> LandedRows:
    """What is read from a file with those bytes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(data)
        landed = landed_table.read_landed(feed, uri, file, Path(folder))
        return LandedRows(_table(landed.rows), gathered([_table(landed.quarantine)]), landed.delivered)


def curate(feed: Feed, landed: pa.Table) -> CuratedRows:
    """What is made of landed rows, which may come in any order."""
    with tempfile.TemporaryDirectory() as folder:
        ordered = landed.sort_by([(name, "ascending") for name in LINEAGE])
        with Spool(Path(folder), ordered.schema) as spool:
            spool.write(ordered)
        curated = curated_table.curate(feed, [spool], Path(folder))
        rows = pq.read_table(curated.file)
        assert rows.num_rows == curated.rows
        return CuratedRows(rows, _table(curated.quarantine), curated.exact_duplicates)


def _table(spool: Spool) -> pa.Table:
    return spool.reader().read_all()
