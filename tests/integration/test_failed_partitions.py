"""A partition that fails, or never ran, holds up none of the later ones, and can be made good; on real services."""

from __future__ import annotations

import dataclasses
import socket
import time
import traceback
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql
from pydantic import SecretStr

from flight_delay import replay
from nightshift.artifact import ArtifactRef, Decision
from nightshift.declare.discovery import PROJECT_ROOT, load_use_case
from nightshift.deployment import Deployment
from nightshift.errors import ConfigurationError, NothingDelivered, PartitionNotReady, WarehouseUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast import feature_store, postgres_online_store
from nightshift.io.feast.feature_store import historical_features
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.curated import delivered_spine
from nightshift.services.night_before import UNDER_WAY, waits_for_an_hour
from nightshift.settings import Settings
from nightshift.steps.context import StepContext
from nightshift.steps.ingest import land
from nightshift.steps.materialize import build_features, load_online, publish_features
from nightshift.steps.operator import record_failure
from support.curated_flights import deliveries
from support.errors import raises_code

USE_CASE = load_use_case("flight_delay")
FIRST = USE_CASE.first_partition
DAYS = [FIRST + timedelta(days=n) for n in range(5)]
LOST = DAYS[2]
CURATED = deliveries(FIRST, len(DAYS))


def ingest(store: ArtifactStore, *partitions: date) -> None:
    for partition in partitions:
        files = {f"{feed}.parquet": rows for feed, rows in CURATED[partition].items()}
        store.commit(use_case=USE_CASE.name, step="publish", partition=partition, kind="curated", files=files)


def features(store: ArtifactStore, settings: Settings, partition: date, **arguments: bool) -> list[str]:
    """Publish a partition's features; the partitions they were built without."""
    built = build_features.run(StepContext(USE_CASE, settings, store, partition), **arguments)
    published = publish_features.run(StepContext(USE_CASE, settings, store, partition), features=built)
    assert store.current(USE_CASE.name, "publish_features", partition) == published
    return list(store.manifest(built).parameters["missing"])


def fail(store: ArtifactStore, settings: Settings, partition: date, stage: str, task: str, use_case=USE_CASE):
    return record_failure.run(
        StepContext(use_case, settings, store, partition), stage=stage, run_id="run-7", failed_tasks=[task]
    )


def test_a_partition_never_decided_is_waited_for_once(store: ArtifactStore, settings: Settings) -> None:
    ingest(store, *(day for day in DAYS if day != LOST))
    with raises_code(PartitionNotReady, "NS-CURATE-012", LOST):
        build_features.run(StepContext(USE_CASE, settings, store, DAYS[3]))
    assert features(store, settings, DAYS[3], allow_undecided=True) == [LOST.isoformat()]
    # The next partition goes on at once.
    assert features(store, settings, DAYS[4]) == [LOST.isoformat()]
    ingest(store, LOST)
    assert [features(store, settings, day) for day in DAYS[3:]] == [[], []]


def test_nights_of_the_past_wait_for_an_hour_if_the_night_before_is_under_way(
    store: ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, night, later, last = DAYS[:4]
    ingest(store, first, night)
    features(store, settings, first, allow_undecided=True)
    assert waits_for_an_hour(night, USE_CASE, store)
    assert not waits_for_an_hour(later, USE_CASE, store)
    fail(store, settings, night, "materialize", "build_features")
    # Nothing of a rejected partition is waited for, but of the one before it.
    assert waits_for_an_hour(later, USE_CASE, store)
    assert not waits_for_an_hour(last, USE_CASE, store)
    fail(store, settings, last, "materialize", "build_features")
    assert not waits_for_an_hour(DAYS[4], USE_CASE, store)
    clock = store.clock()
    monkeypatch.setattr(store, "clock", lambda: clock + UNDER_WAY)
    assert not waits_for_an_hour(night, USE_CASE, store)
    # Until the next cutoff its predictions are wanted with the models there are.
    next_cutoff = USE_CASE.cutoff(later)
    monkeypatch.setattr(store, "clock", lambda: next_cutoff - timedelta(seconds=1))
    assert not waits_for_an_hour(night, USE_CASE, store)
    monkeypatch.setattr(store, "clock", lambda: next_cutoff)
    assert waits_for_an_hour(night, USE_CASE, store)


def test_its_own_partition_is_never_missing(store: ArtifactStore, settings: Settings) -> None:
    ingest(store, *DAYS[:2])
    with raises_code(PartitionNotReady, "NS-CURATE-012", LOST):
        build_features.run(StepContext(USE_CASE, settings, store, LOST), allow_undecided=True)


@pytest.mark.parametrize(
    ("stage", "task", "deciding"),
    [
        ("ingest", "profile", "publish"),
        ("materialize", "build_features", "publish_features"),
        ("predict", "score", "publish_predictions"),
    ],
)
def test_a_failed_run_rejects_its_partition(
    stage: str, task: str, deciding: str, store: ArtifactStore, settings: Settings
) -> None:
    evidence = fail(store, settings, LOST, stage, task)
    rejected = Decision(status="rejected", ref=evidence, reason=f"failed: task {task}, run run-7")
    assert store.decision(USE_CASE.name, deciding, LOST) == rejected
    made = store.commit(use_case=USE_CASE.name, step=deciding, partition=LOST, kind="test", files={"a": b"1"})
    assert store.current(USE_CASE.name, deciding, LOST) == made
    fail(store, settings, LOST, stage, "another")
    assert store.current(USE_CASE.name, deciding, LOST) == made


def test_a_failed_ingest_is_left_out_of_later_features(store: ArtifactStore, settings: Settings) -> None:
    ingest(store, *(day for day in DAYS if day != LOST))
    fail(store, settings, LOST, "ingest", "validate")
    assert features(store, settings, DAYS[3]) == [LOST.isoformat()]


def test_a_failed_training_is_recorded_once(store: ArtifactStore, settings: Settings) -> None:
    use_case = dataclasses.replace(USE_CASE, name="failed_training")
    warehouse = Warehouse(settings, use_case)
    warehouse.migrate()
    for task in ("fit", "verify"):
        fail(store, settings, LOST, "train", task, use_case)
    [row] = warehouse.decisions()
    assert (row.action, row.role, row.model_version, row.decided_by) == ("failed", "champion", "none", "record_failure")
    assert row.reason["why"] == "failed: task fit, run run-7"
    assert warehouse.training_decided(LOST)


def test_spec_without_a_version_is_recorded(store: ArtifactStore, settings: Settings) -> None:
    use_case = dataclasses.replace(USE_CASE, name="failed_spec")
    warehouse = Warehouse(settings, use_case)
    warehouse.migrate()
    registered = Deployment(
        partition=LOST,
        action="registered",
        role="fallback",
        spec_id=use_case.fallback.spec_id,
        spec=use_case.fallback,
        model_version=f"{LOST}-00000000",
        model=ArtifactRef(uri="s3://bucket/version/", sha256="0" * 64, kind="version"),
        decided_by="register",
    )
    warehouse.record_deployment(registered)
    for _ in range(2):
        fail(store, settings, LOST, "train", "fit_0", use_case)
    _, row = warehouse.decisions()
    assert (row.action, row.role, row.spec_id) == ("failed", "champion", use_case.champion.spec_id)
    assert (row.model_version, row.decided_by) == ("none", "record_failure")
    state = warehouse.state_as_of(LOST + timedelta(days=1))
    assert state.primary is not None
    assert state.primary[1].model_version == registered.model_version


def test_published_data_outlives_its_landing_files(
    store: ArtifactStore, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for feed, dt, name, body in replay.deliveries(FIRST):
        store.put(f"landing/flight_delay/{feed}/dt={dt}/{name}", body)
    land.run(StepContext(USE_CASE, settings, store, FIRST), reject_undelivered=True)
    ingest(store, FIRST)
    published = store.decision(USE_CASE.name, "publish", FIRST)
    for info in store.list("landing/flight_delay/flights/"):
        store._client.delete_object(Bucket=store.bucket, Key=info.key)
    with raises_code(NothingDelivered, "NS-LAND-020", FIRST, "published"):
        land.run(StepContext(USE_CASE, settings, store, FIRST), reject_undelivered=True)
    assert store.decision(USE_CASE.name, "publish", FIRST) == published
    assert "although its landed files are gone" in caplog.text
    with raises_code(NothingDelivered, "NS-LAND-020", "dt=2013-01-03"):
        land.run(StepContext(USE_CASE, settings, store, LOST), reject_undelivered=True)
    decision = store.decision(USE_CASE.name, "publish", LOST)
    assert decision is not None
    assert decision.status == "rejected"


def test_loading_online_does_not_lock_out_reading(
    warehouse_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse_schema, "LOCK_TIMEOUT_SECONDS", 1)
    # With settings of its own, it is opened for the first time in this process.
    settings = settings.model_copy(update={"threads": 3})
    with feature_store.loading_online(USE_CASE, settings):
        assert feature_store.open_feature_store(USE_CASE, settings).project == USE_CASE.name
        with (
            raises_code(WarehouseUnavailable, "NS-WAREHOUSE-006", "nightshift/feast online/flight_delay"),
            feature_store.loading_online(USE_CASE, settings),
        ):
            pytest.fail("two at once")
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_the_lock_outlasts_the_limit_on_idle_transactions(
    warehouse_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{warehouse_url}&options=-c%20idle_in_transaction_session_timeout%3D100"
    monkeypatch.setattr(warehouse_schema, "connect", lambda *_, **__: psycopg.connect(url))
    with feature_store.loading_online(USE_CASE, settings):
        time.sleep(0.5)


def test_a_process_that_hangs_while_it_opens_feast_loses_its_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With settings of its own, it is opened for the first time in this process.
    settings = settings.model_copy(update={"threads": 5})
    with monkeypatch.context() as hanging:
        hanging.setattr(warehouse_schema, "IDLE_SECONDS", 1)
        hanging.setattr(feature_store, "_apply_if_changed", lambda *_: time.sleep(3))
        with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-005"):
            feature_store.open_feature_store(USE_CASE, settings)
    assert feature_store.open_feature_store(USE_CASE, settings).project == USE_CASE.name


def test_redis_that_never_answers_fails_loading_alone(
    store: ArtifactStore, settings: Settings, empty_registry: SecretStr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends within seconds, and what the night reads is read all the same."""
    monkeypatch.setattr(feature_store, "TIMEOUT_SECONDS", 1)
    ingest(store, FIRST)
    features(store, settings, FIRST)
    published = store.current(USE_CASE.name, "publish_features", FIRST)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = SecretStr(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        redis_store = {"feast_online_store": "redis", "redis_url": url, "feast_registry_url": empty_registry}
        away = settings.model_copy(update=redis_store)
        begun = time.monotonic()
        with pytest.raises(redis.exceptions.RedisError):
            load_online.run(StepContext(USE_CASE, away, store, FIRST), published=published)
        # With the tries of Redis' own client.
        assert time.monotonic() - begun < 60
        spine = delivered_spine(USE_CASE, store, FIRST, USE_CASE.scoring_spine).rows
        joined = historical_features(
            USE_CASE, away, store, USE_CASE.features.service, spine, partitions={FIRST: published}
        )
    assert joined.num_rows == spine.num_rows > 0


def test_locked_online_store_ends_loading(
    store: ArtifactStore,
    settings: Settings,
    warehouse_url: str,
    empty_registry: SecretStr,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_online_store, "LOCK_TIMEOUT_SECONDS", 1)
    fresh = settings.model_copy(update={"feast_registry_url": empty_registry})
    ingest(store, FIRST)
    features(store, settings, FIRST)
    published = store.current(USE_CASE.name, "publish_features", FIRST)
    feature_store.open_feature_store(USE_CASE, fresh)
    with psycopg.connect(warehouse_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'feast_online'").fetchall()
        for (name,) in tables:
            connection.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier("feast_online", name)))
        assert tables
        with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-005", "lock timeout"):
            load_online.run(StepContext(USE_CASE, fresh, store, FIRST), published=published)


def test_unusable_feast_settings_are_named_without_their_values(settings: Settings, tmp_path: Path) -> None:
    # Without a type, Feast takes its own online store, which has no URL.
    text = (PROJECT_ROOT / "feature_repo" / "feature_store.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "PostgresUrlOnlineStore" not in line]
    (tmp_path / "feature_store.yaml").write_text("\n".join(lines), encoding="utf-8")
    with raises_code(ConfigurationError, "NS-FEATURE-013", "feature_store.yaml", "url: Extra inputs") as caught:
        feature_store._open(USE_CASE.name, tmp_path / "definitions.py", settings)
    assert settings.warehouse_url.get_secret_value() not in "".join(traceback.format_exception(caught.value))
