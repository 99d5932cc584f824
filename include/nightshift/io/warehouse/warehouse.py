"""The warehouse of a use case: predictions, their publications, decisions about models, outcomes and performance.

PostgreSQL, one schema per use case. Each write replaces its rows in one transaction: readers see either the old or
the new rows, and are not blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from types import EllipsisType
from typing import Literal

import pyarrow as pa
from psycopg import sql

from nightshift.artifact import ArtifactRef
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.ingest.landed_table import ARROW_TYPES
from nightshift.core.lifecycle.state import State, state_as_of
from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.deployment import VERSION_ACTIONS, Deployment, GateResult
from nightshift.io.warehouse import alerts, deployments, publications, reviews
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.copying import copy_rows
from nightshift.io.warehouse.publications import Prediction, Publication
from nightshift.io.warehouse.reviews import Review
from nightshift.io.warehouse.schema import Connection, column_list, table_name
from nightshift.settings import Settings

TRAINING = ("register", "record_failure")
NEVER = sql.SQL("false")

PERFORMANCE_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.date32()),
        pa.field("prediction_date", pa.date32()),
        pa.field("role", pa.string()),
        pa.field("spec_id", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("slice_column", pa.string()),
        pa.field("slice_value", pa.string()),
        pa.field("known_on", pa.date32()),
        pa.field("rows", pa.int64()),
        pa.field("predictions", pa.int64()),
        pa.field("auc", pa.float64()),
        pa.field("log_loss", pa.float64()),
        pa.field("expected_log_loss", pa.float64()),
        pa.field("brier", pa.float64()),
        pa.field("mean_score", pa.float64()),
        pa.field("label_rate", pa.float64()),
    ]
)
"""Columns of performance_daily."""


class Warehouse:
    """The warehouse of one use case. Its schema is migrated at first use.

    Every method opens its own connection and raises WarehouseUnavailable (transient) or
    ConfigurationError, both naming the host.
    """

    def __init__(self, settings: Settings, use_case: UseCase) -> None:
        self._settings = settings
        self._use_case = use_case
        self._migrated = False

    def migrate(self) -> list[str]:
        """Apply pending migrations; returns their names. See `warehouse_schema.migrate`."""
        applied = warehouse_schema.migrate(self._settings, self._use_case)
        self._migrated = True
        return applied

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the migrated schema: one transaction, committed at the end of the block."""
        if not self._migrated:
            self.migrate()
        with warehouse_schema.connect(self._settings) as connection:
            yield connection

    def table(self, name: str) -> sql.Identifier:
        """The qualified name of a table of this use case."""
        return table_name(self._use_case, name)

    # Predictions

    def publish_predictions(
        self,
        publication: Publication,
        predictions: pa.Table | pa.RecordBatchReader,
        *,
        check: Callable[[], None] | None = None,
    ) -> bool:
        """Replace the predictions of a partition in one transaction.

        `predictions`, read batch by batch, has the use case's key and extra columns, its score (float64) and
        `decision` (bool), all of one `prediction_date`; `model_version` (string): the publication's, or a canary's;
        and, unless they are missing, the columns of core.inference.certainty.
        `check` is called while no other publication of the partition is possible; what it raises ends this one.
        Returns False, having written nothing, if the same publication is current. Raises
        AuditFailed if the rows counted in the warehouse differ from those sent, or scores are not probabilities,
        or if the kill switch is on for the partition and any row was scored by another version than the fallback's; and
        ConfigurationError if another partition's predictions cover the same day.
        """
        with self.connection() as connection:
            publications.create_month(connection, self._use_case, publication.prediction_date)
        with self.connection() as connection:
            return publications.publish(connection, self._use_case, publication, predictions, check)

    def latest_publication(self) -> Publication | None:
        """The current publication of the newest partition that is published, or None."""
        with self.connection() as connection:
            return publications.current(connection, self._use_case)

    def newest_published(self, by: datetime) -> date | None:
        """The newest partition that was published by then, or None."""
        with self.connection() as connection:
            return publications.newest_published(connection, self._use_case, by)

    def publications(self, first: date, last: date) -> list[Publication]:
        """The current publications of the partitions first to last, the oldest first."""
        with self.connection() as connection:
            return publications.all_current(connection, self._use_case, first, last)

    def publication_of(self, prediction_date: date) -> Publication | None:
        """The current publication of the predictions for a day, or None."""
        with self.connection() as connection:
            return publications.current(connection, self._use_case, "prediction_date", prediction_date)

    def prediction(self, key: Mapping[str, str]) -> Prediction | None:
        """The prediction with that key (column -> value as text), or None."""
        with self.connection() as connection:
            return publications.find_prediction(connection, self._use_case, key)

    def artifact_names(self) -> str:
        """All rows of publications and deployments as JSON, in which uris of artifacts can be found."""
        query = sql.SQL(
            "SELECT coalesce(string_agg(row, chr(10)), '') FROM ("
            "SELECT to_jsonb(p)::text AS row FROM {} AS p UNION ALL SELECT to_jsonb(d)::text FROM {} AS d) AS rows"
        ).format(self.table("publications"), self.table("deployments"))
        with self.connection() as connection:
            (text,) = connection.execute(query).fetchall()[0]
        return str(text)

    # Reviews

    def queue_reviews(self, partition: date, scores: ArtifactRef, rows: pa.Table) -> bool:
        """Replace the unanswered rows of a partition in the review queue; see `reviews.replace`."""
        with self.connection() as connection:
            return reviews.replace(connection, self._use_case, partition, scores, rows)

    def review_queue(self, partition: date | None = None) -> list[Review]:
        """The rows of the review queue without an answer, of a partition or all."""
        with self.connection() as connection:
            return reviews.queue(connection, self._use_case, partition)

    def answer_review(self, key: Mapping[str, str], *, label: int, by: str, known_on: date) -> Review:
        """Record the answer to a row of the review queue; see `reviews.answer`."""
        with self.connection() as connection:
            return reviews.answer(connection, self._use_case, key, label=label, by=by, known_on=known_on)

    def review_answers(self, known_on: date) -> pa.Table:
        """The answers known from a partition on; see `reviews.answers`."""
        with self.connection() as connection:
            return reviews.answers(connection, self._use_case, known_on)

    # Decisions about models

    def decisions(self) -> list[Deployment]:
        """All decisions about models, in the order they were recorded."""
        with self.connection() as connection:
            return deployments.decisions(connection, self._use_case)

    def spec_decisions(self) -> list[Deployment]:
        """The decisions about specs, without those about versions: every training adds some of these."""
        with self.connection() as connection:
            return deployments.decisions(connection, self._use_case, without=VERSION_ACTIONS)

    def state_as_of(self, partition: date) -> State:
        """Which specs and versions serve a partition. See core.lifecycle.state."""
        return state_as_of(self.decisions(), partition)

    def training_decided(self, partition: date) -> bool:
        """Whether the training of a partition was decided: registered, rejected or failed."""
        return any(decision.partition == partition and decision.decided_by in TRAINING for decision in self.decisions())

    def record_deployment(self, deployment: Deployment, *, expected_champion: str | EllipsisType | None = ...) -> bool:
        """Append one decision; see `record_deployments`."""
        return self.record_deployments([deployment], expected_champion=expected_champion)

    def record_deployments(
        self, new: Sequence[Deployment], *, expected_champion: str | EllipsisType | None = ...
    ) -> bool:
        """Append decisions of one step for one partition, all or none.

        Returns False, having written nothing, if these are the last ones that the step recorded for
        the partition (by hand: the last ones of the partition at all). With `expected_champion`
        (a spec id, or None for no champion), raises ChampionChanged, having written nothing, unless
        that is the champion after the partition by all decisions but this step's own. The comparison
        and the append are one transaction: of two concurrent decisions that expect the same champion, one fails.
        Decisions that people have to know (core.monitoring.alerts.DECISIONS) are recorded with an alert.
        """
        with self.connection() as connection:
            return deployments.record(connection, self._use_case, new, expected_champion)

    # Gates, shadows and monitoring

    def record_gates(
        self, partition: date, model_version: str, results: Sequence[GateResult], candidate: str = ""
    ) -> None:
        """Record the gate results of a candidate; equal results are not written again."""
        query = sql.SQL(
            "INSERT INTO {} AS known (partition, model_version, candidate, gate, verdict, observed, bound, reason) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (partition, model_version, candidate, gate) DO UPDATE SET "
            "verdict = excluded.verdict, observed = excluded.observed, bound = excluded.bound, "
            "reason = excluded.reason, recorded_at = now() "
            "WHERE (known.verdict, known.observed, known.bound, known.reason) IS DISTINCT FROM "
            "(excluded.verdict, excluded.observed, excluded.bound, excluded.reason)"
        ).format(self.table("gate_results"))
        rows = [
            [partition, model_version, candidate, r.gate, r.verdict, r.observed, r.bound, r.reason] for r in results
        ]
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(query, rows)

    def replace_partition(
        self,
        table: Literal["shadow_predictions", "drift_daily", "pipeline_daily", "feeds_daily", "rules_daily"],
        partition: date,
        rows: pa.Table | pa.RecordBatchReader,
        *,
        alert: Alert | None = None,
    ) -> bool:
        """Replace the rows of a partition; `rows` has every column but `partition`. Record the alert with them.

        Returns False, having written nothing, if the table has these rows already.
        """
        return self._replace(table, "partition", partition, rows, alert=alert)

    def record_performance(self, prediction_date: date, rows: pa.Table, *, as_of: date) -> bool:
        """Replace the performance_daily rows of a day by those of the labels known by the partition `as_of`.

        `rows` has every column but `prediction_date`; none if no label is known any more. Returns False, having written
        nothing, if it has these rows already, or if labels of a partition after `as_of` (`known_on`) are in them: a
        late run must not undo a correction.
        """
        known_later = sql.SQL("known_on > {}").format(sql.Literal(as_of))
        return self._replace("performance_daily", "prediction_date", prediction_date, rows, keep_if=known_later)

    def record_alert(self, *recorded: Alert) -> None:
        """Record alerts, all or none, except those whose partition has one with that cause."""
        with self.connection() as connection:
            for alert in recorded:
                alerts.record(connection, self._use_case, alert)

    def _replace(
        self,
        name: str,
        column: str,
        day: date,
        rows: pa.Table | pa.RecordBatchReader,
        *,
        keep_if: sql.Composable = NEVER,
        alert: Alert | None = None,
    ) -> bool:
        """Replace the rows of a day, unless they are equal or `keep_if` holds for one of the present rows."""
        table, staged = self.table(name), sql.Identifier("pg_temp", "staged")
        of_day = sql.SQL("FROM {} WHERE {} = {}").format(table, sql.Identifier(column), sql.Literal(day))
        parts = {"of_day": of_day, "staged": staged, "table": table, "keep_if": keep_if}
        parts |= {"column": sql.Identifier(column), "day": sql.Literal(day)}
        with self.connection() as connection:
            warehouse_schema.lock(connection, self._use_case.name, name, day.isoformat())
            create = "CREATE TEMP TABLE {staged} (LIKE {table}) ON COMMIT DROP"
            connection.execute(sql.SQL(create).format(**parts))
            # Equal in every row: cheaper as a default than as a column of the copy.
            default = "ALTER TABLE {staged} ALTER {column} SET DEFAULT {day}"
            connection.execute(sql.SQL(default).format(**parts))
            copy_rows(connection, staged, rows)
            differs = sql.SQL(
                "SELECT EXISTS ((SELECT * {of_day} EXCEPT SELECT * FROM {staged}) UNION ALL "
                "(SELECT * FROM {staged} EXCEPT SELECT * {of_day})) "
                "AND NOT EXISTS (SELECT {of_day} AND {keep_if})"
            ).format(**parts)
            if connection.execute(differs).fetchone() == (False,):
                return False
            connection.execute(sql.SQL("DELETE {of_day}").format(**parts))
            connection.execute(sql.SQL("INSERT INTO {table} SELECT * FROM {staged}").format(**parts))
            if alert is not None:
                alerts.record(connection, self._use_case, alert)
        return True

    def performance(self, first: date, last: date, role: str) -> pa.Table:
        """The rows of performance_daily in a role, of the partitions first to last, slices included, oldest first.

        Those whose labels were known by the partition `last`.
        """
        names = PERFORMANCE_SCHEMA.names
        query = sql.SQL(
            "SELECT {} FROM {} WHERE partition BETWEEN %s AND %s AND known_on <= %s AND role = %s "
            "ORDER BY partition, slice_column, slice_value, model_version"
        ).format(column_list(names), self.table("performance_daily"))
        with self.connection() as connection:
            rows = connection.execute(query, [first, last, last, role]).fetchall()
        return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=PERFORMANCE_SCHEMA)

    def drifts_since(self, partition: date, days: int) -> dict[tuple[str, str, str], date]:
        """Drift, source and column of what had drifted in the `days` partitions before one, and since when."""
        query = sql.SQL(
            "SELECT drift, source, column_name, max(since) FROM {} "
            "WHERE drifted AND partition < %s AND partition >= %s GROUP BY 1, 2, 3"
        ).format(self.table("drift_daily"))
        with self.connection() as connection:
            rows = connection.execute(query, [partition, partition - timedelta(days=days)]).fetchall()
        return {(drift, source, column): since for drift, source, column, since in rows}

    def record_backtest(self, backtest_id: str, losses: pa.Table) -> None:
        """Record the losses of a backtest, unless they are recorded already.

        `losses`: the columns of `backtests` but `backtest_id`; see core.backtest_figures.LOSSES_SCHEMA.
        """
        table = self.table("backtests")
        query = sql.SQL("SELECT 1 FROM {} WHERE backtest_id = %s LIMIT 1").format(table)
        with self.connection() as connection:
            warehouse_schema.lock(connection, self._use_case.name, "backtests")
            if connection.execute(query, [backtest_id]).fetchone() is None:
                copy_rows(connection, table, losses.append_column("backtest_id", pa.array([backtest_id] * len(losses))))

    def outcome_days(self, partitions: Sequence[date]) -> list[date]:
        """The prediction days of outcomes that are recorded as delivered last with these partitions, ascending."""
        day = sql.Identifier(self._use_case.prediction_date)
        query = sql.SQL("SELECT DISTINCT {} FROM {} WHERE partition = ANY(%s) ORDER BY 1")
        with self.connection() as connection:
            rows = connection.execute(query.format(day, self.table("outcomes")), [list(partitions)]).fetchall()
        return [one for (one,) in rows]

    def record_outcomes(self, partition: date, days: Sequence[date], outcomes: pa.Table) -> None:
        """Replace the outcomes of some prediction days by those known by a partition.

        `outcomes`: the key columns, the label (integer 0 or 1) and `known_on` (date32: the partition that delivered
        it last). Outcomes that a later partition delivered are kept; others that are not in `outcomes` were withdrawn
        and are removed.
        """
        key = self._use_case.key_columns
        names = {
            "outcomes": self.table("outcomes"),
            "key": column_list(key),
            "label": sql.Identifier(self._use_case.label),
            "day": sql.Identifier(self._use_case.prediction_date),
            "same_key": sql.SQL(" AND ").join(
                sql.SQL("known.{0} = old.{0}").format(sql.Identifier(one)) for one in key
            ),
        }
        columns = [*key, self._use_case.label, "partition"]
        known = outcomes.rename_columns([{KNOWN_ON: "partition"}.get(name, name) for name in outcomes.column_names])
        with self.connection() as connection:
            warehouse_schema.lock(connection, self._use_case.name, "outcomes")
            connection.execute(
                sql.SQL(
                    "CREATE TEMP TABLE known_now ON COMMIT DROP AS "
                    "SELECT {key}, {label}, partition FROM {outcomes} LIMIT 0"
                ).format(**names)
            )
            copy_rows(connection, sql.Identifier("pg_temp", "known_now"), known.select(columns))
            connection.execute(
                sql.SQL(
                    "DELETE FROM {outcomes} old WHERE {day} = ANY(%s) AND partition <= %s "
                    "AND NOT EXISTS (SELECT FROM pg_temp.known_now known WHERE {same_key})"
                ).format(**names),
                [list(days), partition],
            )
            connection.execute(
                sql.SQL(
                    "INSERT INTO {outcomes} AS known ({key}, {label}, partition) "
                    "SELECT {key}, {label}, partition FROM pg_temp.known_now "
                    "ON CONFLICT ({key}) DO UPDATE SET {label} = excluded.{label}, partition = excluded.partition "
                    "WHERE known.partition <= %s AND (known.{label}, known.partition) IS DISTINCT FROM "
                    "(excluded.{label}, excluded.partition)"
                ).format(**names),
                [partition],
            )

    def outcomes(self, prediction_days: Sequence[date]) -> pa.Table:
        """The outcomes known for some prediction days.

        Returns the key columns, the label (int64 0 or 1) and `known_on` (date32: the partition that delivered it
        last), sorted by key.
        """
        key, label = self._use_case.prediction_key, self._use_case.label
        query = sql.SQL("SELECT {key}, {label}::bigint, partition FROM {table} WHERE {day} = ANY(%s) ORDER BY {key}")
        names = {
            "key": column_list(self._use_case.key_columns),
            "label": sql.Identifier(label),
            "table": self.table("outcomes"),
            "day": sql.Identifier(self._use_case.prediction_date),
        }
        with self.connection() as connection:
            rows = connection.execute(query.format(**names), [list(prediction_days)]).fetchall()
        fields = [pa.field(column.name, ARROW_TYPES[column.type]) for column in key]
        schema = pa.schema([*fields, pa.field(label, pa.int64()), pa.field(KNOWN_ON, pa.date32())])
        return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
