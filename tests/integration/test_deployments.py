"""Decisions in the warehouse, and which one counts when two are recorded at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from psycopg import errors, sql

from nightshift.artifact import ArtifactRef
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Action, Deployment, Role
from nightshift.errors import ChampionChanged, ConfigurationError
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings
from support.desk import late_returns
from support.errors import raises_code

DAY = date(2020, 5, 1)


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    with late_returns(monkeypatch, settings) as made:
        yield made


def decision(partition: int, action: str, spec_id: str, by: str = "advance", **more: Any) -> Deployment:
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


def registered(partition: int, spec_id: str, role: str = "champion") -> Deployment:
    model = ArtifactRef(uri=f"s3://bucket/{spec_id}/", sha256=f"{spec_id}-{partition}", kind="version")
    version = {"model": model, "model_version": f"{spec_id}-{partition}", "role": role}
    return decision(partition, "registered", spec_id, "register", **version)


def numbered(decisions: Sequence[Deployment]) -> list[Deployment]:
    """As they are read from the warehouse."""
    return [one.model_copy(update={"deployment_id": number}) for number, one in enumerate(decisions, start=1)]


def champion(warehouse: Warehouse, after: int) -> str | None:
    return warehouse.state_as_of(DAY + timedelta(days=after + 1)).champion


# Compare and swap


@pytest.mark.parametrize("expected", ["a", None])
def test_of_two_promotions_at_once_one_is_recorded(warehouse: Warehouse, expected: str | None) -> None:
    warehouse.migrate()
    if expected:
        warehouse.record_deployment(decision(0, "promoted", expected, "register"))
    for round_ in range(1, 6):
        before = champion(warehouse, round_)
        ready = threading.Barrier(3)

        def promote(made: Deployment, before: str | None = before, ready: threading.Barrier = ready) -> str:
            ready.wait()
            try:
                warehouse.record_deployment(made, expected_champion=before)
            except ChampionChanged as error:
                return str(error)
            return "recorded"

        rivals = [decision(round_, "promoted", f"{who}{round_}", f"hand:{who}") for who in "xyz"]
        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(promote, rivals))
        assert outcomes.count("recorded") == 1
        winner = rivals[outcomes.index("recorded")].spec_id
        assert champion(warehouse, round_) == winner
        for outcome in outcomes:
            assert outcome == "recorded" or (f"champion {before or 'none'}, but" in outcome and winner in outcome)


@pytest.mark.parametrize("step_first", [True, False])
def test_a_step_and_a_person_at_once_leave_one_decision(warehouse: Warehouse, step_first: bool) -> None:
    warehouse.record_deployment(decision(0, "promoted", "a", "register"))
    both = [decision(3, "promoted", "b"), decision(3, "rolled_back", "z", "hand:ann")]
    first, second = both if step_first else both[::-1]
    assert warehouse.record_deployment(first, expected_champion="a")
    with raises_code(ChampionChanged, "NS-DEPLOY-003", f"the champion is {champion(warehouse, 3)} by now"):
        warehouse.record_deployment(second, expected_champion="a")
    assert champion(warehouse, 3) == first.spec_id
    assert len(warehouse.decisions()) == 2


def test_a_repeated_promotion_is_no_conflict_with_itself(warehouse: Warehouse) -> None:
    warehouse.record_deployment(decision(0, "promoted", "a", "register"))
    assert warehouse.record_deployment(decision(3, "promoted", "b"), expected_champion="a")
    assert not warehouse.record_deployment(decision(3, "promoted", "b"), expected_champion="a")
    # Run again, the same step decides otherwise for the same partition: that replaces its decision.
    assert warehouse.record_deployment(decision(3, "promoted", "c"), expected_champion="a")
    assert champion(warehouse, 3) == "c"


def test_an_expected_champion_that_is_none(warehouse: Warehouse) -> None:
    with raises_code(ChampionChanged, "NS-DEPLOY-003", "none"):
        warehouse.record_deployment(decision(3, "promoted", "b"), expected_champion="a")
    assert warehouse.record_deployment(decision(3, "promoted", "b"))


def test_an_answer_and_its_promotion_are_recorded_together(warehouse: Warehouse) -> None:
    both = [decision(3, "approved", "b", "record_approval"), decision(3, "promoted", "b", "record_approval")]
    with raises_code(ChampionChanged, "NS-DEPLOY-003", "none"):
        warehouse.record_deployments(both, expected_champion="a")
    assert warehouse.decisions() == []
    assert warehouse.record_deployments(both, expected_champion=None)
    assert warehouse.decisions() == numbered(both)


def test_a_repeated_decision_by_hand_is_one_row(warehouse: Warehouse) -> None:
    kill, restore = decision(3, "killed", "", "hand:ann"), decision(3, "restored", "", "hand:ann")
    assert [warehouse.record_deployment(one) for one in (kill, kill, restore, kill)] == [True, False, True, True]


def test_the_same_decision_from_many_at_once_is_one_row(warehouse: Warehouse) -> None:
    warehouse.migrate()
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(lambda _: warehouse.record_deployment(registered(5, "a")), range(6))) == 1


# What is kept


def test_state_follows_from_the_rows(warehouse: Warehouse) -> None:
    spec = ModelSpec(name="trees", estimators=("xgboost",))
    rows = [
        registered(1, "f", role="fallback"),
        registered(1, spec.spec_id).model_copy(update={"spec": spec}),
        decision(1, "promoted", spec.spec_id, "register"),
        registered(4, spec.spec_id),
    ]
    warehouse.record_deployments(rows[:1])
    warehouse.record_deployments(rows[1:3])
    warehouse.record_deployments(rows[3:])
    assert warehouse.decisions() == numbered(rows)
    serving = {}
    for day in (1, 2, 4, 5):
        primary = warehouse.state_as_of(DAY + timedelta(days=day)).primary
        serving[day] = primary and primary[1].model_version
    assert serving == {1: None, 2: f"{spec.spec_id}-1", 4: f"{spec.spec_id}-1", 5: f"{spec.spec_id}-4"}
    assert warehouse.state_as_of(DAY + timedelta(days=2)).specs == {spec.spec_id: spec}


def test_only_the_training_decides_a_training(warehouse: Warehouse) -> None:
    for number, by in enumerate(("register", "record_failure", "advance", "hand:ann", "nominate")):
        warehouse.record_deployment(decision(number, "rejected" if number < 2 else "withdrawn", "m", by))
    decided = [warehouse.training_decided(DAY + timedelta(days=number)) for number in range(6)]
    assert decided == [True, True, False, False, False, False]


@pytest.mark.parametrize("action", ["registered", "shadow", "canary", "promoted", "rolled_back"])
def test_what_makes_a_spec_score_names_it(warehouse: Warehouse, action: str) -> None:
    model = ArtifactRef(uri="s3://bucket/m/", sha256="m", kind="version")
    with pytest.raises(errors.CheckViolation, match="deployments_name_a_spec"):
        warehouse.record_deployment(decision(1, action, "", model=model))


def test_a_registered_version_has_an_artifact(warehouse: Warehouse) -> None:
    with pytest.raises(errors.CheckViolation, match="deployments_registered_has_model"):
        warehouse.record_deployment(registered(1, "a").model_copy(update={"model": None}))


def test_every_action_and_role_can_be_recorded(warehouse: Warehouse) -> None:
    model = ArtifactRef(uri="s3://bucket/m/", sha256="m", kind="version")
    # An annulment names another decision: tests/integration/test_annul_decision.py.
    actions = [action for action in get_args(Action) if action != "annulled"]
    rows = [decision(n, action, "m", model=model) for n, action in enumerate(actions)]
    rows += [decision(50 + n, "held", "m", role=role) for n, role in enumerate(get_args(Role))]
    for row in rows:
        assert warehouse.record_deployment(row)
    assert warehouse.decisions() == numbered(rows)


# A schema of an earlier version


@pytest.mark.parametrize("with_models", [False, True])
def test_a_schema_of_before_specs(
    settings: Settings, use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_models: bool
) -> None:
    for path in sorted(warehouse_schema.MIGRATIONS.glob("000[123]_*.sql")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(warehouse_schema, "MIGRATIONS", tmp_path)
        old = Warehouse(settings, use_case)
        with old.connection() as connection:
            if with_models:
                insert = "INSERT INTO {} (partition, action, role, model_version, reason, decided_by) VALUES "
                insert += "('2020-05-01', 'rejected', 'champion', 'm', '{{}}', 'register')"
                connection.execute(sql.SQL(insert).format(old.table("deployments")))
    new = Warehouse(settings, use_case)
    if with_models:
        with raises_code(ConfigurationError, "NS-WAREHOUSE-007", "0004_specs", "NIGHTSHIFT_WAREHOUSE_URL"):
            new.migrate()
    else:
        shipped = sorted(path.stem for path in warehouse_schema.MIGRATIONS.glob("*.sql"))
        assert new.migrate() == [name for name in shipped if name >= "0004"]
        assert new.decisions() == []


def test_the_latest_publication_is_none_at_first(warehouse: Warehouse) -> None:
    assert warehouse.latest_publication() is None
