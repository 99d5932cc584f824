"""A real S3 server and a real PostgreSQL for the tests in this folder, started once per session."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings, load_settings
from support.servers import Services, running


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
    return services.postgres.url("warehouse")


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


@pytest.fixture
def settings(service_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of the test environment with a bucket of this test's own (also what `load_settings` returns)."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("NIGHTSHIFT_BUCKET", bucket)
    load_settings.cache_clear()
    return load_settings()


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    """An artifact store on an empty bucket of this test's own."""
    made = ArtifactStore(settings)
    made.ensure_bucket()
    return made
