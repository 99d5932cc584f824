from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import errors, sql

from nightshift.artifact import ArtifactRef
from nightshift.declare.models import ModelSpec
from nightshift.deployment import Deployment, GateResult
from nightshift.errors import AuditFailed, ConfigurationError, WarehouseUnavailable
from nightshift.io import warehouse_schema
from nightshift.io.publications import Publication
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import Column, CompressionBudget, FeatureSet, UseCase

DAY = date(2013, 6, 1)
SPEC = ModelSpec(name="trees", estimators=("xgboost",))


def make_use_case(name: str) -> UseCase:
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
        features=FeatureSet(here, (), 7, "parcels_v1", (), ()),
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


@pytest.fixture
def use_case(settings: Settings) -> Iterator[UseCase]:
    made = make_use_case(f'parcels "{uuid.uuid4().hex[:8]}"')
    yield made
    with warehouse_schema.connect(settings) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(made.name)))


@pytest.fixture
def warehouse(settings: Settings, use_case: UseCase) -> Warehouse:
    return Warehouse(settings, use_case)


def artifact(name: str) -> ArtifactRef:
    return ArtifactRef(uri=f"s3://bucket/{name}/", sha256=f"{name}-sha", kind="scores")


def night(
    rows: int = 40, *, version: str = "a", day: date = DAY, score: float | None = None
) -> tuple[Publication, pa.Table]:
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
    with warehouse.connection() as connection:
        return connection.execute(
            sql.SQL(
                'SELECT day, parcel, weight_kg, due_at, "p late", decision, model_version FROM {} ORDER BY due_at'
            ).format(warehouse.table("predictions"))
        ).fetchall()


def expected(publication: Publication, table: pa.Table) -> list[tuple[object, ...]]:
    assert set(table["model_version"].to_pylist()) == {publication.model_version}
    return [tuple(row.values()) for row in table.to_pylist()]


def test_migrations_run_once_whoever_comes(settings: Settings, use_case: UseCase) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: warehouse_schema.migrate(settings, use_case), range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(list(warehouse_schema.MIGRATIONS.glob("*.sql")))]


def test_an_edited_migration_is_refused(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse.connection() as connection:
        connection.execute(sql.SQL("UPDATE {} SET sha256 = 'x'").format(warehouse.table("schema_migrations")))
    with pytest.raises(ConfigurationError, match="edited since"):
        warehouse_schema.migrate(settings, use_case)


def test_a_newer_schema_is_refused(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse.connection() as connection:
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES ('9999_later', 'x')").format(warehouse.table("schema_migrations"))
        )
    with pytest.raises(ConfigurationError, match="9999_later"):
        warehouse_schema.migrate(settings, use_case)


def test_a_changed_declaration_is_noticed(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    import dataclasses

    warehouse.migrate()
    changed = dataclasses.replace(
        use_case, prediction_extra=(Column("weight_kg", "int64"), Column("due_at", "timestamp"))
    )
    with pytest.raises(ConfigurationError, match="weight_kg bigint"):
        warehouse_schema.migrate(settings, changed)


def test_a_prediction_date_outside_the_key_is_refused(settings: Settings, use_case: UseCase) -> None:
    import dataclasses

    changed = dataclasses.replace(use_case, prediction_date="due_at")
    with pytest.raises(ConfigurationError, match="prediction_key"):
        warehouse_schema.migrate(settings, changed)


def test_every_table_and_most_columns_are_described(warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse.connection() as connection:
        undescribed = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = quote_ident(%s)::regnamespace "
            "AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations' AND obj_description(c.oid) IS NULL",
            [warehouse._use_case.name],
        ).fetchall()
        column = connection.execute(
            "SELECT col_description(%s::regclass, 3)", [warehouse.table("predictions").as_string(connection)]
        ).fetchone()
    assert undescribed == []
    assert column == ("[kg]",)


def test_what_is_published_is_what_was_given(warehouse: Warehouse) -> None:
    publication, table = night()
    assert warehouse.publish_predictions(publication, table)
    assert published(warehouse) == expected(publication, table)


def test_publishing_again_changes_nothing(warehouse: Warehouse) -> None:
    publication, table = night()
    warehouse.publish_predictions(publication, table)
    query = sql.SQL("SELECT xmin, * FROM {} ORDER BY parcel").format(warehouse.table("predictions"))
    with warehouse.connection() as connection:
        before = connection.execute(query).fetchall()
    assert not warehouse.publish_predictions(publication.model_copy(update={"run_id": "again"}), table)
    with warehouse.connection() as connection:
        assert connection.execute(query).fetchall() == before


@pytest.mark.parametrize("order", list(itertools.product("ab", repeat=3)), ids="".join)
def test_the_last_publication_counts_whatever_came_before(warehouse: Warehouse, order: tuple[str, ...]) -> None:
    rows = {"a": 40, "b": 25}
    for version in order:
        warehouse.publish_predictions(*night(rows[version], version=version))
    publication, table = night(rows[order[-1]], version=order[-1])
    assert published(warehouse) == expected(publication, table)
    current = warehouse.publication(publication.partition)
    assert current is not None
    assert current["publish_id"] == publication.publish_id
    with warehouse.connection() as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(warehouse.table("publications"))).fetchone()
    assert row == (len(set(order)),)


def test_publishers_side_by_side_leave_one_night(warehouse: Warehouse) -> None:
    warehouse.migrate()
    nights = [night(30 + i, version=version) for i, version in enumerate("abcabc")]
    with ThreadPoolExecutor(len(nights)) as pool:
        list(pool.map(lambda n: warehouse.publish_predictions(*n), nights))
    current = warehouse.publication(DAY - timedelta(days=1))
    assert current is not None
    publication, table = next(n for n in nights if n[0].publish_id == current["publish_id"])
    assert published(warehouse) == expected(publication, table)


def test_different_days_side_by_side(warehouse: Warehouse) -> None:
    warehouse.migrate()
    nights = [night(50, day=DAY + timedelta(days=n)) for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda n: warehouse.publish_predictions(*n), nights))
    assert len(published(warehouse)) == 8 * 50


def test_a_reader_sees_one_whole_night_and_never_waits(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.publish_predictions(*night(40, version="a"))
    stop, seen = threading.Event(), []
    query = sql.SQL("SELECT count(*), count(DISTINCT publish_id), min(model_version) FROM {}").format(
        warehouse.table("predictions")
    )

    def read() -> None:
        with warehouse_schema.connect(settings, lock_timeout_seconds=0.5) as connection:
            connection.autocommit = True
            while not stop.is_set():
                seen.append(connection.execute(query).fetchone())

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for turn in range(10):
            warehouse.publish_predictions(*night(*((40,) if turn % 2 else (25,)), version="a" if turn % 2 else "b"))
        stop.set()
        reading.result()
    assert set(seen) <= {(40, 1, "model-a"), (25, 1, "model-b")}
    assert len(seen) > 10


def test_an_open_reader_does_not_stop_a_publisher(settings: Settings, warehouse: Warehouse) -> None:
    """A transaction that has read predictions keeps its view, while a first and a second night are published."""
    warehouse.publish_predictions(*night(version="a"))
    query = sql.SQL("SELECT count(*), min(model_version) FROM {}").format(warehouse.table("predictions"))
    with warehouse_schema.connect(settings) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute(query).fetchone() == (40, "model-a")
        warehouse.publish_predictions(*night(25, version="b"))
        warehouse.publish_predictions(*night(30, version="c", day=DAY + timedelta(days=1)))
        assert reader.execute(query).fetchone() == (40, "model-a")


@pytest.mark.parametrize("published_before", [False, True])
@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_what_is_no_probability_is_not_published(warehouse: Warehouse, score: float, published_before: bool) -> None:
    good = night(version="a")
    if published_before:
        warehouse.publish_predictions(*good)
    bad, table = night(version="b", score=score)
    with pytest.raises(AuditFailed, match="score_is_a_probability"):
        warehouse.publish_predictions(bad, table)
    assert published(warehouse) == (expected(*good) if published_before else [])


@pytest.mark.parametrize("published_before", [False, True])
def test_a_missing_or_doubled_row_is_not_published(warehouse: Warehouse, published_before: bool) -> None:
    good = night(version="a")
    if published_before:
        warehouse.publish_predictions(*good)
    publication, table = night(version="b")
    with pytest.raises(AuditFailed, match="39 rows"):
        warehouse.publish_predictions(publication, table.slice(1))
    with pytest.raises(AuditFailed, match='parcel "1"'):
        warehouse.publish_predictions(publication, pa.concat_tables([table.slice(1), table.slice(1, 1)]))
    assert published(warehouse) == (expected(*good) if published_before else [])


@pytest.mark.parametrize("published_before", [False, True])
def test_a_row_without_a_score_is_not_published(warehouse: Warehouse, published_before: bool) -> None:
    good = night(version="a")
    if published_before:
        warehouse.publish_predictions(*good)
    publication, table = night(version="b")
    nulls = pa.array([None, *table["p late"].to_pylist()[1:]], pa.float64())
    with pytest.raises(AuditFailed, match="p late"):
        warehouse.publish_predictions(publication, table.set_column(4, "p late", nulls))
    assert published(warehouse) == (expected(*good) if published_before else [])


def test_two_partitions_cannot_predict_one_day(warehouse: Warehouse) -> None:
    good = night()
    warehouse.publish_predictions(*good)
    publication, table = night(version="b")
    with pytest.raises(ConfigurationError, match="day of its own"):
        warehouse.publish_predictions(publication.model_copy(update={"partition": DAY}), table)
    assert published(warehouse) == expected(*good)


def test_a_partition_that_changes_its_day_leaves_nothing_behind(warehouse: Warehouse) -> None:
    publication, table = night()
    warehouse.publish_predictions(publication, table)
    moved, other = night(version="b", day=DAY + timedelta(days=1))
    warehouse.publish_predictions(moved.model_copy(update={"partition": publication.partition}), other)
    assert {row[0] for row in published(warehouse)} == {DAY + timedelta(days=1)}


def test_a_prediction_is_found_with_its_publication(warehouse: Warehouse) -> None:
    publication, table = night()
    warehouse.publish_predictions(publication, table)
    found = warehouse.prediction({"day": "2013-06-01", "parcel": table["parcel"][7].as_py()})
    assert found is not None
    assert found[0]["weight_kg"] == pytest.approx(1.0)
    assert found[1]["scores_uri"] == publication.scores.uri
    assert warehouse.prediction({"day": "2013-06-01", "parcel": "none"}) is None
    assert warehouse.publication_of(DAY) == found[1]


def test_the_latest_publication_is_of_the_newest_partition(warehouse: Warehouse) -> None:
    for number, version in ((3, "a"), (1, "b"), (3, "c")):
        warehouse.publish_predictions(*night(version=version, day=DAY + timedelta(days=number)))
    latest = warehouse.latest_publication()
    assert latest is not None
    assert (latest["prediction_date"], latest["model_version"]) == (DAY + timedelta(days=3), "model-c")


def test_rows_name_the_version_that_scored_them(warehouse: Warehouse) -> None:
    publication, table = night()
    versions = pa.array(["model-canary", *["model-a"] * 39])
    table = table.set_column(table.column_names.index("model_version"), "model_version", versions)
    assert warehouse.publish_predictions(publication, table)
    found = warehouse.prediction({"day": str(DAY), "parcel": table["parcel"][0].as_py()})
    assert found is not None
    assert (found[0]["model_version"], found[1]["model_version"]) == ("model-canary", "model-a")


def test_a_row_without_its_version_is_not_published(warehouse: Warehouse) -> None:
    publication, table = night()
    with pytest.raises(AuditFailed, match="model_version"):
        warehouse.publish_predictions(publication, table.drop_columns(["model_version"]))


@pytest.mark.parametrize("changed", ["model", "calibration", "scores"])
def test_the_publish_id_pins_what_was_published(changed: str) -> None:
    publication, _ = night()
    other = publication.model_copy(update={changed: artifact("other")})
    assert other.publish_id != publication.publish_id
    assert publication.model_copy(update={"run_id": "other"}).publish_id == publication.publish_id


def killed(partition: date) -> Deployment:
    return Deployment(partition=partition, action="killed", role="champion", decided_by="hand:ann")


def test_a_killed_partition_publishes_only_the_fallback(warehouse: Warehouse) -> None:
    publication, table = night()
    warehouse.record_deployment(killed(publication.partition - timedelta(days=1)))
    with pytest.raises(AuditFailed, match="kill switch"):
        warehouse.publish_predictions(publication, table)
    fallback = publication.model_copy(update={"role": "fallback"})
    versions = pa.array(["model-a"] * 39 + ["model-canary"])
    position = table.column_names.index("model_version")
    with pytest.raises(AuditFailed, match="nothing of model-a, model-canary was published"):
        warehouse.publish_predictions(fallback, table.set_column(position, "model_version", versions))
    assert published(warehouse) == []
    assert warehouse.publish_predictions(fallback, table)


def test_a_switch_of_the_same_partition_or_later_does_not_count(warehouse: Warehouse) -> None:
    publication, table = night()
    warehouse.record_deployment(killed(publication.partition))
    assert warehouse.publish_predictions(publication, table)


def test_publishing_and_killing_at_once_come_one_after_the_other(settings: Settings, warehouse: Warehouse) -> None:
    """While a decision is being recorded the publication waits, and then follows it."""
    publication, table = night()
    warehouse.migrate()
    with ThreadPoolExecutor(1) as pool:
        with warehouse_schema.connect(settings) as killing:
            warehouse_schema.lock(killing, warehouse._use_case.name, "deployments")
            publishing = pool.submit(warehouse.publish_predictions, publication, table)
            insert = (
                "INSERT INTO {} (partition, action, role, model_version, reason, decided_by) VALUES (%s, 'killed', "
            )
            insert += "'champion', '', '{{}}', 'hand:ann')"
            day = publication.partition - timedelta(days=1)
            killing.execute(sql.SQL(insert).format(warehouse.table("deployments")), [day])
            assert not publishing.done()
        with pytest.raises(AuditFailed, match="kill switch"):
            publishing.result()
    assert published(warehouse) == []


@pytest.mark.parametrize("change", ["UPDATE {} SET reason = '{{}}'", "DELETE FROM {}", "TRUNCATE {}"])
def test_deployments_are_append_only(warehouse: Warehouse, change: str) -> None:
    warehouse.record_deployment(killed(DAY))
    with pytest.raises(errors.RestrictViolation, match="append-only"), warehouse.connection() as connection:
        connection.execute(sql.SQL(change).format(warehouse.table("deployments")))
    assert warehouse.decisions() == [killed(DAY)]


def test_gates_and_monitoring_are_replaced_not_added(warehouse: Warehouse) -> None:
    gates = [
        GateResult(gate="log_loss", verdict="pass", observed=0.5, bound=0.51),
        GateResult(gate="fallback", verdict="not applicable", reason="none yet"),
    ]
    drift = {
        "drift": "data",
        "column_name": "weight_kg",
        "psi": 0.1,
        "threshold": None,
        "exceeds": False,
        "rows": 5,
        "verdict": "not judged",
        "model_version": "m",
        "comparison_uri": "s3://b/c/",
    }
    for _ in range(2):
        warehouse.record_gates(DAY, "m", gates)
        warehouse.record_drift(DAY, [drift, drift | {"column_name": "other"}])
    with warehouse.connection() as connection:
        for table, count in (("gate_results", 2), ("drift_daily", 2)):
            found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(warehouse.table(table))).fetchone()
            assert found == (count,)


def performance(known_on: date, *, log_loss: float = 0.5, role: str = "published") -> dict[str, Any]:
    row = {"partition": DAY - timedelta(days=1), "role": role, "spec_id": "s", "model_version": "m", "auc": None}
    return row | {
        "known_on": known_on, "rows": 5, "predictions": 9, "log_loss": log_loss, "brier": 0.2, "mean_score": 0.4,
        "label_rate": 0.3,
    }  # fmt: skip


def test_later_labels_replace_a_days_performance(warehouse: Warehouse) -> None:
    later = DAY + timedelta(days=3)
    first, corrected = performance(DAY), performance(later, log_loss=0.7)
    steps = [[first, performance(DAY, role="champion")], [first], [first], [corrected], [first], [corrected]]
    wrote = [warehouse.record_performance(DAY, rows) for rows in steps]
    # The same rows again, and a run that knows less than what is there, write nothing.
    assert wrote == [True, True, False, True, False, False]
    with warehouse.connection() as connection:
        query = sql.SQL("SELECT prediction_date, known_on, log_loss FROM {}").format(
            warehouse.table("performance_daily")
        )
        assert connection.execute(query).fetchall() == [(DAY, later, 0.7)]


def shadows(score: float, *, rows: int = 3) -> pa.Table:
    return pa.table(
        {
            "day": pa.array([DAY] * rows, pa.date32()),
            "parcel": [str(number) for number in range(rows)],
            "role": ["challenger"] * rows,
            "spec_id": ["s"] * rows,
            "model_version": ["m"] * rows,
            "raw_score": [score + number / 7 for number in range(rows)],
            "score": [score] * rows,
        }
    )


def test_a_partitions_shadows_are_replaced_as_a_whole(warehouse: Warehouse) -> None:
    steps = [shadows(0.1), shadows(0.1), shadows(0.2, rows=2), shadows(0.2, rows=0), shadows(0.2, rows=0)]
    wrote, counts = [], []
    for rows in steps:
        wrote.append(warehouse.record_shadow(DAY, rows))
        with warehouse.connection() as connection:
            query = sql.SQL("SELECT raw_score, score FROM {} ORDER BY parcel")
            counts.append(connection.execute(query.format(warehouse.table("shadow_predictions"))).fetchall())
    assert wrote == [True, False, True, True, False]
    assert [len(one) for one in counts] == [3, 3, 2, 0, 0]
    assert counts[2] == [(0.2, 0.2), (0.2 + 1 / 7, 0.2)]


def test_outcomes_keep_the_latest_delivery_in_any_order(warehouse: Warehouse) -> None:
    def delivered(parcels: list[str], labels: list[int]) -> pa.Table:
        return pa.table({"day": pa.array([DAY] * len(parcels), pa.date32()), "parcel": parcels, "came late": labels})

    deliveries = [(DAY, delivered(["a", "b"], [0, 1])), (DAY + timedelta(days=1), delivered(["b", "c"], [0, 1]))]
    found = []
    for order in (deliveries, deliveries[::-1], [*deliveries, *deliveries]):
        for partition, table in order:
            warehouse.record_outcomes(partition, table)
        with warehouse.connection() as connection:
            outcomes = warehouse.table("outcomes")
            query = sql.SQL('SELECT parcel, "came late", partition FROM {} ORDER BY parcel').format(outcomes)
            found.append(connection.execute(query).fetchall())
            connection.execute(sql.SQL("TRUNCATE {}").format(outcomes))
    later = DAY + timedelta(days=1)
    assert found == [[("a", 0, DAY), ("b", 0, later), ("c", 1, later)]] * 3


def test_an_unreachable_warehouse_names_the_host_and_no_password(settings: Settings, use_case: UseCase) -> None:
    away = settings.model_copy(
        update={"warehouse_url": type(settings.warehouse_url)("postgresql://u:hunter2@127.0.0.1:1/db")}
    )
    with pytest.raises(WarehouseUnavailable, match=r"127\.0\.0\.1:1/db") as caught:
        Warehouse(away, use_case).decisions()
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_a_configuration_error(settings: Settings, warehouse_url: str, use_case: UseCase) -> None:
    wrong = settings.model_copy(
        update={"warehouse_url": type(settings.warehouse_url)(warehouse_url.replace("/warehouse?", "/nowhere?"))}
    )
    with pytest.raises(ConfigurationError, match="nowhere"):
        Warehouse(wrong, use_case).decisions()


def test_a_lock_that_is_not_to_be_had_is_transient(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse_schema.connect(settings) as holder:
        warehouse_schema.lock(holder, use_case.name, "x")
        with (
            pytest.raises(WarehouseUnavailable, match="lock timeout"),
            warehouse_schema.connect(settings, lock_timeout_seconds=0.1) as waiter,
        ):
            warehouse_schema.lock(waiter, use_case.name, "x")


def test_the_connection_is_in_utc(settings: Settings) -> None:
    with warehouse_schema.connect(settings) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
        assert isinstance(connection, psycopg.Connection)
