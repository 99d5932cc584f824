"""The review queue: predictions for a person to review, and the answers.

Every function works in the transaction of its `connection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from psycopg import sql
from psycopg.rows import dict_row

from nightshift.artifact import ArtifactRef
from nightshift.core.ingest.landed_table import ARROW_TYPES
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.io.warehouse import publications
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.copying import copy_rows
from nightshift.io.warehouse.schema import SQL_TYPES, Connection, column_list, table_name

TABLE = "review_queue"


@dataclass(frozen=True)
class Review:
    """A row of the queue. `key`: column -> value. `answer`: 0, 1 or None; then there is no `answered_by` either."""

    partition: date
    key: Mapping[str, object]
    score: float
    certainty: float | None
    out_of_domain: bool | None
    out_of_range: int | None
    reason: str
    answer: int | None
    answered_by: str | None
    answered_at: datetime | None
    answer_partition: date | None


def replace(connection: Connection, use_case: UseCase, partition: date, scores: ArtifactRef, rows: pa.Table) -> bool:
    """Replace the unanswered rows of a partition by `rows` (see core.monitoring.review_queue).

    Rows with an answer stay, with the score that it was given for. Returns False, having written nothing, if `scores`
    are not those that are published.
    """
    warehouse_schema.lock(connection, use_case.name, "publish", partition.isoformat())
    current = publications.current(connection, use_case, "partition", partition)
    if current is None or current.scores.sha256 != scores.sha256:
        return False
    table, staged = table_name(use_case, TABLE), sql.Identifier("pg_temp", "staged")
    columns = ["partition", *rows.column_names]
    names = {"table": table, "staged": staged, "columns": column_list(columns), "partition": sql.Literal(partition)}
    names["key"] = column_list(use_case.key_columns)
    connection.execute(
        sql.SQL("CREATE TEMP TABLE {staged} ON COMMIT DROP AS SELECT {columns} FROM {table} LIMIT 0").format(**names)
    )
    copy_rows(connection, staged, rows.append_column("partition", pa.array([partition] * len(rows), pa.date32())))
    connection.execute(sql.SQL("DELETE FROM {table} WHERE partition = {partition} AND answer IS NULL").format(**names))
    connection.execute(
        sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged} ON CONFLICT ({key}) DO NOTHING").format(
            **names
        )
    )
    return True


def queue(connection: Connection, use_case: UseCase, partition: date | None = None) -> list[Review]:
    """The rows without an answer, of one partition or all, the newest partition first, then in the order of review."""
    where = sql.SQL("partition = {}").format(sql.Literal(partition)) if partition else sql.SQL("true")
    order = sql.SQL("partition DESC, coalesce(out_of_domain, false) DESC, certainty, out_of_range DESC NULLS LAST, {}")
    return _reviews(
        connection, use_case, sql.SQL("answer IS NULL AND {}").format(where),
        order.format(column_list(use_case.key_columns)),
    )  # fmt: skip


def answer(
    connection: Connection, use_case: UseCase, key: Mapping[str, str], *, label: int, by: str, known_on: date
) -> Review:
    """Record the answer to one row of the queue (`key`: column -> value as text), replacing an earlier one.

    Raises ConfigurationError if the queue has no row of that key, or `known_on` is not after its partition.
    """
    where = sql.SQL(" AND ").join(
        sql.SQL("{} = {}::{}").format(
            sql.Identifier(column.name), sql.Literal(key[column.name]), sql.SQL(SQL_TYPES[column.type])
        )
        for column in use_case.prediction_key
    )
    found = _reviews(connection, use_case, where, sql.SQL("partition"))
    if not found:
        raise ConfigurationError(
            "NS-REVIEW-001",
            f"{use_case.name} has no row {' '.join(key.values())} in its review queue: "
            f"see `nightshift review list {use_case.name}`.",
        )
    if known_on <= found[0].partition:
        raise ConfigurationError(
            "NS-REVIEW-002",
            f"{use_case.name}: {' '.join(key.values())} was predicted by partition {found[0].partition}; an answer is "
            f"known from a later partition on, not from {known_on}.",
        )
    update = sql.SQL(
        "UPDATE {} SET answer = {}, answered_by = {}, answered_at = now(), answer_partition = {} WHERE {}"
    ).format(table_name(use_case, TABLE), sql.Literal(label), sql.Literal(by), sql.Literal(known_on), where)
    connection.execute(update)
    return _reviews(connection, use_case, where, sql.SQL("partition"))[0]


def answers(connection: Connection, use_case: UseCase, known_on: date) -> pa.Table:
    """The answers known from a partition on: the key, the label (int64 0 or 1) and `answered_by`, sorted by key."""
    key = use_case.key_columns
    query = sql.SQL("SELECT {key}, answer::bigint, answered_by FROM {table} WHERE answer_partition = %s ORDER BY {key}")
    rows = connection.execute(
        query.format(key=column_list(key), table=table_name(use_case, TABLE)), [known_on]
    ).fetchall()
    fields = [pa.field(column.name, ARROW_TYPES[column.type]) for column in use_case.prediction_key]
    schema = pa.schema([*fields, pa.field(use_case.label, pa.int64()), pa.field("answered_by", pa.string())])
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
    # The order of the database depends on its collation.
    return table.sort_by([(name, "ascending") for name in key])


def _reviews(connection: Connection, use_case: UseCase, where: sql.Composable, order: sql.Composable) -> list[Review]:
    key = use_case.key_columns
    query = sql.SQL("SELECT * FROM {} WHERE {} ORDER BY {}").format(table_name(use_case, TABLE), where, order)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
    return [
        Review(key={name: row[name] for name in key}, **{name: row[name] for name in row if name not in key})
        for row in rows
    ]
