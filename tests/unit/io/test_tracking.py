"""What is said when MLflow refuses or does not answer."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE

from nightshift.errors import ConfigurationError, NightshiftError, TrackingUnavailable
from nightshift.io import tracking
from nightshift.settings import Settings
from support.errors import raises_code

URI = "https://ann:very@secret@mlflow.example:5000"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (TEMPORARILY_UNAVAILABLE, TrackingUnavailable, "NS-STORE-007"),
        (PERMISSION_DENIED, ConfigurationError, "NS-STORE-006"),
    ],
)
def test_an_error_of_mlflow_does_not_tell_the_password(answer: int, kind: type[NightshiftError], code: str) -> None:
    from mlflow.exceptions import MlflowException

    settings = Settings(bucket="nowhere", warehouse_url="postgresql://nowhere/none", mlflow_tracking_uri=URI)
    with raises_code(kind, code, "https://mlflow.example:5000/api/2.0") as told, tracking._connected(settings):
        raise MlflowException(f"API request to {URI}/api/2.0 failed", error_code=answer)
    assert "secret" not in str(told.value)
    assert told.value.__suppress_context__
    assert told.value.__cause__ is None


@pytest.mark.parametrize(
    ("artifact_uri", "rejected"),
    [
        ("mlflow-artifacts:/7/abc/artifacts", False),
        ("s3://of-mlflow/7/abc/artifacts", False),
        ("s3://nightshift/landing/flight_delay/planes/dt=2013-01-01/abc/artifacts", True),
        ("mlflow-artifacts://elsewhere:5000/7/abc/artifacts", True),
        ("file:///etc/abc/artifacts", True),
        ("/etc/abc/artifacts", True),
    ],
)
def test_files_go_where_no_server_writes_with_the_pipelines_credentials(artifact_uri: str, rejected: bool) -> None:
    """Whoever reaches MLflow can set the artifact location of an experiment."""
    settings = Settings(bucket="nightshift", warehouse_url="postgresql://nowhere/none", mlflow_tracking_uri=URI)
    if rejected:
        with raises_code(ConfigurationError, "NS-STORE-021", artifact_uri):
            tracking._check_artifact_uri(settings, artifact_uri)
    else:
        tracking._check_artifact_uri(settings, artifact_uri)


def test_server_that_never_answers_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.QUIET.keys() >= {"MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(bucket="nowhere", warehouse_url="postgresql://nowhere/none", mlflow_tracking_uri=uri)
        with raises_code(TrackingUnavailable, "NS-STORE-007", uri), tracking._connected(settings) as client:
            assert client is not None
            client.get_experiment("0")


def test_request_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # One whose answer is an error may have been done: sent again, it would create a second run.
    received: list[str] = []

    class Failing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.path)
            self.send_error(500)

        def log_message(self, *_: Any) -> None:
            pass

    for name in tracking.QUIET:
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        settings = Settings(bucket="nowhere", warehouse_url="postgresql://nowhere/none", mlflow_tracking_uri=uri)
        with raises_code(TrackingUnavailable, "NS-STORE-007", uri), tracking._connected(settings) as client:
            assert client is not None
            client.create_run("0")
        server.shutdown()
    assert received == ["/api/2.0/mlflow/runs/create"]


@pytest.mark.parametrize("kind", [TrackingUnavailable, ConfigurationError])
def test_decision_stays_successful_when_mlflow_is_down(
    monkeypatch: pytest.MonkeyPatch, kind: type[NightshiftError]
) -> None:
    def down(*_: Any) -> None:
        raise kind("NS-TEST-001", "MLflow is down.")

    monkeypatch.setattr(tracking, "_connected", down)
    anything: Any = None
    with raises_code(kind, "NS-TEST-001", "MLflow is down.") as told:
        tracking.mirror_aliases(anything, anything, anything, "The switch is on.")
    assert told.value.message.startswith("The switch is on. ")
