"""fit -> compress -> export -> verify -> register on a real object store, a real warehouse and a real MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from psycopg import sql

from nightshift.artifact import ArtifactRef
from nightshift.core.candidates import mapped_calls
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.errors import ConfigurationError, ParityError, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.steps import compress, export, fit, register, register_fallback, verify
from nightshift.usecase import UseCase
from synthetic_training_set import (
    DAYS,
    FIRST,
    committed,
    training_table,
    use_case,
    with_promotion,
)

pytestmark = [
    # mlflow 3.17: its tables use a loader strategy that SQLAlchemy has deprecated, and it warns about its own types.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
]

PARTITION = FIRST + timedelta(days=DAYS - 1)


@dataclass(frozen=True)
class Chain:
    """Everything a training committed."""

    fitted: list[ArtifactRef]
    students: list[ArtifactRef]
    exports: list[ArtifactRef]
    verified: list[ArtifactRef]


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture(autouse=True)
def _empty_schema(settings: Settings) -> Iterator[None]:
    yield
    with Warehouse(settings, use_case()).connection() as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(use_case().name)))


def train(case: UseCase, settings: Settings, store: ArtifactStore, training_set: ArtifactRef) -> Chain:
    """What the DAG does, up to register."""
    calls = mapped_calls(case)
    common: Any = (case, settings, store, PARTITION)
    fitted = [fit.run(*common, training_set=training_set, **call) for call in calls["fit"]]
    students = [compress.run(*common, training_set=training_set, teachers=fitted, **call) for call in calls["compress"]]
    exports = [export.run(*common, teachers=fitted, students=students, **call) for call in calls["export"]]
    verified = [verify.run(*common, training_set=training_set, exports=exports, **call) for call in calls["verify"]]
    return Chain(fitted, students, exports, verified)


def rows_of(settings: Settings, table: str) -> list[dict[str, Any]]:
    from psycopg.rows import dict_row

    warehouse = Warehouse(settings, use_case())
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.SQL("SELECT * FROM {}").format(warehouse.table(table))).fetchall()


def test_a_training_from_fit_to_champion(settings: Settings, store: ArtifactStore, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    case = use_case()
    table = training_table()
    training_set = committed(store, table, PARTITION, case)
    fallback = register_fallback.run(case, settings, store, PARTITION, training_set=training_set)
    chain = train(case, settings, store, training_set)
    arguments: Any = {"training_set": training_set, "verified": chain.verified}
    ref = register.run(case, settings, store, PARTITION, **arguments)

    # The model artifact is complete and answers with onnxruntime alone.
    assert ref.kind == fallback.kind == "model"
    for model in (ref, fallback):
        paths = {entry.path for entry in store.manifest(model).files}
        assert paths == {"model.onnx", "signature.json", "reference.parquet", "reference.json", "card.json"}
        signature = Signature.from_json(store.read(model, "signature.json"))
        scores = score(load_session(store.read(model, "model.onnx"), 1), signature, table)
        assert ((scores > 0) & (scores < 1)).all()
    assert store.current(case.name, "register", PARTITION) == ref
    assert Signature.from_json(store.read(fallback, "signature.json")).numeric == ("rate",)

    # The smallest within the budget won, and every candidate's numbers are on record.
    reason = next(row["reason"] for row in rows_of(settings, "deployments") if row["role"] == "champion")
    assert set(reason["candidates"]) == {call["candidate"] for call in mapped_calls(case)["export"]}
    assert reason["candidates"][reason["winner"]] == "within the budget; chosen"
    gates = {row["gate"]: row["verdict"] for row in rows_of(settings, "gate_results")}
    assert gates == {
        "least_auc": "pass",
        "no_worse_than_champion": "not applicable",
        "no_worse_than_fallback": "pass",
    }
    warehouse = Warehouse(settings, case)
    champion = warehouse.champion_as_of(PARTITION + timedelta(days=1))
    assert champion is not None
    assert champion.model == ref
    assert warehouse.champion_as_of(PARTITION) is None

    # A retry of everything gives the same artifacts and one row, one run, one version.
    again = train(case, settings, store, training_set)
    assert again == chain
    assert register.run(case, settings, store, PARTITION, **arguments) == ref
    assert register_fallback.run(case, settings, store, PARTITION, training_set=training_set) == fallback
    assert len(rows_of(settings, "deployments")) == 2
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    experiment = client.get_experiment_by_name(case.name)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["winner"] == reason["winner"]
    assert "xgboost/log_loss" in run.data.metrics
    assert len(client.get_metric_history(run.info.run_id, "xgboost/log_loss")) == 1
    registered = client.get_model_version_by_alias(case.name, "champion")
    assert len(client.search_model_versions(f"name = '{case.name}'")) == 1
    assert registered.tags["nightshift.decision"] == "promoted"
    assert registered.tags["nightshift.model_sha256"] == ref.sha256
    logged = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert logged == {"model", "signature.json", "card.json"}
    assert store.list(f"{case.name}/mlflow/{run.info.run_id}/artifacts/model/model.onnx")


def test_a_retry_finishes_the_run_that_an_earlier_try_left_open(
    settings: Settings, store: ArtifactStore, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from nightshift.io import tracking

    case = use_case(estimators=("xgboost",), techniques=())
    training_set = committed(store, training_table(60), PARTITION, case)
    chain = train(case, settings, store, training_set)

    def dies(*_: object) -> None:
        raise OSError("the worker was killed")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_save_model", dies)
        with pytest.raises(OSError, match="killed"):
            register.run(case, settings, store, PARTITION, training_set=training_set, verified=chain.verified)
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    experiment = client.get_experiment_by_name(case.name)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["RUNNING"]

    register.run(case, settings, store, PARTITION, training_set=training_set, verified=chain.verified)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]
    assert len(client.search_model_versions(f"name = '{case.name}'")) == 1
    assert len(rows_of(settings, "deployments")) == 1


def test_a_worse_model_is_recorded_as_rejected_and_the_champion_stays(
    settings: Settings, store: ArtifactStore, mlflow_uri: str
) -> None:
    from mlflow import MlflowClient

    case = use_case(estimators=("xgboost",), techniques=())
    training_set = committed(store, training_table(), PARTITION, case)
    good = train(case, settings, store, training_set)
    yesterday = PARTITION - timedelta(days=1)
    champion = register.run(case, settings, store, yesterday, training_set=training_set, verified=good.verified)

    rng = np.random.default_rng(0)
    shuffled = training_table()
    train_rows = np.array(shuffled["split"].to_pylist()) == "train"
    labels = shuffled["is_late"].to_numpy().copy()
    labels[train_rows] = rng.permutation(labels[train_rows])
    index = shuffled.schema.get_field_index("is_late")
    bad_set = committed(store, shuffled.set_column(index, "is_late", pa.array(labels)), PARTITION, case)
    bad = train(case, settings, store, bad_set)
    ref = register.run(case, settings, store, PARTITION, training_set=bad_set, verified=bad.verified)

    assert ref != champion
    decision = store.decision(case.name, "register", PARTITION)
    assert decision is not None
    assert decision.status == "rejected"
    assert decision.ref == ref
    assert "no_worse_than_champion" in decision.reason
    rows = {row["partition"]: row for row in rows_of(settings, "deployments")}
    assert rows[PARTITION]["action"] == "rejected"
    assert rows[PARTITION]["replaces"] is None
    tomorrow = PARTITION + timedelta(days=1)
    in_service = Warehouse(settings, case).champion_as_of(tomorrow)
    assert in_service is not None
    assert in_service.model == champion
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    versions = {v.tags["nightshift.decision"]: v for v in client.search_model_versions(f"name = '{case.name}'")}
    assert set(versions) == {"promoted", "rejected"}
    alias = client.get_model_version_by_alias(case.name, "champion")
    assert alias.version == versions["promoted"].version

    # Under other rules the same model passes: another row, the first one kept.
    lenient = with_promotion(case, margin_log_loss=10.0, least_auc=0.0)
    assert register.run(lenient, settings, store, PARTITION, training_set=bad_set, verified=bad.verified) == ref
    actions = [row["action"] for row in rows_of(settings, "deployments") if row["partition"] == PARTITION]
    assert sorted(actions) == ["promoted", "rejected"]


def test_register_waits_for_the_training_of_the_partition_before(
    settings: Settings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    case = use_case(estimators=("logistic_regression",), techniques=())
    training_set = committed(store, training_table(60), PARTITION, case)
    chain = train(case, settings, store, training_set)
    arguments: Any = {"training_set": training_set, "verified": chain.verified}
    register.run(case, settings, store, PARTITION - timedelta(days=2), **arguments)
    with pytest.raises(PartitionNotReady, match=str(PARTITION - timedelta(days=1))):
        register.run(case, settings, store, PARTITION, **arguments)
    register.run(case, settings, store, PARTITION, **arguments, allow_undecided=True)
    last = next(row for row in rows_of(settings, "deployments") if row["partition"] == PARTITION)
    assert last["reason"]["went_on_without"] == str(PARTITION - timedelta(days=1))


def test_a_fallback_in_place_stays(settings: Settings, store: ArtifactStore) -> None:
    case = use_case()
    training_set = committed(store, training_table(60), PARTITION, case)
    first = register_fallback.run(case, settings, store, PARTITION - timedelta(days=3), training_set=training_set)
    assert register_fallback.run(case, settings, store, PARTITION, training_set=training_set) == first
    assert [row["role"] for row in rows_of(settings, "deployments")] == ["fallback"]


@pytest.mark.parametrize("features", [(), ("carrier",), ("rate", "moon_phase")])
def test_a_fallback_needs_features_that_exist(
    settings: Settings, store: ArtifactStore, features: tuple[str, ...]
) -> None:
    case = use_case(fallback_features=features)
    training_set = committed(store, training_table(60), PARTITION, case)
    with pytest.raises(ConfigurationError, match="fallback_features"):
        register_fallback.run(case, settings, store, PARTITION, training_set=training_set)


def test_verify_refuses_a_graph_that_answers_otherwise(settings: Settings, store: ArtifactStore) -> None:
    case = use_case(estimators=("logistic_regression", "xgboost"), techniques=())
    training_set = committed(store, training_table(60), PARTITION, case)
    chain = train(case, settings, store, training_set)
    good = chain.exports[1]
    damaged = onnx.ModelProto.FromString(store.read(good, "model.onnx"))
    for node in damaged.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_missing_value_tracks_true":
                attribute.ints[:] = [1 - value for value in attribute.ints]
    manifest = store.manifest(good)
    swapped = store.commit(
        use_case=case.name,
        step="export",
        partition=PARTITION,
        variant="xgboost",
        kind="onnx_model",
        files={"model.onnx": damaged.SerializeToString(), "signature.json": store.read(good, "signature.json")},
        inputs=manifest.inputs,
        parameters=manifest.parameters,
    )
    with pytest.raises(ParityError, match=r"toy xgboost against fitted.* missing"):
        verify.run(case, settings, store, PARTITION, training_set=training_set, exports=[swapped], candidate="xgboost")


def test_verification_states_what_int8_is_held_to(settings: Settings, store: ArtifactStore) -> None:
    case = use_case(estimators=("xgboost",), techniques=("distilled_mlp_int8",))
    training_set = committed(store, training_table(60), PARTITION, case)
    chain = train(case, settings, store, training_set)
    parity = json.loads(store.read(chain.verified[-1], "verification.json"))["parity"]
    assert parity["fitted, bound"] == case.training.parity_tolerance
    assert parity["full precision, bound"] == 0.05
    assert 0 < parity["full precision, largest difference"] < 0.05
    assert "rows_per_second" in store.manifest(chain.verified[-1]).metrics


def test_a_candidate_that_nobody_fitted_is_named(settings: Settings, store: ArtifactStore) -> None:
    case = use_case()
    with pytest.raises(ConfigurationError, match="distilled_mlp"):
        export.run(case, settings, store, date(2020, 1, 1), teachers=[], students=[], candidate="distilled_mlp_int8")
