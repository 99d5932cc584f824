"""Curated rows from landed rows: the feed's SQL, then one row per key.

If a delivery holds a key more than once, the last row is used: of the later file by name, and
in that file the later row. A producer corrects rows by adding a file. Rows equal in every
curated value are exact duplicates and are dropped; other rows of the key are quarantined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.duckdb_session import duckdb_session
from nightshift.core.ingest.landed_table import ARROW_TYPES, STEP
from nightshift.core.ingest.quarantine import LANDED_URI, LINEAGE, QUARANTINE, set_aside
from nightshift.core.ingest.representable import representable
from nightshift.core.ingest.spool import Spool
from nightshift.core.parquet_file import BATCH_ROWS, write_parquet
from nightshift.declare.feeds import Feed
from nightshift.errors import ConfigurationError

SUPERSEDED = "another row with this key was delivered later"


@dataclass(frozen=True)
class CuratedTable:
    """`file`, with `rows` rows: curated columns, columns for expectations only, landed_uri and landed_row, in landed
    order. `quarantine`: the rows that a later row with the same key replaced. `exact_duplicates`: number of dropped
    rows that are equal to another one."""

    file: Path
    rows: int
    quarantine: Spool
    exact_duplicates: int


def curate(feed: Feed, landed: Sequence[Spool], folder: Path) -> CuratedTable:
    """Apply the feed's `normalise` SQL to the landed rows, given in landed order, then keep one row per key.

    The folder is for the result, a Parquet file, and what is needed on the way. Columns that the SQL returns beyond
    `curated` are kept for the expectations; publishing drops them. Dates outside the years 1 to 9999 become null.
    Raises ConfigurationError if the SQL does not run, loses or adds rows, or lacks a declared column or its type.
    """
    file = folder / f"{feed.name}.parquet"
    kept = np.ones(sum(spool.rows for spool in landed), bool)
    with _normalised(feed, landed, kept, folder) as rows:
        kept, quarantine = _last_of_each_key(feed, rows, len(kept), folder)
        if kept.all():
            return CuratedTable(file, rows.write(file), quarantine, 0)
    # Repeated without the other rows, because the SQL may compare a row with its neighbours.
    with _normalised(feed, landed, kept, folder) as rows:
        count = rows.write(file)
    return CuratedTable(file, count, quarantine, len(kept) - count - quarantine.rows)


def published_columns(feed: Feed, rows: pa.Table) -> pa.Table:
    """The rows with the published columns only: the curated columns, landed_uri and landed_row."""
    return rows.select([*(column.name for column in feed.curated), *LINEAGE])


@dataclass(frozen=True)
class _Normalised:
    """What the SQL returned, in landed order: the table `ordered` of a session.

    Its columns have names of their own, because a feed's may be called like one of a query; instead of a uri it has
    the number of the uri. `rowid` is the position in landed order.
    """

    session: duckdb.DuckDBPyConnection
    schema: pa.Schema
    uris: pa.Array

    def names(self, columns: Iterable[str]) -> list[str]:
        return [f"column_{self.schema.names.index(name)}" for name in columns]

    def batches(self, query: str = "FROM ordered") -> Iterator[pa.Table]:
        """Rows that a query returns with all columns of `ordered`, under the names and types of the schema."""
        at = self.schema.names.index(LANDED_URI)
        for batch in self.session.execute(query).to_arrow_reader(BATCH_ROWS):
            columns = [*batch.columns]
            columns[at] = self.uris.take(columns[at])
            yield pa.table(columns, names=self.schema.names).cast(self.schema)

    def write(self, file: Path) -> int:
        return write_parquet(file, self.schema, self.batches())


@contextmanager
def _normalised(
    feed: Feed, landed: Sequence[Spool], kept: npt.NDArray[np.bool_], folder: Path
) -> Iterator[_Normalised]:
    """What the SQL returns for the landed rows that are kept. Raises ConfigurationError."""
    uris: dict[str, None] = {}
    returned = _returned(feed, _reader(landed, kept, landed[0].schema.names, uris), folder)
    numbers = pa.array(list(uris), pa.string())
    expected = _numbered(_reader(landed, kept, LINEAGE), numbers)
    with duckdb_session(expected=expected) as session:
        rows = _Normalised(session, returned.schema, numbers)
        uri, row = (f"ordered.{name}" for name in rows.names(LINEAGE))
        session.register("incoming", _numbered(returned.reader(), numbers))
        session.execute(f"CREATE TABLE ordered AS FROM incoming ORDER BY {', '.join(rows.names(LINEAGE))}")
        session.unregister("incoming")
        types = [returned.schema.field(name).type for name in LINEAGE]
        differing = (
            "SELECT count(*) FROM expected POSITIONAL JOIN ordered "  # noqa: S608 - the names above
            f"WHERE expected.column_0 IS DISTINCT FROM {uri} OR expected.column_1 IS DISTINCT FROM {row}"
        )
        if types != [pa.string(), pa.int64()] or session.execute(differing).fetchone() != (0,):
            raise ConfigurationError(
                "NS-CURATE-004",
                f"{feed.normalise} returned {returned.rows} rows for {kept.sum()} landed ones; "
                "it has to return exactly one for each, with its landed_uri and landed_row.",
            )
        yield rows


def _reader(
    landed: Sequence[Spool], kept: npt.NDArray[np.bool_], columns: Sequence[str], uris: dict[str, None] | None = None
) -> pa.RecordBatchReader:
    """Columns of the landed rows that are kept; their uris are added to `uris`, in order."""
    schema = pa.schema([landed[0].schema.field(name) for name in columns])

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in (batch for spool in landed for batch in spool.batches(columns)):
            mask = kept[start : start + len(batch)]
            start += len(batch)
            rows = batch if mask.all() else batch.filter(pa.array(mask))
            if uris is not None:
                uris.update(dict.fromkeys(rows[LANDED_URI].unique().to_pylist()))
            yield rows

    return pa.RecordBatchReader.from_batches(schema, batches())


def _numbered(reader: pa.RecordBatchReader, uris: pa.Array) -> pa.RecordBatchReader:
    """The same rows, with numbers for names of columns and for uris; null for another uri."""
    at = reader.schema.names.index(LANDED_URI)
    names = [f"column_{n}" for n in range(len(reader.schema))]
    types = [*reader.schema.types]
    is_text = pa.types.is_string(types[at])
    types[at] = pa.int32()

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            columns = [*batch.columns]
            columns[at] = pc.index_in(columns[at], value_set=uris) if is_text else pa.nulls(len(batch), pa.int32())
            yield pa.RecordBatch.from_arrays(columns, names)

    return pa.RecordBatchReader.from_batches(pa.schema(list(zip(names, types, strict=True))), batches())


def _returned(feed: Feed, landed: pa.RecordBatchReader, folder: Path) -> Spool:
    """What the SQL returns, in its order, with the declared types. Raises ConfigurationError."""
    declared = {column.name: ARROW_TYPES[column.type] for column in feed.curated}
    with duckdb_session(landed=landed) as session:
        batches = _query(feed, session)
        try:
            schema = _checked_schema(feed, next(batches).schema)
        except ConfigurationError:
            # SQL that does not run to its end is the first fault.
            for _ in batches:
                pass
            raise
        with Spool(folder, schema) as spool:
            for batch in batches:
                rows = pa.table(batch)
                columns = [rows[name].cast(declared[name]) if name in declared else rows[name] for name in schema.names]
                # Arithmetic on a delivered year or hour may lead beyond the dates that Python has.
                spool.write(pa.table([representable(values) for values in columns], names=schema.names).cast(schema))
    return spool


def _query(feed: Feed, session: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """The result of the feed's SQL, after an empty batch with its schema. Raises ConfigurationError."""
    try:
        reader = session.execute(feed.normalise.read_text(encoding="utf-8")).to_arrow_reader(BATCH_ROWS)
        yield pa.RecordBatch.from_pylist([], reader.schema)
        yield from reader
    # OSError: an error of DuckDB after its first rows.
    except (duckdb.Error, OSError) as error:
        reason = re.sub(r"\s*\n\s*", " ", str(error))
        raise ConfigurationError(
            "NS-CURATE-001", f"{feed.normalise} does not run: {reason}. Correct the SQL of feed {feed.name}."
        ) from error


def _checked_schema(feed: Feed, schema: pa.Schema) -> pa.Schema:
    """The schema of curated rows, given that of the SQL's result: declared columns, others, lineage.

    Raises ConfigurationError if a declared column is missing or has another type.
    """
    declared = {column.name: column.type for column in feed.curated}
    absent = [name for name in (*declared, *LINEAGE) if name not in schema.names]
    if absent:
        raise ConfigurationError(
            "NS-CURATE-002", f"{feed.normalise} returns no column {absent}, which feed {feed.name} declares."
        )
    for name, kind in declared.items():
        actual = schema.field(name).type
        if actual != ARROW_TYPES[kind] and not (
            pa.types.is_null(actual) or (pa.types.is_integer(actual) and kind == "int64")
        ):
            raise ConfigurationError(
                "NS-CURATE-003",
                f"{feed.normalise} returns {name} as {actual}; feed {feed.name} declares {kind}: cast it.",
            )
    extra = [field for field in schema if field.name not in {*declared, *LINEAGE}]
    return pa.schema(
        [
            *(pa.field(name, ARROW_TYPES[kind]) for name, kind in declared.items()),
            *(pa.field(field.name, _plain(field.type)) for field in extra),
            *(schema.field(name) for name in LINEAGE),
        ]
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    # DuckDB returns an ENUM as a dictionary, and reads it as text.
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _last_of_each_key(feed: Feed, rows: _Normalised, count: int, folder: Path) -> tuple[npt.NDArray[np.bool_], Spool]:
    """Whether a row is kept [n], and as QUARANTINE those that one with other values replaces.

    Rows with a null in the key are kept: they are never duplicates.
    """
    key, curated = rows.names(feed.key), rows.names(column.name for column in feed.curated)
    rows.session.execute(
        f"CREATE TABLE repeated AS SELECT {', '.join(key)}, max(rowid) AS last FROM ordered "  # noqa: S608
        f"WHERE {' AND '.join(f'{name} IS NOT NULL' for name in key)} GROUP BY {', '.join(key)} HAVING count(*) > 1"
    )
    # Of equal rows the last one represents all of them, whether it is kept or replaced.
    rows.session.execute(
        "CREATE TABLE dropped AS SELECT position, is_last FROM (SELECT ordered.rowid AS position, last, "  # noqa: S608
        f"position = max(position) OVER (PARTITION BY {', '.join(curated)}) AS is_last "
        f"FROM ordered JOIN repeated USING ({', '.join(key)})) WHERE position < last"
    )
    kept = np.ones(count, bool)
    for batch in rows.session.execute("SELECT position FROM dropped").to_arrow_reader(BATCH_ROWS):
        kept[batch.column(0).to_numpy()] = False
    replaced = "SELECT ordered.* FROM ordered JOIN dropped ON ordered.rowid = position WHERE is_last ORDER BY position"
    with Spool(folder, QUARANTINE) as quarantine:
        for table in rows.batches(replaced):
            quarantine.write(set_aside(table, [[SUPERSEDED]] * len(table), step=STEP))
    return kept, quarantine
