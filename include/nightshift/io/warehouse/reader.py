"""Reads the warehouse of a use case for pages: one connection that cannot write, and gives up early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

from psycopg import errors, sql
from psycopg.rows import class_row, dict_row

from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.io.warehouse import deployments
from nightshift.io.warehouse.schema import SQL_TYPES, Connection, column_list, connect, exists, table_name
from nightshift.settings import Settings

if TYPE_CHECKING:
    from nightshift.io.warehouse.publications import Prediction

R = TypeVar("R")

TABLES = (
    "publications",
    "predictions",
    "outcomes",
    "deployments",
    "gate_results",
    "backtests",
    "performance_daily",
    "drift_daily",
    "pipeline_daily",
    "rules_daily",
    "review_queue",
)
STATEMENT_TIMEOUT = "SET statement_timeout = '15s'"


class Reader:
    """Queries name tables as {publications}, and {score}, {label}, {prediction_date} and {key} (columns)."""

    def __init__(self, connection: Connection, use_case: UseCase) -> None:
        self.use_case = use_case
        self._connection = connection
        self._names: dict[str, sql.Composable] = {name: table_name(use_case, name) for name in TABLES}
        self._names |= {name: sql.Identifier(getattr(use_case, name)) for name in ("score", "label", "prediction_date")}
        self._names["key"] = column_list(use_case.key_columns)

    def of(self, use_case: UseCase) -> Reader:
        """A reader of another use case on the same connection."""
        return Reader(self._connection, use_case)

    def rows(self, query: LiteralString, *parameters: object) -> list[dict[str, Any]]:
        """The rows of a query, each a dict by column."""
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(sql.SQL(query).format(**self._names), parameters).fetchall()

    def values(self, kind: type[R], query: LiteralString, *parameters: object) -> list[R]:
        """The rows of a query, each a value of a class with a field for each column."""
        with self._connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(sql.SQL(query).format(**self._names), parameters).fetchall()

    def has(self, table: str) -> bool:
        """Whether the use case has that table."""
        return exists(self._connection, table_name(self.use_case, table))

    def decisions(self) -> list[Deployment]:
        """All decisions about models, in the order they were recorded."""
        return deployments.decisions(self._connection, self.use_case)

    def prediction(self, key: Mapping[str, str]) -> Prediction | None:
        """The prediction with that key (column -> value as text), or None; also if a value is not of its type."""
        # Its import takes longer than any page without a prediction.
        from nightshift.io.warehouse import publications

        try:
            return publications.find_prediction(self._connection, self.use_case, key)
        except errors.DataError:
            self._connection.rollback()
            return None

    def outcome(self, key: Mapping[str, str]) -> int | None:
        """The label of the row with that key, or None while it is not known."""
        conditions = sql.SQL(" AND ").join(
            sql.SQL("{} = %s::{}").format(sql.Identifier(column.name), sql.SQL(SQL_TYPES[column.type]))
            for column in self.use_case.prediction_key
        )
        query = sql.SQL("SELECT {label} FROM {outcomes} WHERE ").format(**self._names) + conditions
        found = self._connection.execute(query, [key[name] for name in self.use_case.key_columns]).fetchone()
        return None if found is None else int(found[0])


@contextmanager
def reading(settings: Settings, use_case: UseCase) -> Iterator[Reader]:
    """A reader with a connection of its own. Raises WarehouseUnavailable and ConfigurationError as `connect` does."""
    with connect(settings) as connection:
        connection.read_only = True
        connection.execute(STATEMENT_TIMEOUT)
        yield Reader(connection, use_case)
