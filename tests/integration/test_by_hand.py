"""What people decide by hand, and the drill of the kill switch, on real services and hand-made models."""

from __future__ import annotations

import dataclasses
import http.server
import io
import json
import threading
import uuid
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from psycopg import sql
from pydantic import SecretStr

from nightshift.artifact import ArtifactRef, Attempt
from nightshift.core.onnx_model import Signature
from nightshift.deployment import Deployment, GateResult, model_version
from nightshift.errors import (
    ArtifactCorrupt,
    ChampionChanged,
    ConfigurationError,
    GateRejected,
    PartitionNotReady,
    UnknownModel,
)
from nightshift.io import warehouse_schema
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.io.warehouse import Publication, Warehouse
from nightshift.settings import Settings
from nightshift.steps.operator import drill_kill_switch, kill_switch, retire_model, rollback_model
from nightshift.steps.predict import resolve_model
from nightshift.usecase import UseCase, load_use_case

ROOT = Path(__file__).resolve().parents[1] / "second_use_case"
D = date(2020, 3, 20)
ROWS = 40
WHY = "scores are near zero for a whole branch"
ANNA = "hand:anna"


def day(n: int) -> date:
    return D + timedelta(days=n)


@pytest.fixture
def use_case(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[UseCase]:
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(ROOT))
    made = dataclasses.replace(load_use_case("late_returns"), name=f"late_{uuid.uuid4().hex[:8]}")
    yield made
    with warehouse_schema.connect(settings) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(made.name)))


def graph(slope: float) -> bytes:
    """P = sigmoid(slope * hours - 1), as the fallback's logistic regression would be."""
    nodes = [
        helper.make_node("Mul", ["numeric", "slope"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants = [
        helper.make_tensor("slope", TensorProto.FLOAT, [1], [slope]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    inputs = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["n", 1])]
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])]
    made = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return bytes(
        helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


class Desk:
    """Makes what nights would have made, and runs the steps under test."""

    def __init__(self, use_case: UseCase, settings: Settings, store: ArtifactStore) -> None:
        self.use_case, self.settings, self.store = use_case, settings, store
        self.warehouse = Warehouse(settings, use_case)

    def run(self, step: Any, partition: date, **arguments: Any) -> ArtifactRef:
        return step.run(self.use_case, self.settings, self.store, partition, **arguments)

    def roll_back(self, partition: date = D, **more: Any) -> ArtifactRef:
        return self.run(rollback_model, partition, **{"reason": WHY, "decided_by": ANNA, **more})

    def switch(self, state: str, partition: date = D, **more: Any) -> ArtifactRef:
        return self.run(kill_switch, partition, state=state, **{"reason": WHY, "decided_by": ANNA, **more})

    def retire(self, version: str, partition: date = D, **more: Any) -> ArtifactRef:
        arguments = {"model_version": version, "reason": WHY, "decided_by": ANNA, **more}
        return self.run(retire_model, partition, **arguments)

    def read(self, ref: ArtifactRef, path: str) -> dict[str, Any]:
        return json.loads(self.store.read(ref, path))

    def model(self, partition: date, *, slope: float = 0.05, feature: str = "hours") -> ArtifactRef:
        signature = Signature(numeric=(feature,), feature_service="late_returns_v1", score="p_late")
        training_set = self.store.commit(
            use_case=self.use_case.name,
            step="build_training_set",
            partition=partition,
            kind="training_set",
            files={"rows.txt": str(partition).encode()},
        )
        return self.store.commit(
            use_case=self.use_case.name,
            step="select_model",
            partition=partition,
            kind="model",
            files={"model.onnx": graph(slope), "signature.json": signature.to_json()},
            inputs={"training_set": [training_set]},
        )

    def decide(self, partition: date, action: str, model: ArtifactRef, role: str = "champion", **more: Any) -> str:
        by = {"bootstrap": "register_fallback", "shadow": "register"}.get(action, "advance_model")
        version = model_version(date.fromisoformat(model.uri.split("/")[-3]), model)
        made = {"partition": partition, "action": action, "role": role, "model_version": version, "model": model}
        self.warehouse.record_deployment(Deployment.model_validate(made | {"decided_by": by, **more}))
        return version

    def serving(self, partition: date) -> str:
        """Who answers a partition, by the step that decides it every night."""
        choice = self.run(resolve_model, partition, allow_undecided=True)
        return str(self.read(choice, "model_choice.json")["model_version"])

    def actions(self) -> list[tuple[str, str, str]]:
        return [(d.partition.isoformat(), d.action, d.model_version) for d in self.warehouse.decisions()]

    def publish(self, partition: date, *, beside: str | None = None, feature: str = "hours") -> ArtifactRef:
        """A published night; with `beside`, a former champion standing by was asked about every row, too."""
        life = self.warehouse.life_as_of(partition)
        serving = life.serving
        assert serving is not None
        assert serving.model is not None
        known = {d.model_version: d.model.model_dump() for d in self.warehouse.decisions() if d.model}
        choice: dict[str, Any] = {
            "model": known[serving.model_version],
            "model_version": serving.model_version,
            "role": life.serving_role,
            "beside": beside and {"model": known[beside], "model_version": beside, "stage": "standby", "share": 0.0},
        }
        choice_ref = self.store.commit(
            use_case=self.use_case.name,
            step="resolve_model",
            partition=partition,
            kind="model_choice",
            files={"model_choice.json": json.dumps(choice).encode()},
        )
        tomorrow = pa.array([partition + timedelta(days=1)] * ROWS, pa.date32())
        keys = {"booking_date": tomorrow, "booking": list(range(ROWS))}
        scores = np.linspace(0.1, 0.9, ROWS)
        answers = {"p_late": scores, "decision": scores >= 0.5, "model_version": [serving.model_version] * ROWS}
        table = pa.table({**keys, "branch": ["north"] * ROWS, **answers})
        both = {"serving_score": scores, "beside_score": scores[::-1].copy(), "published": [False] * ROWS}
        files = {
            "scores.parquet": table,
            "features.parquet": pa.table({**keys, feature: np.arange(ROWS, dtype=np.float64)}),
            **({"shadow.parquet": pa.table({**keys, **both})} if beside else {}),
        }
        ref = self.store.commit(
            use_case=self.use_case.name,
            step="score",
            partition=partition,
            kind="scores",
            files=files,
            inputs={"model_choice": [choice_ref], "model": [serving.model]},
            rows=ROWS,
        )
        publication = Publication(
            partition=partition,
            prediction_date=partition + timedelta(days=1),
            model_version=serving.model_version,
            role=life.serving_role,
            model=serving.model,
            scores=ref,
            rows=ROWS,
        )
        self.warehouse.publish_predictions(publication, table)
        return self.store.commit(
            use_case=self.use_case.name,
            step="publish_predictions",
            partition=partition,
            kind="publication",
            files={},
            inputs={"scores": [ref]},
        )

    def state(self) -> list[Any]:
        """Everything the warehouse holds."""
        tables = ("deployments", "publications", "predictions", "shadow_predictions", "gate_results")
        with self.warehouse.connection() as connection:
            return [
                connection.execute(sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(self.warehouse.table(t))).fetchall()
                for t in tables
            ]


@pytest.fixture
def desk(use_case: UseCase, settings: Settings, store: ArtifactStore) -> Desk:
    return Desk(use_case, settings, store)


class Grown(Desk):
    """A fallback, three champions one after another, the last confirmed, and a published night D."""

    fallback: str
    first: str
    second: str
    third: str


@pytest.fixture
def grown(use_case: UseCase, settings: Settings, store: ArtifactStore) -> Grown:
    desk = Grown(use_case, settings, store)
    desk.fallback = desk.decide(day(-9), "bootstrap", desk.model(day(-9), slope=0.04), "fallback")
    desk.first = desk.decide(day(-9), "promoted", desk.model(day(-8)))
    desk.second = desk.decide(day(-6), "promoted", desk.model(day(-7)), replaces=desk.first)
    desk.decide(day(-5), "confirmed", desk.model(day(-7)))
    desk.third = desk.decide(day(-3), "promoted", desk.model(day(-4)), replaces=desk.second)
    desk.decide(day(-2), "confirmed", desk.model(day(-4)))
    desk.publish(D)
    return desk


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A URL, and the texts that were posted to it."""
    received: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def in_a_run() -> Iterator[None]:
    """As inside one run of the orchestrator."""
    token = CURRENT_ATTEMPT.set(Attempt(dag_id="rollback_model", run_id="manual__1", task_id="rollback_model"))
    yield
    CURRENT_ATTEMPT.reset(token)


# rollback_model


def test_a_rollback_takes_effect_on_the_next_prediction_and_says_who_and_why(grown: Grown) -> None:
    assert grown.serving(day(1)) == grown.third
    ref = grown.roll_back()
    assert grown.serving(day(1)) == grown.second
    assert grown.serving(D) == grown.third, "a night whose models are chosen does not change"
    last = grown.warehouse.decisions()[-1]
    assert (last.action, last.replaces, last.decided_by) == ("rolled_back", grown.third, ANNA)
    assert last.reason["why"] == WHY
    stated = grown.read(ref, "rollback.json")
    assert (stated["model_version"], stated["replaces"]) == (grown.second, grown.third)


@pytest.mark.parametrize("way", ["roll_back", "switch"])
def test_a_night_whose_models_were_chosen_before_is_named(grown: Grown, way: str) -> None:
    decide = {"roll_back": grown.roll_back, "switch": lambda: grown.switch("on")}[way]
    name = {"roll_back": "rollback.json", "switch": "kill_switch.json"}[way]
    grown.serving(day(1))
    message = grown.read(decide(), name)["message"]
    assert f"The models of {day(1)} were chosen before: clear {grown.use_case.name}.predict" in message


def test_one_can_go_further_back_and_forth_by_naming_the_version(grown: Grown) -> None:
    grown.roll_back(to_version=grown.first)
    assert grown.serving(day(1)) == grown.first
    grown.roll_back(to_version=grown.third)
    assert grown.serving(day(1)) == grown.third


@pytest.mark.usefixtures("in_a_run")
def test_a_second_try_of_the_same_run_does_not_go_back_twice(grown: Grown) -> None:
    once = grown.roll_back()
    before = grown.actions()
    assert grown.roll_back() == once
    assert grown.actions() == before
    assert grown.serving(day(1)) == grown.second


def test_what_cannot_be_rolled_back_to_is_refused_and_nothing_recorded(grown: Grown) -> None:
    rejected = grown.decide(day(-1), "rejected", grown.model(day(-1)))
    grown.retire(grown.first)
    before = grown.actions()
    for version, why in {
        "2020-01-01-00000000": "was never champion",
        rejected: "was never champion",
        grown.fallback: "was never champion",
        grown.first: "was retired",
        grown.third: "is the champion already",
    }.items():
        with pytest.raises(UnknownModel, match=why) as refused:
            grown.roll_back(to_version=version)
        assert f"Former champions are {grown.second};" in str(refused.value)
    assert grown.actions() == before


def test_without_a_former_champion_there_is_nothing_to_roll_back_to(desk: Desk) -> None:
    desk.decide(day(-2), "bootstrap", desk.model(day(-2)), "fallback")
    with pytest.raises(UnknownModel, match="no champion after partition 2020-03-20"):
        desk.roll_back()
    desk.decide(day(-1), "promoted", desk.model(day(-1)))
    with pytest.raises(UnknownModel, match=r"no champion before .* Use the kill switch"):
        desk.roll_back()


def test_a_rollback_that_a_later_promotion_would_undo_is_refused(grown: Grown) -> None:
    fourth = grown.decide(day(1), "promoted", grown.model(D), replaces=grown.third)
    with pytest.raises(ChampionChanged, match=f"promoted on {day(1)} is {fourth}.* with partition {day(1)}"):
        grown.roll_back(D)
    grown.roll_back(day(1))
    assert grown.serving(day(2)) == grown.third


def test_of_two_rollbacks_at_once_one_is_refused(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = grown.warehouse.decisions()
    grown.roll_back(decided_by="hand:bert")
    monkeypatch.setattr(Warehouse, "decisions", lambda self: seen)
    with pytest.raises(ChampionChanged, match=f"the champion is {grown.second} by now"):
        grown.roll_back(to_version=grown.first)


def test_the_published_night_can_be_switched_too_from_stored_scores(grown: Grown) -> None:
    grown.publish(day(1), beside=grown.second)
    query = sql.SQL("SELECT p_late, model_version FROM {} WHERE booking_date = %s ORDER BY booking")
    ref = grown.roll_back(day(1), switch_published=True)
    with grown.warehouse.connection() as connection:
        rows = connection.execute(query.format(grown.warehouse.table("predictions")), [day(2)]).fetchall()
    assert {version for _, version in rows} == {grown.second}
    assert rows[0][0] == pytest.approx(0.9)
    assert grown.store.manifest(ref).metrics["published_night_switched"] is True
    publication = grown.warehouse.latest_publication()
    assert publication is not None
    assert publication["model_version"] == grown.second


def test_a_night_that_the_model_was_not_asked_about_stays_and_the_rollback_stands(grown: Grown) -> None:
    with pytest.raises(UnknownModel, match="was scored by"):
        grown.roll_back(switch_published=True)
    assert grown.serving(day(1)) == grown.second


# kill_switch


def test_the_switch_takes_effect_on_the_next_prediction_and_can_be_turned_off(grown: Grown) -> None:
    ref = grown.switch("on")
    assert grown.serving(D) == grown.third
    assert grown.serving(day(1)) == grown.fallback
    assert grown.read(ref, "kill_switch.json")["answers"] == grown.fallback
    assert grown.warehouse.decisions()[-1].decided_by == ANNA
    grown.decide(day(1), "promoted", grown.model(D), replaces=grown.third)
    assert grown.serving(day(2)) == grown.fallback, "whatever is promoted meanwhile"
    grown.switch("off", day(2))
    assert grown.serving(day(3)) == model_version(D, grown.model(D))


def test_turning_on_what_is_on_changes_nothing(grown: Grown) -> None:
    grown.switch("off")
    assert not [action for _, action, _ in grown.actions() if action == "restored"]
    grown.switch("on")
    before = grown.actions()
    again = grown.switch("on", reason="pressed twice to be sure")
    assert grown.actions() == before
    assert grown.store.manifest(again).metrics["changed"] is False


def test_the_switch_needs_a_fallback_and_a_state(desk: Desk) -> None:
    desk.decide(day(-1), "promoted", desk.model(day(-1)))
    with pytest.raises(UnknownModel, match="no fallback model"):
        desk.switch("on")
    with pytest.raises(ConfigurationError, match="say on or off"):
        desk.switch("maybe")
    assert [action for _, action, _ in desk.actions()] == ["promoted"]


def test_turning_off_as_of_a_partition_before_it_was_turned_on_is_refused(grown: Grown) -> None:
    grown.switch("on", day(2))
    with pytest.raises(ConfigurationError, match=f"with partition {day(2)}"):
        grown.switch("off", D)


def test_people_are_told_once(grown: Grown, webhook: tuple[str, list[str]]) -> None:
    url, received = webhook
    grown.settings = grown.settings.model_copy(update={"alert_webhook_url": SecretStr(url)})
    for _ in range(2):
        grown.switch("on")
    grown.roll_back()
    assert len(received) == 2
    assert f"the kill switch is on; after partition {D} {grown.fallback} answers. Decided by {ANNA}" in received[0]
    assert f"{grown.second} is champion again after partition {D}" in received[1]
    assert "The kill switch is on: the fallback goes on answering" in received[1]
    assert WHY in received[1]


# retire_model


def test_a_retired_model_is_archived_and_never_serves_again(grown: Grown) -> None:
    grown.warehouse.record_gates(
        day(-8), grown.first, [GateResult(gate="parity_fitted", verdict="pass", observed=1e-7, bound=1e-5)]
    )
    ref = grown.retire(grown.first)
    key = f"archive/{grown.use_case.name}/{grown.first}.zip"
    body = grown.store.get(key)
    assert body is not None
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        model = grown.warehouse.decisions()[1].model
        assert model is not None
        assert archive.read("model/model.onnx") == grown.store.read(model, "model.onnx")
        deployments = json.loads(archive.read("deployments.json"))
        gates = json.loads(archive.read("gate_results.json"))
    steps = sorted(name.split("/")[1] for name in names if name.startswith("manifests/"))
    assert steps == ["build_training_set", "select_model"]
    assert {d["model_version"] for d in deployments} == {grown.first}
    assert [(g["gate"], g["verdict"], g["observed"]) for g in gates] == [("parity_fitted", "pass", 1e-7)]
    assert grown.read(ref, "retirement.json")["archive"] == grown.store.uri(key)
    assert grown.warehouse.life_as_of(day(1)).retired == {grown.first}

    before = grown.actions()
    assert grown.retire(grown.first) == ref
    assert grown.store.get(key) == body, "the same archive, byte for byte"
    assert grown.actions() == before


def test_what_is_in_use_is_not_retired(grown: Grown) -> None:
    fourth = grown.decide(day(-1), "promoted", grown.model(day(-1)), replaces=grown.third)
    before = grown.actions()
    for version, why in {
        fourth: "is the champion",
        grown.third: "stands by",
        grown.fallback: "is the fallback",
    }.items():
        with pytest.raises(ConfigurationError, match=why):
            grown.retire(version)
        assert grown.store.get(f"archive/{grown.use_case.name}/{version}.zip") is None
    with pytest.raises(UnknownModel, match="knows no model"):
        grown.retire("2020-01-01-00000000")
    assert grown.actions() == before


def test_a_champion_of_a_later_partition_is_not_retired_as_of_an_earlier_one(grown: Grown) -> None:
    fourth = grown.decide(day(1), "promoted", grown.model(D), replaces=grown.third)
    with pytest.raises(ConfigurationError, match="is the champion"):
        grown.retire(fourth, D)


def test_a_model_on_trial_is_withdrawn_by_retiring_it(grown: Grown) -> None:
    challenger = grown.decide(day(-1), "shadow", grown.model(day(-1)), "challenger")
    assert grown.warehouse.life_as_of(day(1)).trial is not None
    grown.retire(challenger)
    assert grown.warehouse.life_as_of(day(1)).trial is None


def test_a_model_whose_bytes_are_damaged_is_not_retired(grown: Grown) -> None:
    model = grown.warehouse.decisions()[1].model
    assert model is not None
    grown.store.put(grown.store.key(model.uri) + "model.onnx", b"damaged")
    before = grown.actions()
    with pytest.raises(ArtifactCorrupt, match="not the bytes"):
        grown.retire(grown.first)
    assert grown.actions() == before


# drill_kill_switch


def test_a_drill_finds_that_the_fallback_answers_and_changes_nothing(
    grown: Grown, webhook: tuple[str, list[str]]
) -> None:
    grown.settings = grown.settings.model_copy(update={"alert_webhook_url": SecretStr(webhook[0])})
    before = grown.state()
    ref = grown.run(drill_kill_switch, D)
    assert grown.state() == before
    assert webhook[1] == []
    drill = grown.read(ref, "drill.json")
    assert drill["passed"] is True
    assert (drill["before"], drill["during"], drill["after"]) == (grown.third, grown.fallback, grown.third)
    assert drill["rows"] == ROWS
    assert all(check["passed"] for check in drill["checks"])
    assert "as stored with the scores" in str(drill["checks"])
    page = grown.store.read(ref, "drill.html").decode()
    assert "Passed" in page
    assert grown.fallback in page
    assert grown.store.manifest(ref).metrics["seconds"] > 0
    assert grown.run(drill_kill_switch, D) == ref, "nothing measured by a clock is in its files"


def test_a_drill_while_the_switch_is_on_leaves_it_on(grown: Grown) -> None:
    grown.switch("on")
    before = grown.state()
    drill = grown.read(grown.run(drill_kill_switch, D), "drill.json")
    assert grown.state() == before
    assert (drill["before"], drill["during"], drill["after"]) == (grown.fallback,) * 3


@pytest.mark.parametrize(
    ("slope", "feature", "why"),
    [
        (float("nan"), "hours", "no score is missing"),
        (1000.0, "hours", "mean score is plausible"),
        (0.04, "absent", "PartitionNotReady: .* no curated data"),
    ],
)
def test_a_fallback_that_cannot_answer_is_found_by_the_drill(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    webhook: tuple[str, list[str]],
    slope: float,
    feature: str,
    why: str,
) -> None:
    settings = settings.model_copy(update={"alert_webhook_url": SecretStr(webhook[0])})
    desk = Desk(use_case, settings, store)
    fallback = desk.decide(day(-2), "bootstrap", desk.model(day(-2), slope=slope, feature=feature), "fallback")
    champion = desk.decide(day(-1), "promoted", desk.model(day(-1)))
    desk.publish(D)
    before = desk.state()
    with pytest.raises(GateRejected, match=why):
        desk.run(drill_kill_switch, D)
    assert desk.state() == before
    (told,) = webhook[1]
    assert "the drill of the kill switch failed" in told
    ref = store.current(use_case.name, "drill_kill_switch", D)
    drill = desk.read(ref, "drill.json")
    assert drill["passed"] is False
    assert (drill["before"], drill["during"], drill["after"]) == (champion, fallback, None)


def test_a_drill_without_a_fallback_fails_before_anything_is_switched(desk: Desk) -> None:
    desk.decide(day(-1), "promoted", desk.model(day(-1)))
    desk.publish(D)
    with pytest.raises(GateRejected, match="there is a fallback: nobody"):
        desk.run(drill_kill_switch, D)


def test_a_drill_whose_fallback_is_damaged_says_so(grown: Grown) -> None:
    model = grown.warehouse.decisions()[0].model
    assert model is not None
    grown.store.put(grown.store.key(model.uri) + "model.onnx", b"damaged")
    with pytest.raises(GateRejected, match="the fallback can be loaded: ArtifactCorrupt"):
        grown.run(drill_kill_switch, D)


def test_features_that_were_not_stored_are_read_through_the_feature_service(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = grown.store.current(grown.use_case.name, "score", D)
    stored = grown.store.read_table(night, "features.parquet")
    asked: list[str] = []

    def spine(*args: Any, **kwargs: Any) -> pa.Table:
        return stored.select(["booking_date", "booking"])

    def features(use_case: Any, settings: Any, store: Any, service: str, rows: pa.Table, **kwargs: Any) -> pa.Table:
        asked.append(service)
        assert kwargs["partitions"] == {D: night}
        return rows.append_column("branch_late_rate", pa.array(np.linspace(0, 1, rows.num_rows)))

    fallback = grown.model(day(-1), feature="branch_late_rate", slope=1.0)
    grown.decide(day(-1), "bootstrap", fallback, "fallback")
    monkeypatch.setattr(drill_kill_switch, "load_feeds", lambda *args: {})
    monkeypatch.setattr(drill_kill_switch, "compute_spine", spine)
    monkeypatch.setattr(drill_kill_switch, "historical_features", features)
    manifest = grown.store.manifest
    monkeypatch.setattr(
        grown.store,
        "manifest",
        lambda ref: (
            manifest(ref).model_copy(update={"inputs": {"features": [night]}}) if ref == night else manifest(ref)
        ),
    )
    drill = grown.read(grown.run(drill_kill_switch, D), "drill.json")
    assert asked == ["late_returns_v1"]
    assert "read through late_returns_v1" in str(drill["checks"])


def test_a_night_that_was_never_published_cannot_be_rehearsed_on(grown: Grown) -> None:
    with pytest.raises(PartitionNotReady, match="published nothing"):
        grown.run(drill_kill_switch, day(5))
