"""Curated rows from landed rows: the feed's SQL, then one row per key.

If a delivery holds a key more than once, the last row is used: of the later file by name, and
in that file the later row. A producer corrects rows by adding a file. Rows equal in every
curated value are exact duplicates and are dropped; other rows of the key are quarantined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.ingest.landed_table import ARROW_TYPES, STEP
from nightshift.core.ingest.quarantine import LANDED_ROW, LANDED_URI, LINEAGE, set_aside
from nightshift.core.ingest.representable import representable
from nightshift.declare.feeds import Feed
from nightshift.errors import ConfigurationError

_LANDED_ORDER = [(LANDED_URI, "ascending"), (LANDED_ROW, "ascending")]
SUPERSEDED = "another row with this key was delivered later"


@dataclass(frozen=True)
class CuratedTable:
    """`rows`: curated columns, columns for expectations only, landed_uri and landed_row, in landed order.
    `quarantine`: the rows that a later row with the same key replaced. `exact_duplicates`: number of
    dropped rows that are equal to another one."""

    rows: pa.Table
    quarantine: pa.Table
    exact_duplicates: int


def curate(feed: Feed, landed: pa.Table) -> CuratedTable:
    """Apply the feed's `normalise` SQL to the landed rows, then keep one row per key.

    Columns that the SQL returns beyond `curated` are kept for the expectations; publishing drops
    them. Dates outside the years 1 to 9999 become null. Raises ConfigurationError if the SQL does
    not run, loses or adds rows, or lacks a declared column or its type.
    """
    landed = landed.sort_by(_LANDED_ORDER)
    rows = _normalise(feed, landed)
    kept, replaced = _last_of_each_key(feed, rows)
    kept_rows, replaced_rows = rows.filter(kept), rows.filter(replaced)
    if kept_rows.num_rows < rows.num_rows:
        # Repeated without the other rows, because the SQL may compare a row with its neighbours.
        kept_rows = _normalise(feed, landed.filter(kept))
    return CuratedTable(
        rows=kept_rows,
        quarantine=set_aside(replaced_rows, [[SUPERSEDED]] * replaced_rows.num_rows, step=STEP),
        exact_duplicates=rows.num_rows - kept_rows.num_rows - replaced_rows.num_rows,
    )


def published_columns(feed: Feed, rows: pa.Table) -> pa.Table:
    """The rows with the published columns only: the curated columns, landed_uri and landed_row."""
    return rows.select([*(column.name for column in feed.curated), *LINEAGE])


def _normalise(feed: Feed, landed: pa.Table) -> pa.Table:
    try:
        with duckdb_session(landed=landed) as session:
            rows = session.execute(feed.normalise.read_text(encoding="utf-8")).to_arrow_table()
    except duckdb.Error as error:
        reason = re.sub(r"\s*\n\s*", " ", str(error))
        raise ConfigurationError(
            "NS-CURATE-001", f"{feed.normalise} does not run: {reason}. Correct the SQL of feed {feed.name}."
        ) from error
    declared_names = [column.name for column in feed.curated]
    absent = [name for name in (*declared_names, *LINEAGE) if name not in rows.column_names]
    if absent:
        raise ConfigurationError(
            "NS-CURATE-002", f"{feed.normalise} returns no column {absent}, which feed {feed.name} declares."
        )
    for column in feed.curated:
        actual, declared = rows.schema.field(column.name).type, ARROW_TYPES[column.type]
        if actual != declared and not (
            pa.types.is_null(actual) or (pa.types.is_integer(actual) and column.type == "int64")
        ):
            raise ConfigurationError(
                "NS-CURATE-003",
                f"{feed.normalise} returns {column.name} as {actual}; feed {feed.name} declares {column.type}: "
                "cast it.",
            )
        rows = rows.set_column(rows.column_names.index(column.name), column.name, rows[column.name].cast(declared))
    # Arithmetic on a delivered year or hour may lead beyond the dates that Python has.
    rows = pa.table([representable(values) for values in rows.columns], names=rows.column_names)
    rows = rows.sort_by(_LANDED_ORDER)
    if not rows.select(list(LINEAGE)).equals(landed.select(list(LINEAGE))):
        raise ConfigurationError(
            "NS-CURATE-004",
            f"{feed.normalise} returned {rows.num_rows} rows for {landed.num_rows} landed ones; "
            "it has to return exactly one for each, with its landed_uri and landed_row.",
        )
    extra = [name for name in rows.column_names if name not in {*declared_names, *LINEAGE}]
    return rows.select([*declared_names, *extra, *LINEAGE])


def _last_of_each_key(feed: Feed, rows: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Masks over rows in landed order: those kept, and those replaced by one with other values.

    Rows with a null in the key are kept: they are never duplicates.
    """
    # Names of its own: a feed's column may be called like one of the query.
    names = {name: f"column_{n}" for n, name in enumerate(rows.column_names)}
    numbered = rows.rename_columns(list(names.values()))
    numbered = numbered.append_column("position", pa.array(range(rows.num_rows), pa.int64()))
    key, curated = [names[name] for name in feed.key], [names[column.name] for column in feed.curated]
    # Of equal rows the last one represents all of them, whether it is kept or replaced.
    query = (
        f"SELECT position = max(position) OVER (PARTITION BY {', '.join(key)}) "  # noqa: S608 - the names above
        f"OR {' OR '.join(f'{name} IS NULL' for name in key)} AS kept, "
        f"NOT kept AND position = max(position) OVER (PARTITION BY {', '.join(curated)}) AS replaced "
        "FROM numbered ORDER BY position"
    )
    with duckdb_session(numbered=numbered) as session:
        masks = session.execute(query).to_arrow_table()
    return masks["kept"], masks["replaced"]
