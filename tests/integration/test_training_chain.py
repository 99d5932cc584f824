"""fit -> distil -> compress -> export -> verify -> select_model -> register on real services and a real MLflow."""

from __future__ import annotations

import dataclasses
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
from psycopg.rows import dict_row

from nightshift.artifact import ArtifactRef
from nightshift.core.candidates import mapped_calls
from nightshift.core.gates import CANDIDATE_GATES, REGISTRATION_GATES
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.deployment import Deployment, model_version
from nightshift.errors import ChampionChanged, ConfigurationError, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.report_pages import index_page, report_file
from nightshift.io.warehouse import Warehouse
from nightshift.policies import Risk, RiskPolicy, SlicePolicy, VerificationPolicy
from nightshift.settings import Settings
from nightshift.steps.train import compress, distil, export, fit, register, register_fallback, select_model, verify
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
ONE_DAY = timedelta(days=1)
LENIENT = VerificationPolicy(
    largest_single_row_p99_ms=1000.0,
    least_rows_per_second=100.0,
    largest_step_move=1.0,
    largest_flip_share=1.0,
    largest_calibration_error=1.0,
)
"""For gates that a few toys, or a busy machine, would fail by chance."""
NEEDS_APPROVAL = RiskPolicy(risks=(Risk("burns", 4, 4, "the house is gone"),))


@dataclass(frozen=True)
class Chain:
    """Everything a training committed before it was registered."""

    fitted: list[ArtifactRef]
    distilled: list[ArtifactRef]
    compressed: list[ArtifactRef]
    exports: list[ArtifactRef]
    verified: list[ArtifactRef]
    selected: ArtifactRef


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def _empty_schema(settings: Settings) -> Iterator[None]:
    yield
    with Warehouse(settings, use_case()).connection() as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(use_case().name)))


def quick(**policies: Any) -> UseCase:
    """The use case with one candidate, slices, and bounds that it keeps."""
    slices = SlicePolicy(columns=("carrier",), least_rows=100)
    case = use_case(estimators=("logistic_regression",), techniques=())
    return dataclasses.replace(case, **{"slices": slices, "verification": LENIENT, **policies})


def train(case: UseCase, settings: Settings, store: ArtifactStore, training_set: ArtifactRef) -> Chain:
    """What the DAG does, up to register."""
    calls = mapped_calls(case)
    on: Any = {"training_set": training_set}

    def run(step: Any, name: str, **arguments: Any) -> list[ArtifactRef]:
        return [step.run(case, settings, store, PARTITION, **arguments, **call) for call in calls[name]]

    fitted = run(fit, "fit", **on)
    distilled = run(distil, "distil", **on, teachers=fitted)
    compressed = run(compress, "compress", **on, fitted=fitted, distilled=distilled)
    exports = run(export, "export", fitted=fitted, distilled=distilled, compressed=compressed)
    verified = run(verify, "verify", **on, fitted=fitted, exports=exports)
    selected = select_model.run(case, settings, store, PARTITION, **on, verified=verified)
    return Chain(fitted, distilled, compressed, exports, verified, selected)


def rows_of(settings: Settings, table: str) -> list[dict[str, Any]]:
    warehouse = Warehouse(settings, use_case())
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        order = sql.SQL("ORDER BY deployment_id" if table == "deployments" else "")
        return cursor.execute(sql.SQL("SELECT * FROM {} {}").format(warehouse.table(table), order)).fetchall()


def actions(settings: Settings) -> list[tuple[date, str, str]]:
    return [(row["partition"], row["action"], row["role"]) for row in rows_of(settings, "deployments")]


def recorded(store: ArtifactStore, registration: ArtifactRef) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.read(registration, "registration.json"))
    return found


def test_a_training_from_fit_to_champion(settings: Settings, store: ArtifactStore, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    techniques = ("distilled_xgboost", "xgboost_clean", "logistic_regression_int8")
    case = dataclasses.replace(use_case(techniques=techniques), slices=quick().slices, risk=RiskPolicy())
    table = training_table()
    training_set = committed(store, table, PARTITION, case)
    fallback = register_fallback.run(case, settings, store, PARTITION, training_set=training_set)
    chain = train(case, settings, store, training_set)
    arguments: Any = {"training_set": training_set, "selected": chain.selected}
    ref = register.run(case, settings, store, PARTITION, **arguments)

    # The model artifact is complete and answers with onnxruntime alone.
    assert chain.selected.kind == fallback.kind == "model"
    for model in (chain.selected, fallback):
        paths = {entry.path for entry in store.manifest(model).files}
        assert paths == {"model.onnx", "signature.json", "reference.parquet", "reference.json", "card.json"}
        signature = Signature.from_json(store.read(model, "signature.json"))
        scores = score(load_session(store.read(model, "model.onnx"), 1), signature, table)
        assert ((scores > 0) & (scores < 1)).all()
    assert store.current(case.name, "select_model", PARTITION) == chain.selected
    assert Signature.from_json(store.read(fallback, "signature.json")).numeric == ("rate",)

    # The cheapest within the budget won, and every candidate's numbers and verdicts are on record.
    names = {call["candidate"] for call in mapped_calls(case)["export"]}
    decision = next(row for row in rows_of(settings, "deployments") if row["role"] == "champion")
    reason = decision["reason"]
    assert (decision["action"], decision["replaces"]) == ("promoted", None)
    assert set(reason["candidates"]) == names
    assert reason["candidates"][reason["winner"]] == "within the budget; chosen"
    gates = rows_of(settings, "gate_results")
    of_winner = {row["gate"]: row["verdict"] for row in gates if row["model_version"] == decision["model_version"]}
    assert set(of_winner) == {*CANDIDATE_GATES, *REGISTRATION_GATES}
    assert of_winner["no_worse_than_fallback"] == "pass"
    assert of_winner["no_worse_than_champion"] == of_winner["slices_no_worse_than_champion"] == "not applicable"
    for exported in chain.exports:
        version = model_version(PARTITION, exported)
        told = {(row["candidate"], row["gate"]) for row in gates if row["model_version"] == version}
        assert told == {(store.manifest(exported).variant, gate) for gate in CANDIDATE_GATES}

    # The registration holds what a person reads, and the reports' index leads there.
    assert ref.kind == "registration"
    assert store.current(case.name, "register", PARTITION) == ref
    paths = {entry.path for entry in store.manifest(ref).files}
    assert paths == {"registration.json", "card.html", "pareto.html", "pareto.csv"}
    card = store.read(ref, "card.html").decode()
    assert decision["model_version"] in card
    assert all(gate in card for gate in of_winner)
    assert recorded(store, ref)["explanation"]["features"][0]["feature"] == "rate"
    assert f'files/toy/register/{PARTITION}/card.html"' in index_page(store, [case])
    page = report_file(store, [case], "toy", "register", PARTITION.isoformat(), "pareto.html")
    assert page is not None
    assert page[1] == "text/html"

    warehouse = Warehouse(settings, case)
    champion = warehouse.champion_as_of(PARTITION + ONE_DAY)
    assert champion is not None
    assert champion.model == chain.selected
    assert warehouse.champion_as_of(PARTITION) is None

    # A retry of everything gives the same artifacts and one row, one run, one version.
    assert train(case, settings, store, training_set) == chain
    assert register.run(case, settings, store, PARTITION, **arguments) == ref
    assert register_fallback.run(case, settings, store, PARTITION, training_set=training_set) == fallback
    assert len(rows_of(settings, "deployments")) == 2
    assert len(rows_of(settings, "gate_results")) == len(gates)
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
    assert registered.tags["nightshift.model_sha256"] == chain.selected.sha256
    logged = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert logged == {"model", "signature.json", "card.json", "card.html", "pareto.html"}
    assert store.list(f"{case.name}/mlflow/{run.info.run_id}/artifacts/model/model.onnx")


def test_a_retry_finishes_the_run_that_an_earlier_try_left_open(
    settings: Settings, store: ArtifactStore, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from nightshift.io import tracking

    case = quick()
    training_set = committed(store, training_table(60), PARTITION, case)
    arguments: Any = {
        "training_set": training_set,
        "selected": train(case, settings, store, training_set).selected,
    }

    def dies(*_: object) -> None:
        raise OSError("the worker was killed")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_save_model", dies)
        with pytest.raises(OSError, match="killed"):
            register.run(case, settings, store, PARTITION, **arguments)
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    experiment = client.get_experiment_by_name(case.name)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["RUNNING"]

    register.run(case, settings, store, PARTITION, **arguments)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]
    assert len(client.search_model_versions(f"name = '{case.name}'")) == 1
    assert len(rows_of(settings, "deployments")) == 1


def test_a_model_is_champion_then_challenger_then_shelved(
    settings: Settings, store: ArtifactStore, mlflow_uri: str
) -> None:
    from mlflow import MlflowClient

    case = quick()
    first, second, third = (PARTITION + n * ONE_DAY for n in range(3))
    champion_set = committed(store, training_table(60), PARTITION, case)
    champion = train(case, settings, store, champion_set).selected
    register.run(case, settings, store, first, training_set=champion_set, selected=champion)
    training_set = committed(store, training_table(60, seed=1), PARTITION, case)
    other = train(case, settings, store, training_set).selected
    arguments: Any = {"training_set": training_set, "selected": other, "allow_undecided": True}
    challenger = register.run(case, settings, store, second, **arguments)
    shelved = register.run(case, settings, store, third, **arguments)

    assert actions(settings) == [
        (first, "promoted", "champion"),
        (second, "shadow", "challenger"),
        (third, "shelved", "challenger"),
    ]
    life = Warehouse(settings, case).life_as_of(third)
    assert life.champion is not None
    assert life.champion.model == champion
    assert life.trial is not None
    assert (life.trial.stage, life.trial.deployment.model) == ("shadow", other)
    assert model_version(second, other) in recorded(store, shelved)["why"]
    assert store.current(case.name, "register", second) == challenger

    # Both were asked about the same rows, slice by slice.
    gates = {gate["gate"]: gate for gate in recorded(store, challenger)["gates"]}
    assert gates["no_worse_than_champion"]["verdict"] == "pass"
    assert gates["slices_no_worse_than_champion"]["verdict"] == "pass"
    assert "2 slices judged, 1 too small" in gates["slices_no_worse_than_champion"]["reason"]
    inputs = store.manifest(challenger).inputs
    assert inputs["champion"] == [champion]

    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    aliases = client.get_registered_model(case.name).aliases
    hashes = {a: client.get_model_version(case.name, v).tags["nightshift.model_sha256"] for a, v in aliases.items()}
    assert hashes == {"champion": champion.sha256, "challenger": other.sha256}


@pytest.mark.usefixtures("_no_mlflow")
def test_where_a_person_must_approve_no_model_is_champion_at_once(settings: Settings, store: ArtifactStore) -> None:
    case = quick(risk=NEEDS_APPROVAL)
    training_set = committed(store, training_table(60), PARTITION, case)
    selected = train(case, settings, store, training_set).selected
    assert selected.kind == "model", store.manifest(selected).metrics["selection"]
    ref = register.run(case, settings, store, PARTITION, training_set=training_set, selected=selected)
    assert actions(settings) == [(PARTITION, "shadow", "challenger")]
    assert "A person must approve it" in store.read(ref, "card.html").decode()


def test_a_worse_model_is_recorded_as_rejected_and_the_champion_stays(
    settings: Settings, store: ArtifactStore, mlflow_uri: str
) -> None:
    from mlflow import MlflowClient

    case = quick()
    training_set = committed(store, training_table(), PARTITION, case)
    good = train(case, settings, store, training_set).selected
    yesterday = PARTITION - ONE_DAY
    register.run(case, settings, store, yesterday, training_set=training_set, selected=good)

    rng = np.random.default_rng(0)
    shuffled = training_table()
    train_rows = np.array(shuffled["split"].to_pylist()) == "train"
    labels = shuffled["is_late"].to_numpy().copy()
    labels[train_rows] = rng.permutation(labels[train_rows])
    index = shuffled.schema.get_field_index("is_late")
    bad_set = committed(store, shuffled.set_column(index, "is_late", pa.array(labels)), PARTITION, case)
    arguments: Any = {"training_set": bad_set, "selected": train(case, settings, store, bad_set).selected}
    ref = register.run(case, settings, store, PARTITION, **arguments)

    decision = store.decision(case.name, "register", PARTITION)
    assert decision is not None
    assert decision.status == "rejected"
    assert decision.ref == ref
    assert "no_worse_than_champion" in decision.reason
    assert actions(settings) == [(yesterday, "promoted", "champion"), (PARTITION, "rejected", "challenger")]
    assert "no_worse_than_champion" in recorded(store, ref)["refused_by"]
    in_service = Warehouse(settings, case).champion_as_of(PARTITION + ONE_DAY)
    assert in_service is not None
    assert in_service.model == good
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    versions = {v.tags["nightshift.decision"]: v for v in client.search_model_versions(f"name = '{case.name}'")}
    assert set(versions) == {"promoted", "rejected"}
    alias = client.get_model_version_by_alias(case.name, "champion")
    assert alias.version == versions["promoted"].version

    # Under other rules the same model passes: another row, the first one kept.
    lenient = with_promotion(case, margin_log_loss=10.0, least_auc=0.0)
    register.run(lenient, settings, store, PARTITION, **arguments)
    assert [action for _, action, _ in actions(settings)] == ["promoted", "rejected", "shadow"]


@pytest.mark.usefixtures("_no_mlflow")
def test_a_model_worse_in_one_slice_is_stopped_where_the_risk_says_so(settings: Settings, store: ArtifactStore) -> None:
    """It does better than the champion but for one carrier, of whose rows the labels it learned from were turned."""
    case = quick(risk=RiskPolicy(risks=(Risk("unfair", 2, 4, "one carrier pays for the others"),)))
    case = with_promotion(case, margin_log_loss=10.0, least_auc=0.5)
    table = training_table(200)
    training_set = committed(store, table, PARTITION, case)
    good = train(case, settings, store, training_set).selected
    register.run(case, settings, store, PARTITION - ONE_DAY, training_set=training_set, selected=good)
    turned = (np.array(table["split"].to_pylist()) == "train") & (np.array(table["carrier"].to_pylist()) == "ZZ")
    labels = np.where(turned, 1 - table["is_late"].to_numpy(), table["is_late"].to_numpy())
    index = table.schema.get_field_index("is_late")
    bad_set = committed(store, table.set_column(index, "is_late", pa.array(labels)), PARTITION, case)
    selected = train(case, settings, store, bad_set).selected
    ref = register.run(case, settings, store, PARTITION, training_set=bad_set, selected=selected)
    assert recorded(store, ref)["refused_by"] == ["slices_no_worse_than_champion"]
    assert "carrier ZZ (by" in recorded(store, ref)["why"]
    assert actions(settings)[-1] == (PARTITION, "rejected", "challenger")


@pytest.mark.usefixtures("_no_mlflow")
def test_a_graph_that_answers_otherwise_is_not_chosen(settings: Settings, store: ArtifactStore) -> None:
    case = use_case(estimators=("logistic_regression", "xgboost"), techniques=())
    training_set = committed(store, training_table(60), PARTITION, case)
    chain = train(case, settings, store, training_set)
    good = chain.exports[1]
    damaged = onnx.ModelProto.FromString(store.read(good, "model.onnx"))
    changed = 0
    for node in damaged.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_missing_value_tracks_true":
                attribute.ints[:] = [1 - value for value in attribute.ints]
                changed += 1
    assert changed
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
    on: Any = {"training_set": training_set}
    refused = verify.run(
        case, settings, store, PARTITION, **on, fitted=chain.fitted, exports=[swapped], candidate="xgboost"
    )
    selected = select_model.run(case, settings, store, PARTITION, **on, verified=[chain.verified[0], refused])
    selection = store.manifest(selected).metrics["selection"]
    assert selection["winner"] == "logistic_regression"
    assert "refused by parity_fitted" in selection["reasons"]["xgboost"]

    # With nobody left there is no model, which is recorded; nothing serves instead of what there was.
    none = select_model.run(case, settings, store, PARTITION, **on, verified=[refused])
    assert none.kind == "no_model"
    assert json.loads(store.read(none, "refused.json"))["candidates"]["xgboost"]["refused_by"] == ["parity_fitted"]
    ref = register.run(case, settings, store, PARTITION, **on, selected=none)
    assert actions(settings) == [(PARTITION, "rejected", "challenger")]
    assert rows_of(settings, "deployments")[0]["model"] is None
    assert "parity_fitted" in store.read(ref, "card.html").decode()
    assert Warehouse(settings, case).training_decided(PARTITION)
    failed = [row for row in rows_of(settings, "gate_results") if row["verdict"] == "fail"]
    assert ("xgboost", "parity_fitted") in {(row["candidate"], row["gate"]) for row in failed}


@pytest.mark.usefixtures("_no_mlflow")
def test_a_verification_without_a_verdict_is_a_refusal(settings: Settings, store: ArtifactStore) -> None:
    case = quick()
    training_set = committed(store, training_table(60), PARTITION, case)
    chain = train(case, settings, store, training_set)
    manifest = store.manifest(chain.verified[0])
    silent = store.commit(
        use_case=case.name,
        step="verify",
        partition=PARTITION,
        variant=manifest.variant,
        kind="verification",
        files={"verification.json": store.read(chain.verified[0], "verification.json")},
        inputs=manifest.inputs,
        parameters={**manifest.parameters, "left_out": "runtime"},
        metrics={**manifest.metrics, "gates": [g for g in manifest.metrics["gates"] if g["gate"] != "runtime"]},
    )
    none = select_model.run(case, settings, store, PARTITION, training_set=training_set, verified=[silent])
    assert none.kind == "no_model"
    reason = store.manifest(none).metrics["selection"]["reasons"]["logistic_regression"]
    assert reason == "refused by runtime: it left no verdict, which is a refusal"
    decision = store.decision(case.name, "select_model", PARTITION)
    assert decision is not None
    assert decision.status == "rejected"


@pytest.mark.usefixtures("_no_mlflow")
def test_a_model_judged_against_no_champion_is_refused_once_there_is_one(
    settings: Settings, store: ArtifactStore
) -> None:
    case = quick()
    training_set = committed(store, training_table(60), PARTITION, case)
    selected = train(case, settings, store, training_set).selected
    Warehouse(settings, case).record_deployment(
        Deployment(
            partition=PARTITION,
            action="promoted",
            role="champion",
            model_version="2020-01-01-00000000",
            model=selected,
            decided_by="hand:somebody",
        )
    )
    with pytest.raises(ChampionChanged, match="2020-01-01-00000000"):
        register.run(case, settings, store, PARTITION, training_set=training_set, selected=selected)
    assert [action for _, action, _ in actions(settings)] == ["promoted"]
    decision = store.decision(case.name, "register", PARTITION)
    assert decision is not None
    assert decision.status == "rejected"
    assert "nothing need be done" in decision.reason


@pytest.mark.usefixtures("_no_mlflow")
def test_a_training_that_comes_after_a_later_trial_is_shelved(settings: Settings, store: ArtifactStore) -> None:
    case = quick()
    training_set = committed(store, training_table(60), PARTITION, case)
    selected = train(case, settings, store, training_set).selected
    later = Deployment(
        partition=PARTITION + ONE_DAY,
        action="shadow",
        role="challenger",
        model_version="2020-01-01-00000000",
        model=selected,
        decided_by="register",
    )
    arguments: Any = {"training_set": training_set, "selected": selected}
    Warehouse(settings, case).record_deployment(later)
    ref = register.run(case, settings, store, PARTITION, **arguments)
    assert recorded(store, ref)["action"] == "shelved"
    assert f"2020-01-01-00000000 is shadow since {later.partition}" in recorded(store, ref)["why"]
    assert Warehouse(settings, case).life_as_of(PARTITION + 2 * ONE_DAY).trial is not None
    # What was recorded in time stands, whatever came later.
    first = PARTITION - ONE_DAY
    Warehouse(settings, case).record_deployment(
        Deployment(
            partition=first,
            action="promoted",
            role="champion",
            model_version=model_version(first, selected),
            model=selected,
            decided_by="register",
        )
    )
    again = register.run(case, settings, store, first, **arguments)
    assert recorded(store, again)["action"] == "promoted"


@pytest.mark.usefixtures("_no_mlflow")
def test_register_waits_for_the_training_of_the_partition_before(settings: Settings, store: ArtifactStore) -> None:
    case = quick()
    training_set = committed(store, training_table(60), PARTITION, case)
    selected = train(case, settings, store, training_set).selected
    arguments: Any = {"training_set": training_set, "selected": selected}
    register.run(case, settings, store, PARTITION - 2 * ONE_DAY, **arguments)
    with pytest.raises(PartitionNotReady, match=str(PARTITION - ONE_DAY)):
        register.run(case, settings, store, PARTITION, **arguments)
    register.run(case, settings, store, PARTITION, **arguments, allow_undecided=True)
    last = rows_of(settings, "deployments")[-1]
    assert last["partition"] == PARTITION
    assert last["reason"]["went_on_without"] == str(PARTITION - ONE_DAY)


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


def test_a_candidate_that_nobody_fitted_is_named(settings: Settings, store: ArtifactStore) -> None:
    with pytest.raises(ConfigurationError, match="distilled_mlp"):
        export.run(
            use_case(),
            settings,
            store,
            date(2020, 1, 1),
            fitted=[],
            distilled=[],
            compressed=[],
            candidate="distilled_mlp_int8",
        )
