"""A use case with awkward names and column types, for tests of the warehouse alone; it has no feeds and no features."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, time
from pathlib import Path

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
from nightshift.io.warehouse import schema as warehouse_schema
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
