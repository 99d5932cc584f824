"""MLflow's aliases follow the state that the decisions lead to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import Challenge, State, Version
from nightshift.declare.use_case import UseCase
from nightshift.io.tracking import mirror_aliases
from nightshift.settings import Settings
from support.desk import late_returns

DAY = date(2020, 5, 1)


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    with late_returns(monkeypatch, settings) as made:
        yield made


def ref(name: str) -> ArtifactRef:
    return ArtifactRef(uri=f"s3://bucket/{name}/", sha256=f"{name}-sha", kind="version")


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # mlflow 3.17's tables
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_aliases(settings: Settings, use_case: UseCase, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    versions = {name: (Version(name, f"{DAY}-{name}-sha", ref(name), DAY),) for name in "abcx"}
    mirror_aliases(
        settings, use_case, State(champion="a", versions=versions), "Done."
    )  # before anything was registered
    client.create_registered_model(use_case.name)
    for name in "abc":
        tags = {"nightshift.model_sha256": f"{name}-sha", "nightshift.partition": str(DAY)}
        client.create_model_version(use_case.name, f"s3://bucket/{name}", tags=tags)

    def aliases() -> dict[str, str]:
        named = client.get_registered_model(use_case.name).aliases
        return {alias: "?abc"[int(number)] for alias, number in named.items()}

    states = [
        (State(champion="a", fallback="x"), {"champion": "a"}),
        (State(champion="a", challenge=Challenge("b", "canary", DAY, 0.1)), {"champion": "a", "challenger": "b"}),
        (State(champion="b", former=("a",), watched_since=DAY), {"champion": "b", "former": "a"}),
        (State(champion="b", former=("a",), retired=frozenset({f"{DAY}-a-sha"})), {"champion": "b"}),
        (State(), {}),
    ]
    for state, expected in states:
        for _ in range(2):
            mirror_aliases(settings, use_case, replace(state, versions=versions), "Done.")
            assert aliases() == expected
            # A retirement may be annulled.
            tagged = [v for v in client.search_model_versions() if v.tags.get("nightshift.stage") == "retired"]
            assert [str(one.version) for one in tagged] == ["1"] * len(state.retired)
