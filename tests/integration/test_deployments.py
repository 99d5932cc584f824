"""Decisions about models in the warehouse, who wins when two are taken at once, and MLflow's view of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from psycopg import errors, sql

from integration.desk import late_returns
from nightshift.artifact import ArtifactRef
from nightshift.core.model_life import Life, Trial
from nightshift.deployment import Deployment, GateResult
from nightshift.errors import ChampionChanged
from nightshift.io import warehouse_schema
from nightshift.io.publications import Publication
from nightshift.io.tracking import mirror_aliases
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

DAY = date(2020, 5, 1)


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    with late_returns(monkeypatch, settings) as made:
        yield made


@pytest.fixture
def warehouse(settings: Settings, use_case: UseCase) -> Warehouse:
    return Warehouse(settings, use_case)


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


def champion(warehouse: Warehouse, after: int) -> str | None:
    found = warehouse.champion_as_of(DAY + timedelta(days=after + 1))
    return found and found.model_version


# Compare and swap


@pytest.mark.parametrize("expected", ["a", None])
def test_of_two_promotions_at_once_one_wins_and_one_is_refused(warehouse: Warehouse, expected: str | None) -> None:
    warehouse.migrate()
    if expected:
        warehouse.record_deployment(said(0, "promoted", expected, "register"))
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

        rivals = [said(round_, "promoted", f"{who}{round_}", f"hand:{who}") for who in "xyz"]
        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(promote, rivals))
        assert outcomes.count("won") == 1
        winner = rivals[outcomes.index("won")].model_version
        assert champion(warehouse, round_) == winner
        for refusal in outcomes:
            assert refusal == "won" or (f"champion {before or 'none'}, but" in refusal and winner in refusal)


def test_a_step_and_a_person_at_once_leave_one_winner(warehouse: Warehouse) -> None:
    warehouse.record_deployment(said(0, "promoted", "a", "register"))
    step, person = said(3, "promoted", "b"), said(3, "rolled_back", "z", "hand:ann")
    for first, second in ((step, person), (person, step)):
        with warehouse.rehearsal() as stage:
            assert stage.record_deployment(first, expected_champion="a")
            with pytest.raises(ChampionChanged, match="Nothing was recorded"):
                stage.record_deployment(second, expected_champion="a")
            assert champion(stage, 3) == first.model_version
            assert len(stage.decisions()) == 2


def test_a_promotion_said_again_is_no_conflict_with_itself(warehouse: Warehouse) -> None:
    warehouse.record_deployment(said(0, "promoted", "a", "register"))
    assert warehouse.record_deployment(said(3, "promoted", "b"), expected_champion="a")
    assert not warehouse.record_deployment(said(3, "promoted", "b"), expected_champion="a")
    # Judged anew, the same step says something else of the same partition: that replaces what it said.
    assert warehouse.record_deployment(said(3, "promoted", "c"), expected_champion="a")
    assert champion(warehouse, 3) == "c"


def test_a_champion_that_was_expected_and_is_none(warehouse: Warehouse) -> None:
    with pytest.raises(ChampionChanged, match=r"champion a, but the champion is none by now\. Nothing"):
        warehouse.record_deployment(said(3, "promoted", "b"), expected_champion="a")
    assert warehouse.record_deployment(said(3, "promoted", "b"))


def test_an_answer_and_what_follows_are_recorded_together_or_not_at_all(warehouse: Warehouse) -> None:
    both = [said(3, "approved", "b", "record_approval"), said(3, "promoted", "b", "record_approval")]
    with pytest.raises(ChampionChanged):
        warehouse.record_deployments(both, expected_champion="a")
    assert warehouse.decisions() == []
    assert warehouse.record_deployments(both, expected_champion=None)
    assert not warehouse.record_deployments(both, expected_champion=None)
    assert warehouse.decisions() == both
    assert champion(warehouse, 3) == "b"


def test_what_a_person_says_again_is_one_row_unless_something_came_between(warehouse: Warehouse) -> None:
    kill, restore = said(3, "killed", "a", "hand:ann"), said(3, "restored", "a", "hand:ann")
    assert [warehouse.record_deployment(one) for one in (kill, kill, restore, kill)] == [True, False, True, True]


def test_training_is_decided_by_training_alone(warehouse: Warehouse) -> None:
    for number, by in enumerate(("register", "train", "advance_model", "hand:ann", "register_fallback")):
        action = "bootstrap" if by == "register_fallback" else "rejected"
        warehouse.record_deployment(said(number, action, "m", by))
    decided = [warehouse.training_decided(DAY + timedelta(days=number)) for number in range(6)]
    assert decided == [True, True, False, False, False, False]


@pytest.mark.parametrize("action", ["bootstrap", "shadow", "canary", "promoted", "rolled_back"])
def test_what_puts_a_model_somewhere_names_it(warehouse: Warehouse, action: str) -> None:
    with pytest.raises(errors.CheckViolation, match="deployments_name_a_model"):
        warehouse.record_deployment(said(1, action, "m", model=None))


def test_every_action_and_role_can_be_recorded(warehouse: Warehouse) -> None:
    from typing import get_args

    from nightshift.deployment import Action, Role

    made = [said(n, action, "m") for n, action in enumerate(get_args(Action))]
    made += [said(50 + n, "held", "m", role=role) for n, role in enumerate(get_args(Role))]
    for one in made:
        assert warehouse.record_deployment(one)
    assert warehouse.decisions() == made


# A schema of before


def test_a_schema_with_rows_is_brought_up_to_date(
    settings: Settings, use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(warehouse_schema.MIGRATIONS.glob("000[12]_*.sql")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(warehouse_schema, "MIGRATIONS", tmp_path)
        old = Warehouse(settings, use_case)
        old.record_deployment(said(0, "promoted", "a", "register"))
        with old.connection() as connection:
            insert = "INSERT INTO {} VALUES (%s, 'a', 'least_auc', 'pass', 0.7, 0.6, '')"
            connection.execute(sql.SQL(insert).format(old.table("gate_results")), [DAY])
    new = Warehouse(settings, use_case)
    assert new.migrate() == ["0003_model_life"]
    assert champion(new, 0) == "a"
    new.record_gates(DAY, "a", [GateResult(gate="least_auc", verdict="pass", observed=0.7, bound=0.6)])
    new.record_gates(DAY, "a", [GateResult(gate="least_auc", verdict="fail")], candidate="xgboost")
    with new.connection() as connection:
        query = sql.SQL("SELECT candidate, verdict FROM {} ORDER BY 1").format(new.table("gate_results"))
        assert connection.execute(query).fetchall() == [("", "pass"), ("xgboost", "fail")]


# Rehearsals


def test_a_rehearsal_sees_its_own_writes_and_leaves_none(warehouse: Warehouse) -> None:
    warehouse.record_deployment(said(0, "promoted", "a", "register"))
    with warehouse.rehearsal() as stage:
        assert stage.record_deployment(said(1, "killed", "a", "hand:drill"))
        assert stage.life_as_of(DAY + timedelta(days=2)).killed is not None
        assert warehouse.life_as_of(DAY + timedelta(days=2)).killed is None
        # What fails within does not end the rehearsal.
        with pytest.raises(ChampionChanged):
            stage.record_deployment(said(1, "promoted", "b"), expected_champion="z")
        for version in "abab":
            assert stage.publish_predictions(*night(version))
    assert [one.model_version for one in warehouse.decisions()] == ["a"]
    assert warehouse.latest_publication() is None


def test_a_rehearsal_that_fails_leaves_nothing_either(warehouse: Warehouse) -> None:
    def fails() -> None:
        with warehouse.rehearsal() as stage:
            stage.record_deployment(said(1, "killed", "a", "hand:drill"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert warehouse.decisions() == []


# Publications of two models, and the answers beside


def night(version: str, *, partition: int = 0, rows: int = 4) -> tuple[Publication, pa.Table]:
    day = DAY + timedelta(days=partition + 1)
    table = pa.table(
        {
            "booking_date": pa.array([day] * rows, pa.date32()),
            "booking": pa.array(range(rows), pa.int64()),
            "branch": ["north"] * rows,
            "p_late": [0.1 * (i + 1) for i in range(rows)],
            "decision": [False] * rows,
        }
    )
    model = ArtifactRef(uri=f"s3://bucket/{version}/", sha256=f"{version}-sha", kind="model")
    publication = Publication(
        partition=DAY + timedelta(days=partition),
        prediction_date=day,
        model_version=version,
        role="champion",
        model=model,
        scores=model.model_copy(update={"kind": "scores"}),
        rows=rows,
    )
    return publication, table


def test_rows_name_the_model_that_answered(warehouse: Warehouse) -> None:
    publication, table = night("a")
    versions = pa.array(["a", "b", "a", "a"])
    assert warehouse.publish_predictions(publication, table.append_column("model_version", versions))
    found = warehouse.prediction({"booking_date": str(DAY + timedelta(days=1)), "booking": "1"})
    assert found is not None
    assert (found[0]["model_version"], found[1]["model_version"]) == ("b", "a")


def test_the_latest_publication_is_of_the_newest_partition(warehouse: Warehouse) -> None:
    assert warehouse.latest_publication() is None
    for number, version in ((3, "a"), (1, "b"), (3, "c")):
        warehouse.publish_predictions(*night(version, partition=number))
    latest = warehouse.latest_publication()
    assert latest is not None
    assert (latest["partition"], latest["model_version"]) == (DAY + timedelta(days=3), "c")


def shadow(serving: str, *, rows: int = 3) -> pa.Table:
    return pa.table(
        {
            "booking_date": pa.array([DAY + timedelta(days=1)] * rows, pa.date32()),
            "booking": pa.array(range(rows), pa.int64()),
            "serving_score": [0.1 + i / 7 for i in range(rows)],
            "beside_score": [0.2 + i / 7 for i in range(rows)],
            "published": [i % 2 == 0 for i in range(rows)],
            "stage": ["canary"] * rows,
            "serving_version": [serving] * rows,
            "beside_version": ["b"] * rows,
        }
    )


def test_the_answers_beside_are_replaced_as_a_whole(warehouse: Warehouse) -> None:
    def there() -> list[Any]:
        with warehouse.connection() as connection:
            query = sql.SQL("SELECT booking, serving_score, published, serving_version FROM {} ORDER BY 1")
            return connection.execute(query.format(warehouse.table("shadow_predictions"))).fetchall()

    wrote = [warehouse.record_shadow(DAY, rows) for rows in (shadow("a"), shadow("a"), shadow("c", rows=2))]
    assert wrote == [True, False, True]
    assert there() == [(0, 0.1, True, "c"), (1, 0.1 + 1 / 7, False, "c")]
    assert [warehouse.record_shadow(DAY, None) for _ in range(2)] == [True, False]
    assert there() == []


# MLflow


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
