"""What readers query: predictions, and everything known about how they came to be and how they did.

PostgreSQL, one schema per use case. Each write replaces what it replaces in one transaction, so a
reader sees the night before or the night after, never half of one, and never waits.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
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
from nightshift.usecase import UseCase

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
            day = self.table(f"predictions_{publication.prediction_date:%Y%m%d}")
            is_new = not warehouse_schema.exists(connection, day)
            staged = day if is_new else sql.Identifier("pg_temp", "staged")
            try:
                self._stage(connection, publication, predictions, staged, temporary=not is_new)
                self._record_publication(connection, publication)
                if current is not None and current["prediction_date"] != publication.prediction_date:
                    self._clear(connection, current["prediction_date"])
                if is_new:
                    self._attach(connection, publication, day)
                else:
                    self._clear(connection, publication.prediction_date)
                    query = sql.SQL("INSERT INTO {} SELECT * FROM {}").format(self.table("predictions"), staged)
                    connection.execute(query)
            except errors.IntegrityError as error:
                raise self._refused(publication, error) from error
            return True

    def _columns(self) -> list[str]:
        use_case = self._use_case
        return [*(c.name for c in (*use_case.prediction_key, *use_case.prediction_extra)), use_case.score, "decision"]

    def _stage(
        self,
        connection: Connection,
        publication: Publication,
        predictions: pa.Table,
        staged: sql.Identifier,
        *,
        temporary: bool,
    ) -> None:
        """Copy the rows into a table like `predictions`, with all its checks and without its index, and count them."""
        columns = self._columns()
        if missing := [name for name in columns if name not in predictions.column_names]:
            raise AuditFailed(f"Predictions of partition {publication.partition} lack the columns {missing}.")
        create = (
            "CREATE TEMP TABLE {} (LIKE {} INCLUDING CONSTRAINTS) ON COMMIT DROP"
            if temporary
            else "CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS INCLUDING COMMENTS)"
        )
        connection.execute(sql.SQL(create).format(staged, self.table("predictions")))
        # The same for every row: cheaper as defaults than as columns of the copy.
        constants = {
            "model_version": sql.Literal(publication.model_version),
            "publish_id": sql.Literal(publication.publish_id),
            "predicted_at": sql.SQL("now()"),
        }
        defaults = [
            sql.SQL("ALTER {} SET DEFAULT {}").format(sql.Identifier(name), value) for name, value in constants.items()
        ]
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(staged, sql.SQL(", ").join(defaults)))
        copy_rows(connection, staged, predictions.select(columns))
        query = sql.SQL("SELECT count(*), count(*) FILTER (WHERE {} = %s) FROM {}").format(
            sql.Identifier(self._use_case.prediction_date), staged
        )
        found = connection.execute(query, [publication.prediction_date]).fetchone()
        if found != (publication.rows, publication.rows):
            raise AuditFailed(
                f"{self._use_case.name}: {publication.rows} predictions for {publication.prediction_date} were to be "
                f"published, but the warehouse counts {found and found[0]} rows, {found and found[1]} of them for that "
                f"day. Nothing was published; look at {publication.scores.uri}."
            )

    def _attach(self, connection: Connection, publication: Publication, day: sql.Identifier) -> None:
        """Make the staged table the day's partition: unlike CREATE TABLE ... PARTITION OF, this blocks no reader."""
        use_case, next_day = self._use_case, publication.prediction_date + timedelta(days=1)
        key = sql.SQL(", ").join(sql.Identifier(column.name) for column in use_case.prediction_key)
        for statement in (
            "ALTER TABLE {day} ADD PRIMARY KEY ({key})",
            "ALTER TABLE {day} ALTER model_version DROP DEFAULT, ALTER publish_id DROP DEFAULT, "
            "ALTER predicted_at DROP DEFAULT",
            "ALTER TABLE {predictions} ATTACH PARTITION {day} FOR VALUES FROM ({first}) TO ({next})",
        ):
            connection.execute(
                sql.SQL(statement).format(
                    day=day,
                    key=key,
                    predictions=self.table("predictions"),
                    first=sql.Literal(publication.prediction_date),
                    next=sql.Literal(next_day),
                )
            )

    def _clear(self, connection: Connection, day: date) -> None:
        query = sql.SQL("DELETE FROM {} WHERE {} = %s")
        column = sql.Identifier(self._use_case.prediction_date)
        connection.execute(query.format(self.table("predictions"), column), [day])

    def _record_publication(self, connection: Connection, publication: Publication) -> None:
        """Make this the partition's current publication."""
        table = self.table("publications")
        row = publication.model_dump(mode="python", exclude={"model", "scores"}) | {
            "publish_id": publication.publish_id,
            "model_uri": publication.model.uri,
            "model_sha256": publication.model.sha256,
            "scores_uri": publication.scores.uri,
            "scores_sha256": publication.scores.sha256,
        }
        supersede = sql.SQL("UPDATE {} SET superseded_at = now() WHERE partition = %s AND superseded_at IS NULL")
        connection.execute(supersede.format(table), [publication.partition])
        insert = sql.SQL(
            "INSERT INTO {} ({}, published_at) VALUES ({}, now()) ON CONFLICT (publish_id) DO UPDATE SET "
            "superseded_at = NULL, published_at = now(), dag_id = excluded.dag_id, run_id = excluded.run_id"
        ).format(
            table,
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join([sql.Placeholder()] * len(row)),
        )
        connection.execute(insert, list(row.values()))

    def _refused(self, publication: Publication, error: errors.IntegrityError) -> Exception:
        name, day = self._use_case.name, publication.prediction_date
        if error.diag.constraint_name == "publications_one_per_day":
            return ConfigurationError(
                f"{name}: another partition already publishes predictions for {day}; partition "
                f"{publication.partition} must predict a day of its own. Check the scoring spine's SQL."
            )
        return AuditFailed(
            f"{name}: the warehouse refused the predictions of partition {publication.partition} for {day}: "
            f"{error.diag.message_primary}. {error.diag.message_detail or ''} Nothing was published; "
            f"look at {publication.scores.uri}."
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
        """The champion that serves a partition: the newest one promoted in an earlier partition, or None.

        The last verdict on a training partition counts: one whose model was promoted and, trained
        anew, rejected gives no champion.
        """
        return self._deployment(
            "role = 'champion' AND action = 'promoted' AND partition < %s AND NOT EXISTS ("
            "SELECT FROM {table} AS later WHERE later.role = deployments.role "
            "AND later.partition = deployments.partition AND later.deployment_id > deployments.deployment_id "
            "AND later.action = 'rejected')",
            partition,
        )

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
        table = self.table("deployments")
        query = sql.SQL(
            "SELECT partition, action, role, model_version, model, replaces, reason, decided_by "
            "FROM {} AS deployments WHERE {} ORDER BY {} LIMIT 1"
        ).format(table, sql.SQL(condition).format(table=table), sql.SQL(order))
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
