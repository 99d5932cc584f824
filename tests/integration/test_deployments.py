"""Decisions in the warehouse, who wins when two are taken at once, and MLflow's view of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from psycopg import errors, sql

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import Challenge, State, Version
from nightshift.deployment import Action, Deployment, Role
from nightshift.errors import ChampionChanged
from nightshift.io.tracking import mirror_aliases
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase
from support.desk import late_returns

DAY = date(2020, 5, 1)


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    with late_returns(monkeypatch, settings) as made:
        yield made


@pytest.fixture
def warehouse(settings: Settings, use_case: UseCase) -> Warehouse:
    return Warehouse(settings, use_case)


def ref(name: str) -> ArtifactRef:
    return ArtifactRef(uri=f"s3://bucket/{name}/", sha256=f"{name}-sha", kind="version")


def decide(partition: int, action: str, spec_id: str, by: str = "advance", **more: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "partition": DAY + timedelta(days=partition),
            "action": action,
            "role": "champion" if action in ("promoted", "rolled_back", "killed", "restored") else "challenger",
            "spec_id": spec_id,
            "decided_by": by,
            **more,
        }
    )


def champion(warehouse: Warehouse, after: int) -> str | None:
    return warehouse.state_as_of(DAY + timedelta(days=after + 1)).champion


@pytest.mark.parametrize("expected", ["a", None])
def test_of_promotions_at_once_one_wins(warehouse: Warehouse, expected: str | None) -> None:
    warehouse.migrate()
    if expected:
        warehouse.record_deployment(decide(0, "promoted", expected, "register"))
    for round_ in range(1, 6):
        before = champion(warehouse, round_)
        ready = threading.Barrier(3)

        def promote(made: Deployment, before: str | None = before, ready: threading.Barrier = ready) -> str:
            ready.wait()
            try:
                warehouse.record_deployment(made, expected_champion=before)
            except ChampionChanged as error:
                return str(error)
            return "won"

        rivals = [decide(round_, "promoted", f"{who}{round_}", f"hand:{who}") for who in "xyz"]
        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(promote, rivals))
        assert outcomes.count("won") == 1
        winner = rivals[outcomes.index("won")].spec_id
        assert champion(warehouse, round_) == winner
        for outcome in outcomes:
            assert outcome == "won" or (f"champion {before or 'none'}, but" in outcome and winner in outcome)


@pytest.mark.parametrize("person_first", [False, True])
def test_step_and_person_at_once(warehouse: Warehouse, person_first: bool) -> None:
    warehouse.record_deployment(decide(0, "promoted", "a", "register"))
    pair = [decide(3, "promoted", "b"), decide(3, "rolled_back", "z", "hand:ann")]
    first, second = reversed(pair) if person_first else pair
    assert warehouse.record_deployment(first, expected_champion="a")
    with pytest.raises(ChampionChanged, match="Nothing was recorded"):
        warehouse.record_deployment(second, expected_champion="a")
    assert champion(warehouse, 3) == first.spec_id
    assert len(warehouse.decisions()) == 2


def test_step_does_not_conflict_with_itself(warehouse: Warehouse) -> None:
    warehouse.record_deployment(decide(0, "promoted", "a", "register"))
    assert warehouse.record_deployment(decide(3, "promoted", "b"), expected_champion="a")
    assert not warehouse.record_deployment(decide(3, "promoted", "b"), expected_champion="a")
    # Reviewed again, the step decides otherwise about the partition: that replaces its decision.
    assert warehouse.record_deployment(decide(3, "promoted", "c"), expected_champion="a")
    assert champion(warehouse, 3) == "c"


def test_expected_champion_that_is_none(warehouse: Warehouse) -> None:
    with pytest.raises(ChampionChanged, match=r"champion a, but the champion is none by now\. Nothing"):
        warehouse.record_deployment(decide(3, "promoted", "b"), expected_champion="a")
    assert warehouse.record_deployment(decide(3, "promoted", "b"))


def test_answer_and_what_follows_together_or_not_at_all(warehouse: Warehouse) -> None:
    both = [decide(3, "approved", "b", "record_approval"), decide(3, "promoted", "b", "record_approval")]
    with pytest.raises(ChampionChanged):
        warehouse.record_deployments(both, expected_champion="a")
    assert warehouse.decisions() == []
    assert warehouse.record_deployments(both, expected_champion=None)
    assert not warehouse.record_deployments(both, expected_champion=None)
    assert warehouse.decisions() == both
    assert champion(warehouse, 3) == "b"


def test_person_repeats_one_row(warehouse: Warehouse) -> None:
    kill, restore = decide(3, "killed", "a", "hand:ann"), decide(3, "restored", "a", "hand:ann")
    assert [warehouse.record_deployment(one) for one in (kill, kill, restore, kill)] == [True, False, True, True]


def test_training_is_decided_by_training_alone(warehouse: Warehouse) -> None:
    steps = {"register": "rejected", "record_failure": "failed", "advance": "held", "hand:ann": "killed"}
    for number, (by, action) in enumerate(steps.items()):
        warehouse.record_deployment(decide(number, action, "m", by))
    decided = [warehouse.training_decided(DAY + timedelta(days=number)) for number in range(5)]
    assert decided == [True, True, False, False, False]


@pytest.mark.parametrize("action", ["shadow", "canary", "promoted", "rolled_back"])
def test_decision_about_a_spec_names_it(warehouse: Warehouse, action: str) -> None:
    with pytest.raises(errors.CheckViolation, match="deployments_name_a_spec"):
        warehouse.record_deployment(decide(1, action, ""))


def test_registration_names_its_artifact(warehouse: Warehouse) -> None:
    with pytest.raises(errors.CheckViolation, match="deployments_registered_has_model"):
        warehouse.record_deployment(decide(1, "registered", "m", "register"))


def test_every_action_and_role_can_be_recorded(warehouse: Warehouse) -> None:
    made = [decide(n, action, "m", model=ref("m")) for n, action in enumerate(get_args(Action))]
    made += [decide(50 + n, "held", "m", role=role) for n, role in enumerate(get_args(Role))]
    for one in made:
        assert warehouse.record_deployment(one)
    assert warehouse.decisions() == made


def test_rows_cannot_be_changed(warehouse: Warehouse) -> None:
    warehouse.record_deployment(decide(0, "promoted", "a", "register"))
    for statement in ("UPDATE {} SET spec_id = 'b'", "DELETE FROM {}"):
        query = sql.SQL(statement).format(warehouse.table("deployments"))  # type: ignore[arg-type]
        with pytest.raises(errors.Error, match="append-only"), warehouse.connection() as connection:
            connection.execute(query)


# MLflow


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
    mirror_aliases(settings, use_case, State(champion="a", versions=versions))  # before anything was registered
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
            mirror_aliases(settings, use_case, replace(state, versions=versions))
            assert aliases() == expected
    stages = {v.version: v.tags.get("nightshift.stage") for v in client.search_model_versions()}
    assert {str(number): stage for number, stage in stages.items()} == {"1": "retired", "2": None, "3": None}
