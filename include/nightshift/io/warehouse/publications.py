"""Partitions of predictions in the warehouse: written completely or not at all, and looked up.

Every function works in the transaction of its `connection`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import errors, sql
from psycopg.rows import dict_row

from nightshift.artifact import ArtifactRef, Value, canonical_json, sha256_hex
from nightshift.core.inference.certainty import CERTAINTY_SCHEMA
from nightshift.core.lifecycle.state import BY_RULE, state_as_of
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Role
from nightshift.errors import AuditFailed, ConfigurationError
from nightshift.io.warehouse import deployments
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.copying import BATCH_ROWS, copy_rows
from nightshift.io.warehouse.schema import SQL_TYPES, Connection, insert_row, table_name

MODEL_VERSION = "model_version"


class Publication(Value):
    """One partition of predictions: its identity, and the artifacts that it was made from."""

    partition: date
    prediction_date: date
    spec_id: str
    model_version: str
    role: Role
    model: ArtifactRef
    calibration: ArtifactRef
    scores: ArtifactRef
    rows: int
    dag_id: str = ""
    run_id: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Self:
        """The publication of a row of the table `publications`."""
        kinds = {"model": "version", "calibration": "calibration", "scores": "scores"}
        refs = {
            name: {"uri": row[f"{name}_uri"], "sha256": row[f"{name}_sha256"], "kind": kind}
            for name, kind in kinds.items()
        }
        return cls.model_validate({**{name: row.get(name) for name in cls.model_fields}, **refs})

    @property
    def publish_id(self) -> str:
        """The id: equal for equal partition, version, calibration and scores."""
        pinned = [ref.sha256 for ref in (self.model, self.calibration, self.scores)]
        return sha256_hex(canonical_json([self.partition.isoformat(), *pinned]))


@dataclass(frozen=True)
class Prediction:
    """One published prediction. `columns`: the key, and what else the use case declares."""

    publication: Publication
    model_version: str
    columns: Mapping[str, object]
    score: float
    is_positive: bool
    predicted_at: datetime


def create_month(connection: Connection, use_case: UseCase, day: date) -> None:
    """Create the table of a day's month, unless it is there. Readers do not wait for it.

    Commit it before rows are copied: until then other nights of a new month wait.
    """
    # Locked before it looks: PostgreSQL remembers in a transaction that a name did not exist.
    warehouse_schema.lock(connection, use_case.name, "months")
    connection.execute(sql.SQL("SELECT {}({})").format(table_name(use_case, "create_month"), day))


def publish(
    connection: Connection,
    use_case: UseCase,
    publication: Publication,
    predictions: pa.Table | pa.RecordBatchReader,
    check: Callable[[], None] | None = None,
) -> bool:
    """See Warehouse.publish_predictions. The table of the month must be there."""
    warehouse_schema.lock(connection, use_case.name, "publish", publication.partition.isoformat())
    if check is not None:
        check()
    before = current(connection, use_case, "partition", publication.partition)
    if before is not None and before.publish_id == publication.publish_id:
        return False
    rows = _Rows(use_case, publication, predictions)
    try:
        _record(connection, use_case, publication)
        for day in sorted({one.prediction_date for one in (publication, before) if one is not None}):
            _clear(connection, use_case, day)
        written = copy_rows(connection, table_name(use_case, "predictions"), rows.reader())
    except errors.IntegrityError as error:
        raise _rejected(use_case, publication, error) from error
    if (written, rows.of_day) != (publication.rows, publication.rows):
        raise AuditFailed(
            "NS-PUBLISH-007",
            f"{use_case.name}: {publication.rows} predictions for {publication.prediction_date} were to be published, "
            f"but the warehouse counts {written} rows, and {rows.of_day} were sent for that day. Nothing was "
            f"published; look at {publication.scores.uri}.",
        )
    # After the copy: turning the switch on waits for this lock only as long as the rest of the transaction takes.
    _check_kill_switch(connection, use_case, publication, rows.versions)
    return True


class _Rows:
    """The rows of a publication as they are copied. Once they are: `of_day`, how many were for its day, and
    `versions`, those that scored them."""

    def __init__(
        self, use_case: UseCase, publication: Publication, predictions: pa.Table | pa.RecordBatchReader
    ) -> None:
        self._day, self._column = publication.prediction_date, use_case.prediction_date
        self._publish_id = publication.publish_id
        self._batches = predictions.to_reader(BATCH_ROWS) if isinstance(predictions, pa.Table) else predictions
        extra = [column.name for column in use_case.prediction_extra]
        columns = [*use_case.key_columns, *extra, use_case.score, "decision", MODEL_VERSION]
        sent = self._batches.schema.names
        if missing := [name for name in columns if name not in sent]:
            raise AuditFailed(
                "NS-PUBLISH-006", f"Predictions of partition {publication.partition} lack the columns {missing}."
            )
        # Scores of an earlier version of Nightshift do not have them.
        self._columns = columns + [name for name in CERTAINTY_SCHEMA.names if name in sent]
        self.of_day, self.versions = 0, set[str]()

    def reader(self) -> pa.RecordBatchReader:
        """The columns of the table `predictions`, without those that have a default."""
        fields = [self._batches.schema.field(name) for name in self._columns]
        schema = pa.schema([*fields, pa.field("publish_id", pa.string())])
        return pa.RecordBatchReader.from_batches(schema, self._checked(schema))

    def _checked(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            days = batch[self._column].cast(pa.date32())
            self.of_day += pc.sum(pc.equal(days, pa.scalar(self._day))).as_py() or 0
            self.versions |= set(batch[MODEL_VERSION].unique().to_pylist())
            publish_ids = pa.repeat(self._publish_id, batch.num_rows)
            yield pa.record_batch([*(batch[name] for name in self._columns), publish_ids], schema=schema)


def _check_kill_switch(
    connection: Connection, use_case: UseCase, publication: Publication, scored_by: set[str]
) -> None:
    """Raise AuditFailed if the kill switch is on and any row was scored by another version than the fallback's.

    Holds the lock of the decisions until the transaction ends, so a later decision sees the rows as published. A rule
    takes effect with the next partition whose versions are chosen: it must not stop one that is being predicted.
    """
    warehouse_schema.lock(connection, use_case.name, "deployments")
    killed = state_as_of(deployments.decisions(connection, use_case), publication.partition).killed
    if killed is None or killed.decided_by.startswith(BY_RULE):
        return
    versions = {publication.model_version, *scored_by}
    if publication.role != "fallback" or len(versions) > 1:
        raise AuditFailed(
            "NS-PUBLISH-005",
            f"{use_case.name}: the versions of {publication.partition} were chosen before {killed.decided_by} turned "
            f"on the kill switch as of {killed.partition}; no scores of {', '.join(sorted(versions))} were published. "
            f"Clear {use_case.name}.predict of {publication.partition} from resolve_model: the fallback will score.",
        )


def _clear(connection: Connection, use_case: UseCase, day: date) -> None:
    query = sql.SQL("DELETE FROM {} WHERE {} = %s")
    column = sql.Identifier(use_case.prediction_date)
    connection.execute(query.format(table_name(use_case, "predictions"), column), [day])


def _record(connection: Connection, use_case: UseCase, publication: Publication) -> None:
    """Make this the partition's current publication."""
    table = table_name(use_case, "publications")
    row = publication.model_dump(exclude={"model", "calibration", "scores"})
    row |= {"publish_id": publication.publish_id, "published_at": sql.SQL("now()")}
    for name in ("model", "calibration", "scores"):
        ref: ArtifactRef = getattr(publication, name)
        row |= {f"{name}_uri": ref.uri, f"{name}_sha256": ref.sha256}
    supersede = sql.SQL("UPDATE {} SET superseded_at = now() WHERE partition = %s AND superseded_at IS NULL")
    connection.execute(supersede.format(table), [publication.partition])
    ending = (
        "ON CONFLICT (publish_id) DO UPDATE SET "
        "superseded_at = NULL, published_at = now(), dag_id = excluded.dag_id, run_id = excluded.run_id"
    )
    insert_row(connection, table, row, ending)


def _rejected(use_case: UseCase, publication: Publication, error: errors.IntegrityError) -> Exception:
    name, day = use_case.name, publication.prediction_date
    if error.diag.constraint_name == "publications_one_per_day":
        return ConfigurationError(
            "NS-PUBLISH-008",
            f"{name}: another partition already publishes predictions for {day}; partition "
            f"{publication.partition} must predict a day of its own. Check the scoring spine's SQL.",
        )
    return AuditFailed(
        "NS-PUBLISH-009",
        f"{name}: the warehouse rejected the predictions of partition {publication.partition} for {day}: "
        f"{error.diag.message_primary}. {error.diag.message_detail or ''} Nothing was published; "
        f"look at {publication.scores.uri}.",
    )


def current(connection: Connection, use_case: UseCase, column: str = "", day: date | None = None) -> Publication | None:
    """The newest current publication, or the one with that day in `column`; None if there is none."""
    table, where = table_name(use_case, "publications"), sql.SQL("AND {} = {}")
    which = where.format(sql.Identifier(column), sql.Literal(day)) if column else sql.SQL("")
    query = sql.SQL("SELECT * FROM {} WHERE superseded_at IS NULL {} ORDER BY partition DESC LIMIT 1")
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query.format(table, which)).fetchone()
    return None if row is None else Publication.from_row(row)


def newest_published(connection: Connection, use_case: UseCase, by: datetime) -> date | None:
    """The newest partition that was published by then, or None."""
    query = sql.SQL("SELECT max(partition) FROM {} WHERE published_at <= %s")
    row = connection.execute(query.format(table_name(use_case, "publications")), [by]).fetchone()
    return row[0] if row else None


def all_current(connection: Connection, use_case: UseCase, first: date, last: date) -> list[Publication]:
    """The current publications of the partitions first to last, the oldest first."""
    query = sql.SQL("SELECT * FROM {} WHERE superseded_at IS NULL AND partition BETWEEN %s AND %s ORDER BY partition")
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query.format(table_name(use_case, "publications")), [first, last])
        return [Publication.from_row(row) for row in rows]


def find_prediction(connection: Connection, use_case: UseCase, key: Mapping[str, str]) -> Prediction | None:
    """The prediction with that key (column -> value as text), or None."""
    condition = sql.SQL(" AND ").join(
        sql.SQL("{} = {}::{}").format(sql.Identifier(column.name), sql.Placeholder(), sql.SQL(SQL_TYPES[column.type]))
        for column in use_case.prediction_key
    )
    values = [key[column.name] for column in use_case.prediction_key]
    with connection.cursor(row_factory=dict_row) as cursor:
        query = sql.SQL("SELECT * FROM {} WHERE {}").format(table_name(use_case, "predictions"), condition)
        row = cursor.execute(query, values).fetchone()
        if row is None:
            return None
        query = sql.SQL("SELECT * FROM {} WHERE publish_id = %s").format(table_name(use_case, "publications"))
        publication = cursor.execute(query, [row["publish_id"]]).fetchone()
    if publication is None:
        return None
    return Prediction(
        Publication.from_row(publication),
        model_version=row[MODEL_VERSION],
        columns={column.name: row[column.name] for column in (*use_case.prediction_key, *use_case.prediction_extra)},
        score=row[use_case.score],
        is_positive=row["decision"],
        predicted_at=row["predicted_at"],
    )
