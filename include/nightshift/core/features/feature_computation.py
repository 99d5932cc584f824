"""Feature tables and spines of one partition, computed in one pass by DuckDB from a use case's SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.duckdb_session import Rows, duckdb_session
from nightshift.core.parquet_file import BATCH_ROWS
from nightshift.declare.features import FeatureTable
from nightshift.declare.use_case import UseCase
from nightshift.errors import FeatureContractError

EVENT_TIMESTAMP = "event_timestamp"
EVENT_TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")
PARTITION = "partition"
DELIVERED_ON = "delivered_on"
"""The partition that delivered a row of a feed."""
EXAMPLES = 5


@dataclass(frozen=True)
class OpenFeatures:
    """All feature tables of a partition, in the session in which `run_features` computed them."""

    use_case: UseCase
    partition: date
    session: duckdb.DuckDBPyConnection

    def batches(self, table: FeatureTable) -> pa.RecordBatchReader:
        """The rows of a table, sorted by join keys, with `event_timestamp`. One reader at a time, as of a spine."""
        order = ", ".join(f'"{name}"' for name in table.join_keys)
        found = self.session.execute(f"FROM {_kept(table)} ORDER BY {order}").to_arrow_reader(BATCH_ROWS)
        schema = found.schema.append(pa.field(EVENT_TIMESTAMP, EVENT_TIMESTAMP_TYPE))
        cutoff = pa.scalar(self.use_case.cutoff(self.partition), EVENT_TIMESTAMP_TYPE)
        stamped = (
            pa.record_batch([*batch.columns, pa.repeat(cutoff, batch.num_rows)], schema=schema) for batch in found
        )
        return pa.RecordBatchReader.from_batches(schema, stamped)

    def column(self, table: FeatureTable, name: str) -> pa.Table:
        """One column of a table."""
        return self.session.execute(f'SELECT "{name}" FROM {_kept(table)}').to_arrow_table()  # noqa: S608 - declared


def run_features(session: duckdb.DuckDBPyConnection, use_case: UseCase, partition: date) -> OpenFeatures:
    """Compute all feature tables of a partition in a session whose tables are the feeds.

    A feed's table has its curated columns plus `delivered_on` (date). Raises FeatureContractError naming the SQL file
    if one does not run.
    """
    values = use_case.sql_values(partition)
    _run_file(session, use_case.features.prelude, values)
    for table in use_case.features.tables:
        _run_file(session, table.sql, values, keep_as=_kept(table))
    return OpenFeatures(use_case, partition, session)


def _kept(table: FeatureTable) -> str:
    # A name that no SQL of a use case has.
    return f'"feature table {table.name}"'


def compute_features(use_case: UseCase, feeds: Mapping[str, Rows], partition: date) -> dict[str, pa.Table]:
    """All feature tables of a partition, by view name, from the rows of each feed; see `run_features`.

    Each result has the view's join keys, features and monitored columns as its SQL names and types them, and
    `event_timestamp` (timestamp[us, UTC], the cutoff), sorted by join keys.
    """
    with duckdb_session(**feeds) as session:
        features = run_features(session, use_case, partition)
        return {table.name: features.batches(table).read_all() for table in use_case.features.tables}


def without_monitored(use_case: UseCase, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The feature tables of `compute_features` as feature views have them: without the monitored columns."""
    return {table.name: tables[table.name].drop_columns(list(table.monitored)) for table in use_case.features.tables}


@dataclass(frozen=True)
class OpenSpine:
    """The rows of a spine in a database that is dropped with the block it was opened in; see `compute_spine`."""

    use_case: UseCase
    session: duckdb.DuckDBPyConnection
    rows: int

    def batches(self, rows: int) -> pa.RecordBatchReader:
        """All rows, at most `rows` at a time. One reader at a time: another call ends the one before."""
        order = ", ".join(f'"{name}"' for name in (PARTITION, *self.use_case.key_columns))
        found = self.session.execute(f"FROM spine ORDER BY {order}").to_arrow_reader(rows)
        schema = found.schema.append(pa.field(EVENT_TIMESTAMP, EVENT_TIMESTAMP_TYPE))
        return pa.RecordBatchReader.from_batches(schema, (self._stamped(batch, schema) for batch in found))

    def _stamped(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        days = batch[PARTITION].dictionary_encode()
        cutoffs = pa.array([self.use_case.cutoff(day) for day in days.dictionary.to_pylist()], EVENT_TIMESTAMP_TYPE)
        return pa.record_batch([*batch.columns, cutoffs.take(days.indices)], schema=schema)


@contextmanager
def open_spine(use_case: UseCase, sql: Path, feeds: Mapping[str, Rows], partition: date) -> Iterator[OpenSpine]:
    """`compute_spine` for more rows than fit in memory, read in batches within the block. Raises the same."""
    key = ", ".join(f'"{name}"' for name in use_case.key_columns)
    with duckdb_session(**feeds) as session:
        _run_file(session, sql, use_case.sql_values(partition), keep_as="spine")
        groups = f"SELECT count(*) AS n FROM spine GROUP BY {key}"  # noqa: S608
        counted = f"SELECT coalesce(sum(n), 0), coalesce(sum(n - 1), 0) FROM ({groups})"  # noqa: S608
        ((rows, repeated),) = session.execute(counted).fetchall()
        if repeated:
            raise FeatureContractError(
                "NS-FEATURE-006",
                f"{sql.name} returned {repeated} rows more than there are different "
                f"{', '.join(use_case.key_columns)} for {partition}. Let the newest delivery win in the SQL.",
            )
        yield OpenSpine(use_case, session, int(rows))


def compute_spine(
    use_case: UseCase, sql: Path, feeds: Mapping[str, pa.Table | pa.RecordBatchReader], partition: date
) -> pa.Table:
    """The rows of a spine: keys, join keys, `partition` (date32) and, for training, a label; one row per key.

    Each row's `event_timestamp` (timestamp[us, UTC]) is the cutoff of its own partition. Sorted by partition, then
    key. Raises FeatureContractError if the SQL does not run or returns two rows for one key.
    """
    with open_spine(use_case, sql, feeds, partition) as spine:
        return spine.batches(max(spine.rows, 1)).read_all()


def check_days(use_case: UseCase, sql: Path, spine: pa.Table) -> None:
    """Raise FeatureContractError if a row is for another day than its partition predicts, which is the next one."""
    day = use_case.prediction_date
    ahead = pc.subtract(*(pc.cast(pc.cast(spine[name], pa.date32()), pa.int32()) for name in (day, PARTITION)))
    wrong = spine.filter(pc.fill_null(pc.not_equal(ahead, 1), True))
    if wrong.num_rows:
        pairs = zip(wrong[day][:EXAMPLES].to_pylist(), wrong[PARTITION][:EXAMPLES].to_pylist(), strict=True)
        examples = ", ".join(f"{one} of partition {partition}" for one, partition in pairs)
        raise FeatureContractError(
            "NS-FEATURE-020",
            f"{sql.name} returned {wrong.num_rows} rows whose {day} is not the day after their partition, which it "
            f"predicts, e.g. {examples}. Correct {day} or {PARTITION} in {sql}.",
        )


def check_moments(use_case: UseCase, sql: Path, spine: pa.Table, partition: date) -> None:
    """Raise FeatureContractError if a row's `prediction_moment`, where it is declared, is not in the window."""
    if not (name := use_case.prediction_moment):
        return
    start, end = use_case.prediction_window(partition)
    moments = spine[name].cast(EVENT_TIMESTAMP_TYPE)
    bounds = (pa.scalar(one, EVENT_TIMESTAMP_TYPE) for one in (start, end))
    inside = pc.and_(pc.greater_equal(moments, next(bounds)), pc.less(moments, next(bounds)))
    outside = moments.filter(pc.invert(pc.fill_null(inside, False)))
    if len(outside):
        examples = ", ".join(map(str, outside[:EXAMPLES].to_pylist()))
        raise FeatureContractError(
            "NS-FEATURE-021",
            f"{sql.name} returned {len(outside)} of {spine.num_rows} rows of partition {partition} whose {name} is "
            f"not in its window, from {start} to before {end}, e.g. {examples}. "
            f"Compare {name} with $window_start and $window_end in {sql}.",
        )


def _run_file(
    connection: duckdb.DuckDBPyConnection, path: Path, values: Mapping[str, object], *, keep_as: str = ""
) -> pa.Table:
    """Run the statements of a file, each with the values it names; return the rows of the last one.

    With `keep_as`, they are kept as the rows of a table of that name instead.
    """
    result = pa.table({})
    try:
        statements = connection.extract_statements(path.read_text(encoding="utf-8"))
        for number, statement in enumerate(statements, start=1):
            bound = {name: value for name, value in values.items() if name in statement.named_parameters}
            if keep_as and number == len(statements):
                connection.execute(f"CREATE TABLE {keep_as} AS {statement.query}", bound or None)
            else:
                result = connection.execute(statement, bound or None).to_arrow_table()
    except duckdb.Error as error:
        reason = re.sub(r"\s*\n\s*", " ", str(error))
        raise FeatureContractError(
            "NS-FEATURE-007",
            f"{path.name} does not run on {values['partition']}: {reason} Correct {path} or the feed's declaration.",
        ) from error
    return result
