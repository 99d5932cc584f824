"""A use case with awkward names and column types, for tests of the warehouse alone; it has no feeds and no features."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
from psycopg import sql

from nightshift.artifact import ArtifactRef
from nightshift.declare.features import FeatureSet
from nightshift.declare.feeds import Column
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import CompressionBudget
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.documents.predict import Calibration, SpecCalibration
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import publications
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.copying import copy_rows
from nightshift.io.warehouse.publications import Publication
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings

DAY = date(2013, 6, 1)
SPEC = ModelSpec(name="trees", estimators=("xgboost",))


@contextmanager
def parcels(settings: Settings) -> Iterator[UseCase]:
    """The use case, under a name with a schema of its own, which is dropped at the end."""
    made = _parcels(f'parcels "{uuid.uuid4().hex[:8]}"')
    yield made
    with warehouse_schema.connect(settings) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(made.name)))


def killed(partition: date, number: int | None = None) -> Deployment:
    """The kill switch, turned on by hand; `number`: as it is read from the warehouse."""
    return Deployment(
        deployment_id=number, partition=partition, action="killed", role="champion", decided_by="hand:ann"
    )


def artifact(name: str) -> ArtifactRef:
    """A ref to an artifact that is not there."""
    return ArtifactRef(uri=f"s3://bucket/{name}/", sha256=f"{name}-sha", kind="scores")


def night(
    rows: int = 40, *, version: str = "a", day: date = DAY, score: float | None = None
) -> tuple[Publication, pa.Table]:
    """A publication for a day and its rows; `score`: of all rows."""
    base = {"a": 0.1, "b": 0.6, "c": 0.3}[version]
    scores = [base + 0.3 * i / rows if score is None else score for i in range(rows)]
    table = pa.table(
        {
            "day": pa.array([day] * rows, pa.date32()),
            "parcel": [f'parcel "{i}", é\n' for i in range(rows)],
            "weight_kg": pa.array([None if i % 3 == 0 else i / 7 for i in range(rows)], pa.float64()),
            "due_at": pa.array(
                [datetime(2013, 6, 1, 4, 30, tzinfo=UTC) + timedelta(minutes=i) for i in range(rows)],
                pa.timestamp("us", tz="UTC"),
            ),
            "p late": pa.array(scores, pa.float64()),
            "decision": [s >= 0.5 for s in scores],
            "model_version": [f"model-{version}"] * rows,
        }
    )
    publication = Publication(
        partition=day - timedelta(days=1),
        prediction_date=day,
        spec_id=SPEC.spec_id,
        model_version=f"model-{version}",
        role="champion",
        model=artifact(f"model-{version}"),
        calibration=artifact("calibration"),
        scores=artifact(f"scores-{version}-{rows}"),
        rows=rows,
    )
    return publication, table


def published(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """All published rows."""
    with warehouse.connection() as connection:
        return connection.execute(
            sql.SQL(
                'SELECT day, parcel, weight_kg, due_at, "p late", decision, model_version FROM {} ORDER BY due_at'
            ).format(warehouse.table("predictions"))
        ).fetchall()


def without_months(folder: Path) -> Path:
    """The folder with copies of the migrations before predictions were partitioned by month."""
    for path in sorted(warehouse_schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0012":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def publish_by_day(
    connection: warehouse_schema.Connection, use_case: UseCase, publication: Publication, rows: pa.Table
) -> None:
    """Publish a new day as the versions before 0012_months did: as a table of its own."""
    day = warehouse_schema.table_name(use_case, f"predictions_{publication.prediction_date:%Y%m%d}")
    names = {
        "day": day,
        "predictions": warehouse_schema.table_name(use_case, "predictions"),
        "publish_id": sql.Literal(publication.publish_id),
        "first": sql.Literal(publication.prediction_date),
        "next": sql.Literal(publication.prediction_date + timedelta(days=1)),
    }
    for statement in (
        "CREATE TABLE {day} (LIKE {predictions} INCLUDING CONSTRAINTS INCLUDING COMMENTS)",
        "ALTER TABLE {day} ALTER publish_id SET DEFAULT {publish_id}, ALTER predicted_at SET DEFAULT now()",
    ):
        connection.execute(sql.SQL(statement).format(**names))
    copy_rows(connection, day, rows)
    publications._record(connection, use_case, publication)
    for statement in (
        "ALTER TABLE {day} ADD PRIMARY KEY (day, parcel)",
        "ALTER TABLE {day} ALTER publish_id DROP DEFAULT, ALTER predicted_at DROP DEFAULT",
        "ALTER TABLE {predictions} ATTACH PARTITION {day} FOR VALUES FROM ({first}) TO ({next})",
    ):
        connection.execute(sql.SQL(statement).format(**names))


def calibrated(store: ArtifactStore, use_case: UseCase, partition: date, *, intercept: float) -> ArtifactRef:
    """The calibration of SPEC for a partition, as `calibrate` commits it."""
    document = Calibration(partition=partition, specs={SPEC.spec_id: SpecCalibration(intercept=intercept)})
    return store.commit(
        use_case=use_case.name, step="calibrate", partition=partition, kind="calibration", files=document.to_files()
    )


def _parcels(name: str) -> UseCase:
    here = Path(__file__)
    return UseCase(
        name=name,
        title="Parcels that come late",
        owner="tests",
        folder=here.parent,
        timezone="America/New_York",
        cutoff_time=time(3),
        first_partition=date(2013, 1, 1),
        feeds=(),
        features=FeatureSet(here, (), 7, "parcels_v1"),
        training_spine=here,
        scoring_spine=here,
        label="came late",
        score="p late",
        decision_threshold=0.5,
        prediction_key=(
            Column("day", "date", nullable=False, description="day of delivery"),
            Column("parcel", "string", nullable=False),
        ),
        prediction_extra=(Column("weight_kg", "float64", unit="kg"), Column("due_at", "timestamp")),
        prediction_date="day",
        champion=SPEC,
        fallback=SPEC,
        compression=CompressionBudget(0.01, 0.01),
    )
