"""Predictions in the warehouse: published whole or not at all, once, and not against the kill switch."""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from psycopg import sql

from nightshift import cli
from nightshift.declare.use_case import UseCase
from nightshift.errors import AuditFailed, ConfigurationError, Superseded, WarehouseUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.publications import Publication
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings
from support.errors import raises_code
from support.parcels import DAY, artifact, calibrated, killed, night, published


def expected(publication: Publication, table: pa.Table) -> list[tuple[object, ...]]:
    assert set(table["model_version"].to_pylist()) == {publication.model_version}
    return [tuple(row.values()) for row in table.to_pylist()]


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
    current = next(iter(warehouse.publications(publication.partition, publication.partition)), None)
    assert current is not None
    assert current.publish_id == publication.publish_id
    with warehouse.connection() as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(warehouse.table("publications"))).fetchone()
    assert row == (len(set(order)),)


def test_publishers_side_by_side_leave_one_night(warehouse: Warehouse) -> None:
    warehouse.migrate()
    nights = [night(30 + i, version=version) for i, version in enumerate("abcabc")]
    with ThreadPoolExecutor(len(nights)) as pool:
        list(pool.map(lambda n: warehouse.publish_predictions(*n), nights))
    current = next(iter(warehouse.publications(DAY - timedelta(days=1), DAY - timedelta(days=1))), None)
    assert current is not None
    publication, table = next(n for n in nights if n[0].publish_id == current.publish_id)
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
        with warehouse_schema.connect(settings) as connection:
            connection.autocommit = True
            connection.execute("SET lock_timeout = '0.5s'")
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
    """One that has read predictions keeps its view, while a replacement, a new day and a new month are published."""
    warehouse.publish_predictions(*night(version="a"))
    query = sql.SQL("SELECT count(*), min(model_version) FROM {}").format(warehouse.table("predictions"))
    with warehouse_schema.connect(settings) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute(query).fetchone() == (40, "model-a")
        warehouse.publish_predictions(*night(25, version="b"))
        warehouse.publish_predictions(*night(30, version="c", day=DAY + timedelta(days=1)))
        warehouse.publish_predictions(*night(30, version="c", day=DAY + timedelta(days=31)))
        assert reader.execute(query).fetchone() == (40, "model-a")


@pytest.mark.parametrize("published_before", [False, True])
@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_what_is_no_probability_is_not_published(warehouse: Warehouse, score: float, published_before: bool) -> None:
    good = night(version="a")
    if published_before:
        warehouse.publish_predictions(*good)
    bad, table = night(version="b", score=score)
    with raises_code(AuditFailed, "NS-PUBLISH-009", "score_is_a_probability"):
        warehouse.publish_predictions(bad, table)
    assert published(warehouse) == (expected(*good) if published_before else [])


@pytest.mark.parametrize("published_before", [False, True])
def test_a_missing_or_doubled_row_is_not_published(warehouse: Warehouse, published_before: bool) -> None:
    good = night(version="a")
    if published_before:
        warehouse.publish_predictions(*good)
    publication, table = night(version="b")
    with raises_code(AuditFailed, "NS-PUBLISH-007", "39 rows"):
        warehouse.publish_predictions(publication, table.slice(1))
    with raises_code(AuditFailed, "NS-PUBLISH-009", 'parcel "1"'):
        warehouse.publish_predictions(publication, pa.concat_tables([table.slice(1), table.slice(1, 1)]))
    assert published(warehouse) == (expected(*good) if published_before else [])


@pytest.mark.parametrize("published_before", [False, True])
def test_a_row_without_a_score_is_not_published(warehouse: Warehouse, published_before: bool) -> None:
    good = night(version="a")
    if published_before:
        warehouse.publish_predictions(*good)
    publication, table = night(version="b")
    nulls = pa.array([None, *table["p late"].to_pylist()[1:]], pa.float64())
    with raises_code(AuditFailed, "NS-PUBLISH-009", "p late"):
        warehouse.publish_predictions(publication, table.set_column(4, "p late", nulls))
    assert published(warehouse) == (expected(*good) if published_before else [])


def test_two_partitions_cannot_predict_one_day(warehouse: Warehouse) -> None:
    good = night()
    warehouse.publish_predictions(*good)
    publication, table = night(version="b")
    with raises_code(ConfigurationError, "NS-PUBLISH-008"):
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
    assert found.columns["weight_kg"] == pytest.approx(1.0)
    assert found.publication.scores.uri == publication.scores.uri
    assert warehouse.prediction({"day": "2013-06-01", "parcel": "none"}) is None
    assert warehouse.publication_of(DAY) == found.publication


def test_the_latest_publication_is_of_the_newest_partition(warehouse: Warehouse) -> None:
    for number, version in ((3, "a"), (1, "b"), (3, "c")):
        warehouse.publish_predictions(*night(version=version, day=DAY + timedelta(days=number)))
    latest = warehouse.latest_publication()
    assert latest is not None
    assert (latest.prediction_date, latest.model_version) == (DAY + timedelta(days=3), "model-c")


def test_newest_partition_of_a_time_stays_the_same(warehouse: Warehouse) -> None:
    """A run that is tried again takes the partition that it took first."""
    before = datetime.now(UTC)
    assert warehouse.newest_published(before) is None
    publication, table = night()
    warehouse.publish_predictions(publication, table)
    triggered = datetime.now(UTC)
    warehouse.publish_predictions(*night(version="b"))
    warehouse.publish_predictions(*night(day=DAY + timedelta(days=1)))
    assert warehouse.newest_published(triggered) == publication.partition
    assert warehouse.newest_published(datetime.now(UTC)) == publication.partition + timedelta(days=1)
    assert warehouse.newest_published(before) is None


def test_rows_name_the_version_that_scored_them(warehouse: Warehouse) -> None:
    publication, table = night()
    versions = pa.array(["model-canary", *["model-a"] * 39])
    table = table.set_column(table.column_names.index("model_version"), "model_version", versions)
    assert warehouse.publish_predictions(publication, table)
    found = warehouse.prediction({"day": str(DAY), "parcel": table["parcel"][0].as_py()})
    assert found is not None
    assert (found.model_version, found.publication.model_version) == ("model-canary", "model-a")


def test_a_row_without_its_version_is_not_published(warehouse: Warehouse) -> None:
    publication, table = night()
    with raises_code(AuditFailed, "NS-PUBLISH-006", "model_version"):
        warehouse.publish_predictions(publication, table.drop_columns(["model_version"]))


@pytest.mark.parametrize("changed", ["model", "calibration", "scores"])
def test_the_publish_id_pins_what_was_published(changed: str) -> None:
    publication, _ = night()
    other = publication.model_copy(update={changed: artifact("other")})
    assert other.publish_id != publication.publish_id
    assert publication.model_copy(update={"run_id": "other"}).publish_id == publication.publish_id


def test_what_is_checked_under_the_lock_stops_a_publication(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse_schema, "LOCK_TIMEOUT_SECONDS", 0.1)

    def superseded() -> None:
        with (
            raises_code(WarehouseUnavailable, "NS-WAREHOUSE-006"),
            warehouse_schema.connect(settings) as other,
        ):
            warehouse_schema.lock(other, warehouse._use_case.name, "publish", publication.partition.isoformat())
        raise Superseded("NS-TEST-001", "scored again")

    publication, table = night()
    with raises_code(Superseded, "NS-TEST-001"):
        warehouse.publish_predictions(publication, table, check=superseded)
    assert published(warehouse) == []


def test_a_killed_partition_publishes_only_the_fallback(warehouse: Warehouse) -> None:
    publication, table = night()
    warehouse.record_deployment(killed(publication.partition - timedelta(days=1)))
    with raises_code(AuditFailed, "NS-PUBLISH-005"):
        warehouse.publish_predictions(publication, table)
    fallback = publication.model_copy(update={"role": "fallback"})
    versions = pa.array(["model-a"] * 39 + ["model-canary"])
    position = table.column_names.index("model_version")
    with raises_code(AuditFailed, "NS-PUBLISH-005", "model-a, model-canary"):
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
        with raises_code(AuditFailed, "NS-PUBLISH-005"):
            publishing.result()
    assert published(warehouse) == []


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [(None, None, [0, 1, 2]), (1, None, [1, 2]), (None, 1, [0, 1]), (1, 1, [1])],
    ids=["no range", "from", "to", "both"],
)
def test_summary_shows_all_partitions_or_a_range(
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
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        publication, rows = night(day=day + timedelta(days=1))
        version = "2013-05-01-0123abcd"
        calibration = calibrated(store, use_case, day, intercept=day.day / 8)
        names = pa.array([version] * rows.num_rows)
        rows = rows.set_column(rows.schema.get_field_index("model_version"), "model_version", names)
        warehouse.publish_predictions(
            publication.model_copy(update={"model_version": version, "calibration": calibration}), rows
        )
    words = [f"--{name}={days[n]}" for name, n in (("from", first), ("to", last)) if n is not None]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main(["summary", *words]) == 0
    lines = [line.split() for line in printed.getvalue().splitlines() if line.startswith("2013")]
    assert [line[:3] for line in lines] == [[str(days[n]), str(days[n] + timedelta(days=1)), "40"] for n in shown]
    assert [line[7] for line in lines] == [f"{days[n].day / 8:.3f}" for n in shown]
