"""MLflow's aliases follow the decisions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from nightshift.core.model_life import Life, Trial

from nightshift.artifact import ArtifactRef
from nightshift.deployment import Deployment
from nightshift.io.tracking import mirror_aliases
from nightshift.settings import Settings
from nightshift.usecase import UseCase
from support.desk import late_returns

DAY = date(2020, 5, 1)


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    with late_returns(monkeypatch, settings) as made:
        yield made


def said(partition: int, action: str, version: str, by: str = "advance_model", **more: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "partition": DAY + timedelta(days=partition),
            "action": action,
            "role": "champion" if action in ("promoted", "rolled_back", "killed", "restored") else "challenger",
            "model_version": version,
            "model": ArtifactRef(uri=f"s3://bucket/{version}/", sha256=f"{version}-sha", kind="model"),
            "decided_by": by,
            **more,
        }
    )


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # mlflow 3.17's tables
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_aliases_say_what_the_decisions_say(settings: Settings, use_case: UseCase, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    a, b = said(0, "promoted", "a"), said(1, "shadow", "b")
    mirror_aliases(settings, use_case, Life(champion=a))  # before anything was ever registered
    client.create_registered_model(use_case.name)
    for version in "abc":
        tags = {"nightshift.model_sha256": f"{version}-sha", "nightshift.partition": str(DAY)}
        client.create_model_version(use_case.name, f"s3://bucket/{version}", tags=tags)

    def aliases() -> dict[str, str]:
        return {
            alias: "?abc"[int(number)] for alias, number in client.get_registered_model(use_case.name).aliases.items()
        }

    fallback = said(0, "bootstrap", "unregistered")
    lives = [
        (Life(champion=a, fallback=fallback), {"champion": "a"}),
        (Life(champion=a, trial=Trial(b, "canary", DAY, 0.1)), {"champion": "a", "challenger": "b"}),
        (Life(champion=b, trial=Trial(a, "standby", DAY)), {"champion": "b", "standby": "a"}),
        (Life(champion=b, former=(a,), retired=frozenset({f"{DAY}-a-sha"})), {"champion": "b"}),
        (Life(), {}),
    ]
    for life, expected in lives:
        for _ in range(2):
            mirror_aliases(settings, use_case, life)
            assert aliases() == expected
    stages = {v.version: v.tags.get("nightshift.stage") for v in client.search_model_versions()}
    assert {str(number): stage for number, stage in stages.items()} == {"1": "retired", "2": None, "3": None}
