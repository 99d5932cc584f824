"""Preflight against real services, and what it says of services that are missing or misconfigured."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from nightshift.io.artifact_store import ArtifactStore
from nightshift.services import preflight
from nightshift.settings import Settings


@pytest.fixture
def mlflow() -> Iterator[str]:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def failed(settings: Settings) -> dict[str, str]:
    return {check.name: check.detail for check in preflight.check(settings, []) if not check.ok}


def test_real_services_have_all_it_takes(settings: Settings, store: ArtifactStore, mlflow: str) -> None:
    settings = settings.model_copy(update={"mlflow_tracking_uri": mlflow.replace("//", "//u:hunter2@")})
    checks = preflight.check(settings, [])
    assert [check for check in checks if not check.ok] == []
    assert "hunter2" not in str(checks)
    assert store.list("preflight/") == []


def test_a_missing_bucket_is_named(settings: Settings, mlflow: str) -> None:
    found = failed(settings.model_copy(update={"bucket": "nowhere-at-all", "mlflow_tracking_uri": mlflow}))
    assert list(found) == ["object store bucket"]
    assert "'nowhere-at-all': create it" in found["object store bucket"]


def test_everything_that_is_down_is_named_at_once(settings: Settings, store: ArtifactStore) -> None:
    found = failed(
        settings.model_copy(
            update={
                "s3_endpoint_url": "http://127.0.0.1:1",
                "warehouse_url": SecretStr("postgresql://u:hunter2@127.0.0.1:1/db"),
                "feast_online_store": "redis",
                "redis_url": SecretStr("redis://:hunter2@127.0.0.1:1"),
                "mlflow_tracking_uri": "http://u:hunter2@127.0.0.1:1",
                "alert_urls": SecretStr("pigeon://hunter2/path"),
            }
        )
    )
    assert list(found) == [
        "object store bucket", "warehouse", "feast online store (redis)", "mlflow", "receivers of alerts"
    ]  # fmt: skip
    assert "NS-ALERT-001" in found["receivers of alerts"]
    assert "hunter2" not in "".join(found.values())


def test_missing_credentials_are_named(
    settings: Settings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    assert "set AWS_ACCESS_KEY_ID" in failed(settings)["object store credentials"]


def test_wrong_credentials_are_named(settings: Settings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "denied" in failed(settings)["object store bucket"]


def test_a_store_that_ignores_conditions_is_found_out(
    settings: Settings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preflight.s3_client

    def careless(*address: Any, **config: Any) -> Any:
        client = real(*address, **config)
        put = client.put_object
        client.put_object = lambda **given: put(**{k: v for k, v in given.items() if k != "IfNoneMatch"})  # type: ignore[method-assign]
        return client

    monkeypatch.setattr(preflight, "s3_client", careless)
    assert "8 of 8 writers" in failed(settings)["object store conditional put"]


def test_a_clock_that_is_off_is_found_out() -> None:
    with pytest.raises(preflight._Missing, match="300 s apart"):
        preflight._skew(datetime.now(UTC) - timedelta(minutes=5), "the object store")
