"""What is said when MLflow refuses or does not answer."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE

from nightshift.errors import ConfigurationError, TrackingUnavailable
from nightshift.io import tracking
from nightshift.settings import Settings

URI = "https://ann:very@secret@mlflow.example:5000"


@pytest.mark.parametrize(
    ("code", "kind"), [(TEMPORARILY_UNAVAILABLE, TrackingUnavailable), (PERMISSION_DENIED, ConfigurationError)]
)
def test_an_error_of_mlflow_does_not_tell_the_password(code: int, kind: type[Exception]) -> None:
    from mlflow.exceptions import MlflowException

    settings = Settings(bucket="nowhere", warehouse_url="postgresql://nowhere/none", mlflow_tracking_uri=URI)
    with pytest.raises(kind) as told, tracking._connected(settings):
        raise MlflowException(f"API request to {URI}/api/2.0 failed", error_code=code)
    assert "secret" not in str(told.value)
    assert "API request to https://mlflow.example:5000/api/2.0 failed" in str(told.value)
    assert told.value.__suppress_context__
    assert told.value.__cause__ is None


@pytest.mark.parametrize("kind", [TrackingUnavailable, ConfigurationError])
def test_a_decision_that_took_effect_does_not_look_failed_when_mlflow_is_down(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def down(*_: Any) -> None:
        raise kind("MLflow did not answer.")

    monkeypatch.setattr(tracking, "_connected", down)
    anything: Any = None
    expected = (
        r"^The switch is on\. The decision is saved; the next run syncs the MLflow aliases\. MLflow did not answer\.$"
    )
    with pytest.raises(kind, match=expected):
        tracking.mirror_aliases(anything, anything, anything, "The switch is on.")
