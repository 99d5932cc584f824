"""What readers query: predictions, and everything known about how they came to be and how they did.

PostgreSQL, one schema per use case. Each write replaces what it replaces in one transaction, so a
reader sees the night before or the night after, never half of one, and never waits.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, LiteralString

import pyarrow as pa
import pyarrow.csv
from psycopg import errors, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict

from nightshift.artifact import ArtifactRef, canonical_json, sha256_hex
from nightshift.deployment import Deployment, GateResult, Role
from nightshift.errors import AuditFailed, ConfigurationError
from nightshift.io import warehouse_schema
from nightshift.io.warehouse_schema import SQL_TYPES, Connection
from nightshift.settings import Settings
from nightshift.usecase import Column, UseCase

COPY_BATCH_ROWS = 65_536


class Publication(BaseModel):
    """One night of predictions: what it is, and the artifacts it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: date
    prediction_date: date
    model_version: str
    role: Role
    model: ArtifactRef
    scores: ArtifactRef
    rows: int
    dag_id: str = ""
    run_id: str = ""

    @property
    def publish_id(self) -> str:
        """Same partition, model and scores, same publication."""
        return sha256_hex(canonical_json([self.partition.isoformat(), self.model.sha256, self.scores.sha256]))


class Warehouse:
    """The warehouse of one use case. Its schema is made or brought up to date at first use.

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
        return sql.Identifier(self._use_case.name, name)

    # Predictions

    def publish_predictions(self, publication: Publication, predictions: pa.Table) -> bool:
        """Make these the predictions of their partition, all or nothing.

        `predictions` has the use case's key and extra columns, its score (float64) and `decision`
        (bool), all of one `prediction_date`. Returns False, having written nothing, if this very
        publication is the current one. Raises AuditFailed if the rows that arrived in the
        warehouse are not what was sent or not probabilities, and ConfigurationError if another
        partition's predictions cover the same day.
        """
        with self.connection() as connection:
            warehouse_schema.lock(connection, self._use_case.name, "publish", publication.partition.isoformat())
            current = self._current(connection, publication.partition)
            if current is not None and current["publish_id"] == publication.publish_id:
                return False
            self._stage(connection, publication, predictions)
            self._audit_stage(connection, publication)
            self._ensure_day(connection, publication.prediction_date)
            replaced = {publication.prediction_date} | ({current["prediction_date"]} if current else set())
            self._swap(connection, publication, replaced)
            return True

    def _columns(self) -> list[str]:
        use_case = self._use_case
        return [*(c.name for c in (*use_case.prediction_key, *use_case.prediction_extra)), use_case.score, "decision"]

    def _stage(self, connection: Connection, publication: Publication, predictions: pa.Table) -> None:
        columns = self._columns()
        if missing := [name for name in columns if name not in predictions.column_names]:
            raise AuditFailed(f"Predictions of partition {publication.partition} lack the columns {missing}.")
        use_case = self._use_case
        declared = [*use_case.prediction_key, *use_case.prediction_extra]
        declared += [Column(use_case.score, "float64"), Column("decision", "bool")]
        definitions = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(SQL_TYPES[column.type])) for column in declared
        )
        connection.execute(sql.SQL("CREATE TEMP TABLE staged ({}) ON COMMIT DROP").format(definitions))
        copy_rows(connection, sql.Identifier("pg_temp", "staged"), predictions.select(columns))

    def _audit_stage(self, connection: Connection, publication: Publication) -> None:
        use_case = self._use_case
        key = sql.SQL(", ").join(sql.Identifier(column.name) for column in use_case.prediction_key)
        query = sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE {score} >= 0 AND {score} <= 1 AND decision IS NOT NULL), "
            "count(*) FILTER (WHERE {day} = %s), (SELECT count(*) FROM (SELECT FROM pg_temp.staged GROUP BY {key}) d) "
            "FROM pg_temp.staged"
        ).format(key=key, score=sql.Identifier(use_case.score), day=sql.Identifier(use_case.prediction_date))
        found = connection.execute(query, [publication.prediction_date]).fetchone() or (0, 0, 0, 0)
        names = ("rows", "probabilities with a decision", f"rows of {publication.prediction_date}", "distinct keys")
        wrong = [f"{count} {name}" for name, count in zip(names, found, strict=True) if count != publication.rows]
        if wrong:
            raise AuditFailed(
                f"{use_case.name}: {publication.rows} predictions were to be published for partition "
                f"{publication.partition}, but the warehouse counts {', '.join(wrong)}. Nothing was published; "
                f"look at {publication.scores.uri}."
            )

    def _ensure_day(self, connection: Connection, day: date) -> None:
        """Attach an empty table for the day: unlike CREATE TABLE ... PARTITION OF, that does not block readers."""
        partition = self.table(f"predictions_{day:%Y%m%d}")
        row = connection.execute("SELECT to_regclass(%s)", [partition.as_string(connection)]).fetchone()
        if row is not None and row[0] is not None:
            return
        warehouse_schema.lock(connection, self._use_case.name, "attach")
        names = {"partition": partition, "parent": self.table("predictions")}
        connection.execute(sql.SQL("CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)").format(**names))
        connection.execute(
            sql.SQL("ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({next})").format(
                **names, first=sql.Literal(day), next=sql.Literal(date.fromordinal(day.toordinal() + 1))
            )
        )

    def _swap(self, connection: Connection, publication: Publication, days: set[date]) -> None:
        use_case, columns = self._use_case, self._columns()
        names = {
            "predictions": self.table("predictions"),
            "publications": self.table("publications"),
            "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
            "day": sql.Identifier(use_case.prediction_date),
            "order": sql.SQL(", ").join(sql.Identifier(column.name) for column in use_case.prediction_key),
        }
        connection.execute(
            sql.SQL(
                "UPDATE {publications} SET superseded_at = clock_timestamp() "
                "WHERE partition = %s AND superseded_at IS NULL"
            ).format(**names),
            [publication.partition],
        )
        try:
            connection.execute(
                sql.SQL(
                    "INSERT INTO {publications} (publish_id, partition, prediction_date, model_version, role, "
                    "model_uri, model_sha256, scores_uri, scores_sha256, rows, dag_id, run_id, published_at) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now()) "
                    "ON CONFLICT (publish_id) DO UPDATE SET superseded_at = NULL, published_at = now(), "
                    "dag_id = excluded.dag_id, run_id = excluded.run_id"
                ).format(**names),
                [
                    publication.publish_id,
                    publication.partition,
                    publication.prediction_date,
                    publication.model_version,
                    publication.role,
                    publication.model.uri,
                    publication.model.sha256,
                    publication.scores.uri,
                    publication.scores.sha256,
                    publication.rows,
                    publication.dag_id,
                    publication.run_id,
                ],
            )
        except errors.UniqueViolation:
            raise ConfigurationError(
                f"{use_case.name}: another partition already publishes predictions for {publication.prediction_date}; "
                f"partition {publication.partition} must predict a day of its own. Check the scoring spine's SQL."
            ) from None
        connection.execute(sql.SQL("DELETE FROM {predictions} WHERE {day} = ANY(%s)").format(**names), [sorted(days)])
        connection.execute(
            sql.SQL(
                "INSERT INTO {predictions} ({columns}, model_version, publish_id, predicted_at) "
                "SELECT {columns}, %s, %s, now() FROM pg_temp.staged ORDER BY {order}"
            ).format(**names),
            [publication.model_version, publication.publish_id],
        )

    def _current(self, connection: Connection, partition: date) -> dict[str, Any] | None:
        query = sql.SQL("SELECT * FROM {} WHERE partition = %s AND superseded_at IS NULL")
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.format(self.table("publications")), [partition]).fetchone()

    def publication(self, partition: date) -> dict[str, Any] | None:
        """The publications row that is current for a partition, or None."""
        with self.connection() as connection:
            return self._current(connection, partition)

    def publication_of(self, prediction_date: date) -> dict[str, Any] | None:
        """The publications row whose predictions are for a day, or None."""
        query = sql.SQL("SELECT * FROM {} WHERE prediction_date = %s AND superseded_at IS NULL")
        with self.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.format(self.table("publications")), [prediction_date]).fetchone()

    def prediction(self, key: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The predictions row with that key and its publications row, or None."""
        condition = sql.SQL(" AND ").join(
            sql.SQL("{} = {}::{}").format(
                sql.Identifier(column.name), sql.Placeholder(), sql.SQL(SQL_TYPES[column.type])
            )
            for column in self._use_case.prediction_key
        )
        values = [str(key[column.name]) for column in self._use_case.prediction_key]
        with self.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            query = sql.SQL("SELECT * FROM {} WHERE {}").format(self.table("predictions"), condition)
            row = cursor.execute(query, values).fetchone()
            if row is None:
                return None
            query = sql.SQL("SELECT * FROM {} WHERE publish_id = %s").format(self.table("publications"))
            publication = cursor.execute(query, [row["publish_id"]]).fetchone()
        return None if publication is None else (row, publication)

    # Deployments

    def record_deployment(self, deployment: Deployment) -> bool:
        """Append a decision. Returns False, having written nothing, if it is the last one of its partition and role."""
        table = self.table("deployments")
        last = sql.SQL(
            "SELECT action, model_version FROM {} WHERE role = %s AND partition = %s "
            "ORDER BY deployment_id DESC LIMIT 1"
        ).format(table)
        insert = sql.SQL(
            "INSERT INTO {} (partition, action, role, model_version, model, replaces, reason, decided_by) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        ).format(table)
        with self.connection() as connection:
            warehouse_schema.lock(connection, self._use_case.name, "deployments")
            row = connection.execute(last, [deployment.role, deployment.partition]).fetchone()
            if row == (deployment.action, deployment.model_version):
                return False
            connection.execute(
                insert,
                [
                    deployment.partition,
                    deployment.action,
                    deployment.role,
                    deployment.model_version,
                    Jsonb(deployment.model.model_dump()) if deployment.model else None,
                    deployment.replaces,
                    Jsonb(dict(deployment.reason)),
                    deployment.decided_by,
                ],
            )
        return True

    def champion_as_of(self, partition: date) -> Deployment | None:
        """The champion that serves a partition: the newest one promoted in an earlier partition, or None."""
        return self._deployment("role = 'champion' AND action = 'promoted' AND partition < %s", partition)

    def fallback_as_of(self, partition: date) -> Deployment | None:
        """The fallback that is in place for a partition: the newest one put there at or before it, or None."""
        return self._deployment(
            "role = 'fallback' AND action IN ('bootstrap', 'promoted') AND partition <= %s", partition
        )

    def training_decided(self, partition: date) -> bool:
        """Whether the training of a partition came to a decision, be it that it failed."""
        return (
            self._deployment(
                "role = 'champion' AND action IN ('promoted', 'rejected', 'failed') AND partition = %s", partition
            )
            is not None
        )

    def first_deployment(self) -> Deployment | None:
        """The decision of the earliest partition, or None before any."""
        return self._deployment("partition <= %s", date.max, order="partition, deployment_id")

    def _deployment(
        self, condition: LiteralString, partition: date, order: LiteralString = "partition DESC, deployment_id DESC"
    ) -> Deployment | None:
        query = sql.SQL(
            "SELECT partition, action, role, model_version, model, replaces, reason, decided_by "
            "FROM {} WHERE {} ORDER BY {} LIMIT 1"
        ).format(self.table("deployments"), sql.SQL(condition), sql.SQL(order))
        with self.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(query, [partition]).fetchone()
        return None if row is None else Deployment.model_validate(row)

    # Gates and monitoring

    def record_gates(self, partition: date, model_version: str, results: Sequence[GateResult]) -> None:
        """Keep what each gate said about a candidate; said again, nothing changes."""
        query = sql.SQL(
            "INSERT INTO {} AS known (partition, model_version, gate, verdict, observed, bound, reason) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (partition, model_version, gate) DO UPDATE SET "
            "verdict = excluded.verdict, observed = excluded.observed, bound = excluded.bound, "
            "reason = excluded.reason, recorded_at = now() "
            "WHERE (known.verdict, known.observed, known.bound, known.reason) IS DISTINCT FROM "
            "(excluded.verdict, excluded.observed, excluded.bound, excluded.reason)"
        ).format(self.table("gate_results"))
        rows = [[partition, model_version, r.gate, r.verdict, r.observed, r.bound, r.reason] for r in results]
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(query, rows)

    def record_drift(self, partition: date, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Replace the drift_daily rows of a partition. Each row maps every column but `partition`.

        Returns False, having written nothing, if those are its rows already.
        """
        return self._replace("drift_daily", partition, rows)

    def record_performance(self, partition: date, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Replace the performance_daily row of a partition (none or one); as `record_drift`."""
        return self._replace("performance_daily", partition, rows)

    def _replace(self, name: str, partition: date, rows: Sequence[Mapping[str, Any]]) -> bool:
        table = self.table(name)
        wanted = [{"partition": partition, **row} for row in rows]
        with self.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            warehouse_schema.lock(connection, self._use_case.name, name, partition.isoformat())
            there = cursor.execute(
                sql.SQL("SELECT * FROM {} WHERE partition = %s").format(table), [partition]
            ).fetchall()
            if len(there) == len(wanted) and all(row in there for row in wanted):
                return False
            cursor.execute(sql.SQL("DELETE FROM {} WHERE partition = %s").format(table), [partition])
            for row in wanted:
                columns = sql.SQL(", ").join(map(sql.Identifier, row))
                values = sql.SQL(", ").join([sql.Placeholder()] * len(row))
                query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, columns, values)
                cursor.execute(query, list(row.values()))
        return True

    def record_outcomes(self, partition: date, outcomes: pa.Table) -> None:
        """Add outcomes delivered with a partition: the key columns and the label (integer 0 or 1).

        An outcome known already is replaced, unless a later partition delivered it.
        """
        key = [column.name for column in self._use_case.prediction_key]
        names = {
            "outcomes": self.table("outcomes"),
            "key": sql.SQL(", ").join(map(sql.Identifier, key)),
            "label": sql.Identifier(self._use_case.label),
        }
        with self.connection() as connection:
            warehouse_schema.lock(connection, self._use_case.name, "outcomes")
            connection.execute(
                sql.SQL(
                    "CREATE TEMP TABLE delivered ON COMMIT DROP AS SELECT {key}, {label} FROM {outcomes} LIMIT 0"
                ).format(**names)
            )
            copy_rows(connection, sql.Identifier("pg_temp", "delivered"), outcomes.select([*key, self._use_case.label]))
            connection.execute(
                sql.SQL(
                    "INSERT INTO {outcomes} AS known ({key}, {label}, partition) "
                    "SELECT {key}, {label}, %s FROM pg_temp.delivered "
                    "ON CONFLICT ({key}) DO UPDATE SET {label} = excluded.{label}, partition = excluded.partition "
                    "WHERE known.partition <= excluded.partition AND (known.{label}, known.partition) IS DISTINCT FROM "
                    "(excluded.{label}, excluded.partition)"
                ).format(**names),
                [partition],
            )


def copy_rows(connection: Connection, table: sql.Identifier, rows: pa.Table) -> None:
    """COPY a table into a table with the same columns, rendered as CSV by Arrow (several times faster than Python)."""
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    options = pyarrow.csv.WriteOptions(include_header=False)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(table, columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in rows.to_batches(max_chunksize=COPY_BATCH_ROWS):
            sink = io.BytesIO()
            pyarrow.csv.write_csv(batch, sink, options)
            copy.write(sink.getbuffer())
