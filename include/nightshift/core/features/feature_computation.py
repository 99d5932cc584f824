"""Feature tables and spines of one partition, computed in one pass by DuckDB from a use case's SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from nightshift.core.duckdb_session import duckdb_session
from nightshift.declare.features import FeatureSet
from nightshift.errors import FeatureContractError

EVENT_TIMESTAMP = "event_timestamp"
EVENT_TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")
PARTITION = "partition"


def compute_features(
    features: FeatureSet, feeds: Mapping[str, pa.Table], *, partition: date, cutoff: datetime
) -> dict[str, pa.Table]:
    """All feature tables of a partition, by view name.

    `feeds` holds one table per feed: curated columns plus `delivered_on` (date). Each result has
    the view's join keys and features as its SQL names and types them, and `event_timestamp`
    (timestamp[us, UTC], the cutoff), sorted by join keys. Raises FeatureContractError naming the
    SQL file if one does not run.
    """
    values = {"partition": partition, "cutoff": cutoff}
    with duckdb_session(**feeds) as connection:
        _run_file(connection, features.prelude, values)
        tables = {table.name: _run_file(connection, table.sql, values) for table in features.tables}
    return {
        table.name: _stamped(_sorted(tables[table.name], table.join_keys), [cutoff] * tables[table.name].num_rows)
        for table in features.tables
    }


def compute_spine(
    sql: Path,
    feeds: Mapping[str, pa.Table],
    *,
    partition: date,
    cutoff: Callable[[date], datetime],
    key: tuple[str, ...],
) -> pa.Table:
    """The rows of a spine: keys, join keys, `partition` (date32) and, for training, a label; one row per key.

    `cutoff` gives the cutoff (UTC) of a partition; each row's `event_timestamp` (timestamp[us,
    UTC]) is that of its own partition. Sorted by partition, then `key`. Raises
    FeatureContractError if the SQL does not run or returns two rows for one key.
    """
    with duckdb_session(**feeds) as connection:
        spine = _run_file(connection, sql, {"partition": partition, "cutoff": cutoff(partition)})
    repeated = spine.num_rows - spine.group_by(list(key)).aggregate([]).num_rows
    if repeated:
        raise FeatureContractError(
            "NS-FEATURE-006",
            f"{sql.name} returned {repeated} rows more than there are different {', '.join(key)} for {partition}. "
            f"Let the newest delivery win in the SQL.",
        )
    spine = _sorted(spine, (PARTITION, *key))
    stamps = {day: cutoff(day) for day in spine[PARTITION].unique().to_pylist()}
    return _stamped(spine, [stamps[day] for day in spine[PARTITION].to_pylist()])


def _stamped(table: pa.Table, stamps: list[datetime]) -> pa.Table:
    return table.append_column(EVENT_TIMESTAMP, pa.array(stamps, EVENT_TIMESTAMP_TYPE))


def _run_file(connection: duckdb.DuckDBPyConnection, path: Path, values: Mapping[str, object]) -> pa.Table:
    """Run the statements of a file, each with the values it names; return the rows of the last one."""
    result = pa.table({})
    try:
        for statement in connection.extract_statements(path.read_text(encoding="utf-8")):
            bound = {name: value for name, value in values.items() if name in statement.named_parameters}
            result = connection.execute(statement, bound or None).to_arrow_table()
    except duckdb.Error as error:
        reason = re.sub(r"\s*\n\s*", " ", str(error))
        raise FeatureContractError(
            "NS-FEATURE-007",
            f"{path.name} does not run on {values['partition']}: {reason} Correct {path} or the feed's declaration.",
        ) from error
    return result


def _sorted(table: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    return table.sort_by([(column, "ascending") for column in columns])
