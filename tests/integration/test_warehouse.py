from __future__ import annotations

import contextlib
import io
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

from nightshift import cli
from nightshift.artifact import ArtifactRef
from nightshift.deployment import Deployment, GateResult
from nightshift.errors import AuditFailed, ConfigurationError, WarehouseUnavailable
from nightshift.io import warehouse_schema
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.publications import Publication
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import Column, CompressionBudget, FeatureSet, UseCase

DAY = date(2013, 6, 1)


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
        }
    )
    publication = Publication(
        partition=day - timedelta(days=1),
        prediction_date=day,
        model_version=f"model-{version}",
        role="champion",
        model=artifact(f"model-{version}"),
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
    return [(*row.values(), publication.model_version) for row in table.to_pylist()]


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


def deployment(
    partition: int, action: str = "promoted", role: str = "champion", model: str = "m", *, by: str = "", **more: Any
) -> Deployment:
    return Deployment.model_validate(
        {
            "partition": date(2013, 5, partition),
            "action": action,
            "role": role,
            "model_version": model,
            "model": None if action == "failed" else artifact(model),
            "reason": {"log_loss": 0.5},
            **more,
            "decided_by": by or {"bootstrap": "register_fallback", "failed": "train"}.get(action, "register"),
        }
    )


def test_champion_and_fallback_as_of_a_partition(warehouse: Warehouse) -> None:
    assert warehouse.champion_as_of(date(2013, 5, 31)) is None
    for one in (
        deployment(1, "bootstrap", "fallback", "f"),
        deployment(10, model="m10"),
        deployment(20, model="m20"),
        deployment(21, "rejected", model="m21"),
        deployment(15, model="m15"),
    ):
        assert warehouse.record_deployment(one)
    versions = {}
    for day in (10, 11, 16, 21, 30):
        champion = warehouse.champion_as_of(date(2013, 5, day))
        versions[day] = champion and champion.model_version
    assert versions == {10: None, 11: "m10", 16: "m15", 21: "m20", 30: "m20"}
    assert warehouse.fallback_as_of(date(2013, 5, 1)) == deployment(1, "bootstrap", "fallback", "f")
    assert warehouse.fallback_as_of(date(2013, 4, 30)) is None
    assert warehouse.first_deployment() == deployment(1, "bootstrap", "fallback", "f")
    assert [warehouse.training_decided(date(2013, 5, day)) for day in (1, 10, 12, 21)] == [False, True, False, True]


def test_a_partition_trained_anew_and_rejected_gives_no_champion(warehouse: Warehouse) -> None:
    for one in (deployment(5, model="m5"), deployment(9, model="m9"), deployment(9, "rejected", model="m9b")):
        warehouse.record_deployment(one)
    champion = warehouse.champion_as_of(date(2013, 5, 20))
    assert champion is not None
    assert champion.model_version == "m5"
    warehouse.record_deployment(deployment(9, model="m9c"))
    champion = warehouse.champion_as_of(date(2013, 5, 20))
    assert champion is not None
    assert champion.model_version == "m9c"


def test_a_decision_is_recorded_once_and_a_later_one_counts(warehouse: Warehouse) -> None:
    first, second = deployment(5, model="m1"), deployment(5, model="m2")
    assert [warehouse.record_deployment(d) for d in (first, first, second, second, first)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert warehouse.champion_as_of(date(2013, 5, 6)) == first


def test_the_same_decision_from_many_at_once_is_one_row(warehouse: Warehouse) -> None:
    warehouse.migrate()
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(lambda _: warehouse.record_deployment(deployment(5)), range(6))) == 1


@pytest.mark.parametrize("change", ["UPDATE {} SET reason = '{{}}'", "DELETE FROM {}", "TRUNCATE {}"])
def test_deployments_are_append_only(warehouse: Warehouse, change: str) -> None:
    warehouse.record_deployment(deployment(5))
    with pytest.raises(errors.RestrictViolation, match="append-only"), warehouse.connection() as connection:
        connection.execute(sql.SQL(change).format(warehouse.table("deployments")))
    assert warehouse.champion_as_of(date(2013, 5, 6)) == deployment(5)


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
        Warehouse(away, use_case).champion_as_of(DAY)
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_a_configuration_error(settings: Settings, warehouse_url: str, use_case: UseCase) -> None:
    wrong = settings.model_copy(
        update={"warehouse_url": type(settings.warehouse_url)(warehouse_url.replace("/warehouse?", "/nowhere?"))}
    )
    with pytest.raises(ConfigurationError, match="nowhere"):
        Warehouse(wrong, use_case).champion_as_of(DAY)


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


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [(None, None, [0, 1, 2]), (1, None, [1, 2]), (None, 1, [0, 1]), (1, 1, [1])],
    ids=["all", "from", "to", "from and to"],
)
def test_the_summary_shows_all_nights_or_those_of_a_range(
    store: ArtifactStore,
    use_case: UseCase,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    first: int | None,
    last: int | None,
    shown: list[int],
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_LOCAL_DIR", str(tmp_path))  # no Airflow there to ask for seconds
    monkeypatch.setattr(cli, "load_use_case", lambda _: use_case)
    warehouse.migrate()
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        warehouse.publish_predictions(*night(day=day + timedelta(days=1)))
    words = [f"--{name}={days[n]}" for name, n in (("from", first), ("to", last)) if n is not None]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(["summary", *words]) == 0
    nights = [line.split()[:3] for line in said.getvalue().splitlines() if line.startswith("2013")]
    assert nights == [[str(days[n]), str(days[n] + timedelta(days=1)), "40"] for n in shown]
