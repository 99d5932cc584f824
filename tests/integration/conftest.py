"""A real S3 server and a real PostgreSQL for the tests in this folder, started once per session."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from nightshift.artifact import Attempt
from nightshift.declare.discovery import load_use_case
from nightshift.declare.policies import RiskPolicy
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.local.scratch import Services, running
from nightshift.settings import Settings, load_settings
from support.champions import Grown
from support.desk import Desk, new_desk
from support.history import History, empty_bucket
from support.nights import Nights
from support.parcels import parcels
from support.receiver import Receiver, receiving
from support.second_use_case import ROOT as SECOND_USE_CASE


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """SeaweedFS and PostgreSQL on free ports below a temporary folder; stopped and removed at the end."""
    # Not pytest's tmp_path: it is closed to other users, and root has to run PostgreSQL as another user.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-test-"))
    folder.chmod(0o711)
    try:
        with running(folder, databases=("warehouse", "airflow", "mlflow")) as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def warehouse_url(services: Services) -> str:
    """URL of an empty PostgreSQL database, shared by the session; use a schema of your own."""
    return services.postgres.place.url("warehouse")


@pytest.fixture(scope="session")
def service_environment(services: Services, warehouse_url: str) -> Iterator[dict[str, str]]:
    """Environment variables that point every client at the services, set for the whole session."""
    variables = services.s3_environment() | {
        "NIGHTSHIFT_ENVIRONMENT": "test",
        "NIGHTSHIFT_WAREHOUSE_URL": warehouse_url,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        load_settings.cache_clear()
        yield variables
    load_settings.cache_clear()


@pytest.fixture(scope="session")
def history(service_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> History:
    """Past partitions of the second use case, to copy; a test that asks for them has their bucket, empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHIFT_BUCKET", "test-history")
        patch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND_USE_CASE))
        load_settings.cache_clear()
        settings = load_settings()
        store = ArtifactStore(settings)
        store.ensure_bucket()
        use_case = replace(load_use_case("late_returns"), risk=RiskPolicy())
        # Each worker has a folder of its own in that of the run.
        folder = tmp_path_factory.getbasetemp()
        made = History.shared(
            Nights(use_case, settings, store), folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
        )
    load_settings.cache_clear()
    return made


@pytest.fixture
def settings(
    service_environment: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings of the test environment with a bucket of this test's own (also what `load_settings` returns)."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    if "history" in request.fixturenames:
        bucket = request.getfixturevalue("history").bucket
    monkeypatch.setenv("NIGHTSHIFT_BUCKET", bucket)
    load_settings.cache_clear()
    return load_settings()


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    """An artifact store on an empty bucket of this test's own."""
    made = ArtifactStore(settings)
    made.ensure_bucket()
    empty_bucket(made)
    return made


@pytest.fixture
def empty_registry(services: Services) -> SecretStr:
    """URL of a registry of Feast in a database of this test's own, empty at first."""
    name = f"registry_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(services.postgres.place.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return SecretStr(services.postgres.place.url(name))


@pytest.fixture
def late_returns(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    """The second use case, under a warehouse schema of this test's own."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND_USE_CASE))
    yield load_use_case("late_returns")
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS late_returns CASCADE")


@pytest.fixture
def nights(late_returns: UseCase, settings: Settings, store: ArtifactStore, history: History) -> Nights:
    """The second use case with nothing delivered yet, without the risk that demands approval of a champion."""
    return Nights(replace(late_returns, risk=RiskPolicy()), settings, store)


@pytest.fixture
def untrained_nights(late_returns: UseCase, settings: Settings, store: ArtifactStore) -> Nights:
    """The second use case with nothing delivered yet; unlike `nights`, it needs no history."""
    return Nights(late_returns, settings, store)


@pytest.fixture
def trained_nights(nights: Nights, history: History) -> Nights:
    """The second use case after the training of `history.TRAINED`, the first one."""
    history.copy_trained(nights)
    return nights


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore) -> Iterator[Desk]:
    """The second use case without training and Feast, under a name of this test's own."""
    with new_desk(monkeypatch, settings, store) as made:
        yield made


@pytest.fixture
def grown(desk: Desk) -> Grown:
    """A desk with three champions one after another."""
    return Grown(desk)


@pytest.fixture
def in_a_run() -> Iterator[None]:
    """As inside one run of the orchestrator."""
    token = CURRENT_ATTEMPT.set(Attempt(dag_id="rollback_model", run_id="manual__1", task_id="rollback_model"))
    yield
    CURRENT_ATTEMPT.reset(token)


@pytest.fixture
def use_case(settings: Settings) -> Iterator[UseCase]:
    """A use case that needs no more than a warehouse, under a name of this test's own."""
    with parcels(settings) as made:
        yield made


@pytest.fixture
def warehouse(settings: Settings, use_case: UseCase) -> Warehouse:
    """The warehouse of `use_case`, still empty."""
    return Warehouse(settings, use_case)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of alerts on a port of its own."""
    with receiving() as started:
        yield started
