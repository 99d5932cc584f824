"""Landed rows made into curated rows: the feed's SQL, and one row per key.

When a delivery holds a key more than once, the last one counts: of the later file by name, and
in that file the later row. A producer corrects itself by adding a file. Rows equal in every
curated value are exact duplicates and are dropped; rows that say something else are set aside.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.landed_table import ARROW_TYPES, STEP
from nightshift.core.quarantine import LANDED_ROW, LANDED_URI, LINEAGE, QUARANTINE, set_aside
from nightshift.errors import ConfigurationError
from nightshift.usecase import Feed

_LANDED_ORDER = [(LANDED_URI, "ascending"), (LANDED_ROW, "ascending")]
SUPERSEDED = "another row with this key was delivered later"


@dataclass(frozen=True)
class CuratedTable:
    """`rows`: curated columns, columns for expectations only, landed_uri and landed_row, in landed order.
    `quarantine`: the rows that a later row with the same key replaced. `exact_duplicates`: rows
    dropped because an equal one is there."""

    rows: pa.Table
    quarantine: pa.Table
    exact_duplicates: int


def curate(feed: Feed, landed: pa.Table) -> CuratedTable:
    """The feed's `normalise` SQL over the landed rows, one row for each, then one row per key.

    Columns that the SQL returns beyond `curated` are kept for the expectations; publishing drops
    them. Raises ConfigurationError if the SQL does not run, loses or invents rows, or returns
    other columns than declared.
    """
    rows = _normalise(feed, landed)
    kept, replaced = _last_of_each_key(feed, rows)
    if kept is None:
        return CuratedTable(rows, QUARANTINE.empty_table(), 0)
    # Once more without the others: the SQL may compare a row with its neighbours.
    return CuratedTable(
        rows=_normalise(feed, landed.filter(_is_among(landed, rows.filter(kept)))),
        quarantine=set_aside(rows.filter(replaced), [[SUPERSEDED]] * pc.sum(replaced).as_py(), step=STEP),
        exact_duplicates=rows.num_rows - pc.sum(kept).as_py() - pc.sum(replaced).as_py(),
    )


def published_columns(feed: Feed, rows: pa.Table) -> pa.Table:
    """What consumers get to see: the curated columns, landed_uri and landed_row."""
    return rows.select([*(column.name for column in feed.curated), *LINEAGE])


def _normalise(feed: Feed, landed: pa.Table) -> pa.Table:
    try:
        with duckdb_session(landed=landed) as session:
            rows = session.execute(feed.normalise.read_text(encoding="utf-8")).to_arrow_table()
    except duckdb.Error as error:
        reason = re.sub(r"\s*\n\s*", " ", str(error))
        raise ConfigurationError(
            f"{feed.normalise} does not run: {reason}. Mend the SQL of feed {feed.name}."
        ) from error
    absent = [name for name in (*(c.name for c in feed.curated), *LINEAGE) if name not in rows.column_names]
    if absent:
        raise ConfigurationError(f"{feed.normalise} returns no column {absent}, which feed {feed.name} declares.")
    for column in feed.curated:
        found, declared = rows.schema.field(column.name).type, ARROW_TYPES[column.type]
        if found != declared and not (
            pa.types.is_null(found) or (pa.types.is_integer(found) and column.type == "int64")
        ):
            raise ConfigurationError(
                f"{feed.normalise} returns {column.name} as {found}; feed {feed.name} declares {column.type}: cast it."
            )
        rows = rows.set_column(rows.column_names.index(column.name), column.name, rows[column.name].cast(declared))
    rows = rows.sort_by(_LANDED_ORDER)
    given = landed.select(list(LINEAGE)).sort_by(_LANDED_ORDER)
    if not rows.select(list(LINEAGE)).equals(given):
        raise ConfigurationError(
            f"{feed.normalise} returned {rows.num_rows} rows for {landed.num_rows} landed ones; "
            "it has to return exactly one for each, with its landed_uri and landed_row."
        )
    extra = [n for n in rows.column_names if n not in {*(c.name for c in feed.curated), *LINEAGE}]
    return rows.select([*(column.name for column in feed.curated), *extra, *LINEAGE])


def _last_of_each_key(feed: Feed, rows: pa.Table) -> tuple[pa.ChunkedArray | None, pa.ChunkedArray]:
    """Masks over rows in landed order: those kept, and those replaced by one that says something else.

    The first is None if no key comes twice. A row without a complete key is nobody's duplicate.
    """
    key, said = list(feed.key), [column.name for column in feed.curated]
    numbered = rows.append_column("position", pa.array(range(rows.num_rows), pa.int64()))
    keyed = functools.reduce(pc.and_, (pc.is_valid(rows[name]) for name in key))
    of_key = numbered.filter(keyed).group_by(key).aggregate([("position", "max")])
    if of_key.num_rows == pc.sum(keyed).as_py():
        return None, keyed
    # Of equal rows the last stands for all of them, whether it is kept or replaced in its turn.
    of_equal = numbered.filter(keyed).group_by(said).aggregate([("position", "max")])
    kept = pc.or_(_is_in(numbered, of_key), pc.invert(keyed))
    return kept, pc.and_(_is_in(numbered, of_equal), pc.invert(kept))


def _is_in(numbered: pa.Table, chosen: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(numbered["position"], value_set=chosen["position_max"].combine_chunks())


def _is_among(landed: pa.Table, rows: pa.Table) -> pa.Array:
    wanted = set(zip(rows[LANDED_URI].to_pylist(), rows[LANDED_ROW].to_pylist(), strict=True))
    given = zip(landed[LANDED_URI].to_pylist(), landed[LANDED_ROW].to_pylist(), strict=True)
    return pa.array([place in wanted for place in given], pa.bool_())
