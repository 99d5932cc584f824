"""Contracts of a use case's SQL files: input tables and returned columns, checked by DuckDB against empty tables.

Empty tables have the declared columns and types, so names, types and syntax are checked without any data. Faults that
only rows show (repeated keys, lost rows) are checked by the steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from nightshift.core.checks.faults import Fault
from nightshift.core.features.feature_computation import (
    DELIVERED_ON,
    EVENT_TIMESTAMP,
    EVENT_TIMESTAMP_TYPE,
    PARTITION,
)
from nightshift.core.ingest.landed_table import ARROW_TYPES, landed_schema
from nightshift.core.ingest.quarantine import LANDED_ROW, LANDED_URI
from nightshift.declare.feeds import Column, Feed
from nightshift.declare.use_case import UseCase

SQL_NAMES: Mapping[pa.DataType, str] = {
    pa.string(): "varchar",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}


@dataclass(frozen=True)
class SqlContract:
    """One SQL file: `sees`, the tables it can read, and `returns`, the columns of its last statement.

    `exact`: no further columns are allowed. `excluded`: columns that it must not return, with the reason.
    """

    what: str
    file: Path
    sees: Mapping[str, pa.Schema]
    returns: Mapping[str, pa.DataType] = field(default_factory=dict)
    exact: bool = False
    excluded: Mapping[str, str] = field(default_factory=dict)


def normalise_contract(feed: Feed) -> SqlContract:
    """Contract of a feed's `normalise`: reads `landed`, returns the curated columns and any for the expectations."""
    lineage = {LANDED_URI: pa.string(), LANDED_ROW: pa.int64()}
    return SqlContract(
        what=f"the normalise SQL of feed {feed.name}",
        file=feed.normalise,
        sees={"landed": landed_schema(feed.landed)},
        returns=_types(feed.curated) | lineage,
    )


def feed_tables(feeds: Sequence[Feed]) -> dict[str, pa.Schema]:
    """Schemas of the tables of curated rows that all other SQL reads, by name."""
    delivered_on = pa.field(DELIVERED_ON, pa.date32())
    return {feed.name: landed_schema(feed.curated).append(delivered_on) for feed in feeds}


def prelude_contract(use_case: UseCase) -> SqlContract:
    """Contract of the prelude: reads one table per feed, creates tables for the feature tables, returns nothing."""
    return SqlContract("the prelude", use_case.features.prelude, feed_tables(use_case.feeds))


def feature_contracts(use_case: UseCase) -> list[SqlContract]:
    """Contracts of the feature tables: read the prelude's inputs and tables; return what is declared and no more."""
    return [
        SqlContract(
            what=f"the SQL of feature table {table.name}",
            file=table.sql,
            sees=feed_tables(use_case.feeds),
            returns=dict.fromkeys((*table.join_keys, *table.categorical), pa.string())
            | dict.fromkeys((*table.numeric, *table.monitored), pa.float64()),
            exact=True,
        )
        for table in use_case.features.tables
    ]


def spine_contracts(use_case: UseCase) -> list[SqlContract]:
    """Contracts of the spines: the training spine reads the label feeds, the scoring spine all feeds.

    Both return `prediction_moment`, where it is declared.
    """
    keys = {key for table in use_case.features.tables for key in table.join_keys}
    shared = _types(use_case.prediction_key) | dict.fromkeys(sorted(keys), pa.string()) | {PARTITION: pa.date32()}
    if use_case.prediction_moment:
        shared[use_case.prediction_moment] = EVENT_TIMESTAMP_TYPE
    features = {*use_case.features.numeric, *use_case.features.categorical} - {*keys, *use_case.key_columns}
    excluded = dict.fromkeys(sorted(features), "it is a feature, which is joined to the spine from its feature view")
    excluded |= {EVENT_TIMESTAMP: "it is added: the cutoff of each row's partition"}
    of_labels = [feed for feed in use_case.feeds if feed.name in use_case.label_feeds]
    return [
        SqlContract(
            "the training spine",
            use_case.training_spine,
            feed_tables(of_labels),
            shared | {use_case.label: pa.int64()},
            excluded=excluded,
        ),
        SqlContract(
            "the scoring spine",
            use_case.scoring_spine,
            feed_tables(use_case.feeds),
            shared | _types(use_case.prediction_extra),
            excluded=excluded,
        ),
    ]


def returned_columns(contract: SqlContract, use_case: UseCase) -> tuple[pa.Schema, list[Fault]]:
    """The schema that the SQL returns over empty tables, and every difference from the contract."""
    with _tables(contract.sees) as connection:
        return _bind(connection, contract, use_case)


def feature_faults(use_case: UseCase) -> list[Fault]:
    """Every fault of the prelude; if it has none, every fault of the feature tables."""
    prelude = prelude_contract(use_case)
    with _tables(prelude.sees) as connection:
        faults = _bind(connection, prelude, use_case)[1] if prelude.file.is_file() else []
        if faults or not prelude.file.is_file():
            return faults
        of_tables = [contract for contract in feature_contracts(use_case) if contract.file.is_file()]
        return [fault for contract in of_tables for fault in _bind(connection, contract, use_case)[1]]


def _types(columns: Sequence[Column]) -> dict[str, pa.DataType]:
    return {column.name: ARROW_TYPES[column.type] for column in columns}


@contextmanager
def _tables(schemas: Mapping[str, pa.Schema]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1, "python_enable_replacements": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, schema in schemas.items():
            connection.register("incoming", schema.empty_table())
            connection.execute(f'CREATE TABLE "{name}" AS FROM incoming')
            connection.unregister("incoming")
        yield connection


def _bind(
    connection: duckdb.DuckDBPyConnection, contract: SqlContract, use_case: UseCase
) -> tuple[pa.Schema, list[Fault]]:
    partition: date = use_case.first_partition
    values = use_case.sql_values(partition)
    text, position = contract.file.read_text(encoding="utf-8"), 0
    schema = pa.schema([])
    try:
        for statement in connection.extract_statements(text):
            position = max(text.find(statement.query, position), 0)
            bound = {name: value for name, value in values.items() if name in statement.named_parameters}
            schema = connection.execute(statement.query, bound or None).to_arrow_table().schema
            position += len(statement.query)
    except (duckdb.Error, KeyError) as error:
        return schema, [_does_not_run(contract, text[:position].count("\n"), str(error))]
    return schema, _differences(contract, text, schema)


def _does_not_run(contract: SqlContract, lines_before: int, message: str) -> Fault:
    at = re.search(r"LINE (\d+):", message)
    reason = " ".join(message.partition("\n\nLINE")[0].split())
    tables = _listed(contract.sees) + (" and those that the prelude creates" if contract.exact else "")
    advice = (
        f"It can read the tables {tables}, and $partition (date), $cutoff, $window_start and $window_end (timestamptz)."
    )
    if contract.what.startswith("the normalise"):
        advice = f"It can read one table, landed, with the columns {_listed(contract.sees['landed'].names)}."
    return Fault(
        "NS-USECASE-044",
        f"{contract.what} does not run: {reason.rstrip('.')}.",
        f"{advice} Correct the SQL, or the declaration of the column that it names.",
        str(contract.file),
        lines_before + int(at[1]) if at else None,
    )


def _differences(contract: SqlContract, text: str, schema: pa.Schema) -> list[Fault]:
    def at(name: str) -> tuple[str, int | None]:
        return str(contract.file), _last_line_with(text, name) or _last_line_with(text, "select")

    declared, names, sql = contract.returns, schema.names, contract.what
    faults = []
    for name in (name for name in dict.fromkeys(names) if names.count(name) > 1):
        what = f"{sql} returns several columns named {name}."
        faults.append(Fault("NS-USECASE-045", what, "Give each column a name of its own.", *at(name)))
    for name, column_type in declared.items():
        if name not in names:
            what = f"{sql} returns no column {name} ({SQL_NAMES[column_type]}); it returns {_listed(names)}."
            advice = f"Select it in the SQL under the name {name}, or change the declaration."
            faults.append(Fault("NS-USECASE-046", what, advice, *at(name)))
        elif names.count(name) == 1 and not _fits(schema.field(name).type, column_type, exact=contract.exact):
            what = f"{sql} returns {name} as {schema.field(name).type}, declared is {SQL_NAMES[column_type]}."
            advice = f"Cast it in the SQL, as {name}::{SQL_NAMES[column_type]}."
            faults.append(Fault("NS-USECASE-047", what, advice, *at(name)))
    for name in (name for name in dict.fromkeys(names) if name not in declared):
        if contract.exact:
            what = f"{sql} returns {name}, which is not declared."
            faults.append(Fault("NS-USECASE-048", what, "Take it out of the SQL, or declare it.", *at(name)))
        if name in contract.excluded:
            what = f"{sql} returns {name}: {contract.excluded[name]}."
            faults.append(Fault("NS-USECASE-049", what, "Take it out of the SQL.", *at(name)))
    return faults


def _fits(returned: Any, expected: Any, *, exact: bool) -> bool:
    """Whether a step accepts the column's type; without an exact contract other integer types are cast."""
    return bool(returned == expected or (not exact and pa.types.is_integer(returned) and pa.types.is_integer(expected)))


def _last_line_with(text: str, name: str) -> int | None:
    word = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
    lines = [n for n, line in enumerate(text.splitlines(), start=1) if word.search(line)]
    return lines[-1] if lines else None


def _listed(names: Any) -> str:
    return ", ".join(names) or "(none)"
