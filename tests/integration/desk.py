"""Makes what earlier stages would have made: serving and promotion run without training, Feast or a scheduler."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from psycopg import sql
from psycopg.rows import dict_row

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.core.drift import build_reference
from nightshift.core.onnx_model import Signature
from nightshift.deployment import Deployment, model_version
from nightshift.errors import ConfigurationError
from nightshift.io import warehouse_schema
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.policies import RiskPolicy, TrialPolicy
from nightshift.settings import Settings
from nightshift.steps.predict import audit, publish_predictions, resolve_model, score
from nightshift.steps.promote import advance_model, judge_trial
from nightshift.usecase import UseCase, load_use_case

ROOT = Path(__file__).resolve().parents[1] / "second_use_case"
D = date(2020, 3, 20)
BOOKINGS = 40
SERVICE = "late_returns_v1"

ROLES = {"promoted": "champion", "rolled_back": "champion", "killed": "champion", "bootstrap": "fallback"}
DECIDED_BY = {
    "bootstrap": "register_fallback",
    "failed": "train",
    "rolled_back": "hand:ann",
    "killed": "hand:ann",
    "restored": "hand:ann",
    "retired": "hand:ann",
}


@contextmanager
def trial_desk(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore) -> Iterator[Desk]:
    """A desk without Feast and MLflow, of a use case that nobody has to approve anything of."""
    monkeypatch.setattr(score, "historical_features", hours_without_feast)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with late_returns(monkeypatch, settings, trial=POLICY, risk=RiskPolicy()) as use_case:
        yield Desk(use_case, settings, store)


def days_after(number: int) -> date:
    return D + timedelta(days=number)


POLICY = TrialPolicy(
    shadow_nights=2,
    canary_nights=2,
    standby_nights=2,
    longest_nights=5,
    canary_share=0.4,
    least_rows=20,
    margin_log_loss=0.01,
    emergency_margin=0.3,
)
"""Short stages, and few outcomes are enough."""


@contextmanager
def late_returns(monkeypatch: pytest.MonkeyPatch, settings: Settings, **changes: Any) -> Iterator[UseCase]:
    """The second use case under a name, and with a schema, of its own."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(ROOT))
    name = f"late_{uuid.uuid4().hex[:8]}"
    yield dataclasses.replace(load_use_case("late_returns"), name=name, **changes)
    with warehouse_schema.connect(settings) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def hours_without_feast(
    use_case: UseCase, settings: Settings, store: ArtifactStore, service: str, spine: pa.Table, **_: Any
) -> pa.Table:
    """In place of `historical_features`: one feature, `hours`, which is the booking's number."""
    if service != SERVICE:
        raise ConfigurationError(f"there is no feature service {service}")
    return spine.append_column("hours", pa.array(spine["booking"].to_numpy().astype(np.float64)))


def sigmoid_of_hours(slope: float, bias: float) -> bytes:
    """A graph: probability = sigmoid(slope * hours + bias)."""
    weights = [
        helper.make_tensor("slope", TensorProto.FLOAT, [1, 1], [slope]),
        helper.make_tensor("bias", TensorProto.FLOAT, [1], [bias]),
    ]
    nodes = [
        helper.make_node("MatMul", ["numeric", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, 1])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "sigmoid_of_hours", [numeric], [probability], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


GOOD = sigmoid_of_hours(0.3, -6.0)
SIMILAR = sigmoid_of_hours(0.32, -6.4)
POOR = sigmoid_of_hours(0.02, -0.4)
TERRIBLE = sigmoid_of_hours(-0.3, 6.0)


def late_bookings(day: date) -> list[int]:
    """Outcomes of a day: the long bookings are late, nearly, and each night is a little different."""
    shift = day.toordinal() % 3
    return [int(i >= 19 + shift) for i in range(BOOKINGS)]


class Desk:
    """One use case on one store and one warehouse."""

    def __init__(self, use_case: UseCase, settings: Settings, store: ArtifactStore) -> None:
        self.use_case, self.settings, self.store = use_case, settings, store
        self.warehouse = Warehouse(settings, use_case)
        self.labels: list[int] | None = None
        """Outcomes that are delivered from now on; None: those of `late_bookings`."""

    def run(self, step: Any, partition: date, **refs: Any) -> ArtifactRef:
        return step.run(self.use_case, self.settings, self.store, partition, **refs)

    def read(self, ref: ArtifactRef, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.read(ref, name))
        return found

    # What earlier stages make

    def curated(self, partition: date, *, bookings: int = BOOKINGS, labels: list[int] | None = None) -> ArtifactRef:
        """Tomorrow's bookings, and today's returns."""
        key = f"landing/{self.use_case.name}/bookings/dt={partition}/bookings.csv"
        self.store.put(key, f"bookings of {partition}".encode())
        landed = ArtifactRef(
            uri=self.store.uri(key), sha256=sha256_hex(f"bookings of {partition}".encode()), kind="landed_file"
        )

        def feed(day: date, n: int, **more: Any) -> dict[str, Any]:
            return {
                "booking_date": pa.array([day] * n, pa.date32()),
                "booking": list(range(n)),
                "branch": ["north", "south"] * (n // 2) + ["north"] * (n % 2),
                "customer": ["private"] * n,
                "hours": [float(i) for i in range(n)],
                **more,
                "landed_uri": [landed.uri] * n,
                "landed_row": list(range(2, n + 2)),
            }

        known = labels if labels is not None else [i % 2 for i in range(BOOKINGS)]
        returned = feed(partition, len(known), returned_late=pa.array(known, pa.int64()))
        return self.store.commit(
            use_case=self.use_case.name,
            step="publish",
            partition=partition,
            kind="curated",
            files={
                "bookings.parquet": pa.table(feed(partition + timedelta(days=1), bookings)),
                "returns.parquet": pa.table(returned),
            },
            inputs={"landed": [landed]},
            rows=bookings,
        )

    def model(
        self,
        partition: date,
        curated: list[ArtifactRef] | None = None,
        graph: bytes = GOOD,
        *,
        service: str = SERVICE,
        feature: str = "hours",
    ) -> ArtifactRef:
        rng = np.random.default_rng(0)
        days, n = 30, 30 * BOOKINGS
        table = pa.table(
            {
                "hours": rng.uniform(0, BOOKINGS, n),
                "p_late": rng.uniform(0.1, 0.9, n),
                "is_late": rng.integers(0, 2, n),
                "day": pa.array([partition - timedelta(days=i // BOOKINGS) for i in range(n)], pa.date32()),
            }
        )
        assert days * BOOKINGS == n
        reference = build_reference(table, numeric=("hours", "p_late", "is_late"), categorical=(), day_column="day")
        signature = Signature(numeric=(feature,), feature_service=service, score="p_late")
        return self.store.commit(
            use_case=self.use_case.name,
            step="register",
            partition=partition,
            kind="model",
            files={"model.onnx": graph, "signature.json": signature.to_json(), **reference.to_files()},
            inputs={"training_set": curated or []},
        )

    def deploy(
        self, partition: date, action: str, model: ArtifactRef | None, role: str = "", *, by: str = "", **more: Any
    ) -> Deployment:
        """Record a decision, by the step that takes decisions of that kind."""
        made = Deployment.model_validate(
            {
                "partition": partition,
                "action": action,
                "role": role or ROLES.get(action, "challenger"),
                "model_version": model_version(partition, model) if model else "none",
                "model": model,
                "decided_by": by or DECIDED_BY.get(action, "register"),
                **more,
            }
        )
        self.warehouse.record_deployment(made)
        return made

    def score(self, partition: date, choice: ArtifactRef, curated: ArtifactRef, *, rows: int = BOOKINGS) -> ArtifactRef:
        """Scores that no model made: evenly from 0.1 to 0.9."""
        day = [partition + timedelta(days=1)] * rows
        scores = np.linspace(0.1, 0.9, rows)
        key = {"booking_date": pa.array(day, pa.date32()), "booking": list(range(rows))}
        table = pa.table({**key, "branch": ["north"] * rows, "p_late": scores, "decision": scores >= 0.5})
        return self.store.commit(
            use_case=self.use_case.name,
            step="score",
            partition=partition,
            kind="scores",
            files={
                "scores.parquet": table,
                "features.parquet": pa.table({**key, "hours": [float(i) for i in range(rows)]}),
            },
            inputs={"model_choice": [choice], "curated": [curated]},
            rows=rows,
        )

    # Nights

    def night(self, partition: date, **delivered: Any) -> ArtifactRef:
        """Scores of a partition that no model made, published."""
        curated = self.curated(partition, **delivered)
        choice = self.run(resolve_model, partition, allow_undecided=True)
        return self._published(partition, self.score(partition, choice, curated))

    def predict(self, partition: date) -> ArtifactRef:
        """Deliver a partition with `late_bookings`, and predict by the models that it has. Returns the scores."""
        self.curated(partition, labels=self.labels or late_bookings(partition))
        self.store.commit(
            use_case=self.use_case.name, step="publish_features", partition=partition, kind="features", files={}
        )
        choice = self.run(resolve_model, partition)
        scores = self.run(score, partition, model_choice=choice)
        self._published(partition, scores)
        return scores

    def promote(self, partition: date) -> dict[str, Any]:
        """Judge the trial and record what follows: advance.json."""
        judged = self.run(judge_trial, partition)
        return self.read(self.run(advance_model, partition, judged=judged), "advance.json")

    def _published(self, partition: date, scores: ArtifactRef) -> ArtifactRef:
        audited = self.run(audit, partition, scores=scores)
        return self.run(publish_predictions, partition, scores=scores, audited=audited)

    # What is there

    def count(self, table: str) -> int:
        return len(self.rows(table))

    def rows(self, table: str, order: str = "1, 2, 3") -> list[dict[str, Any]]:
        with self.warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            query = sql.SQL("SELECT * FROM {} ORDER BY {}").format(self.warehouse.table(table), sql.SQL(order))  # type: ignore[arg-type]
            return cursor.execute(query).fetchall()

    def actions(self) -> list[tuple[int, str, str]]:
        """What was recorded: nights after D, action, version."""
        return [((made.partition - D).days, made.action, made.model_version) for made in self.warehouse.decisions()]


@dataclasses.dataclass
class Models:
    fallback: Deployment
    champion: Deployment
    challenger: Deployment


def begin(desk: Desk, graph: bytes = SIMILAR, **model: Any) -> Models:
    """A fallback and a champion of the day before D, and a challenger in shadow since D."""
    before = days_after(-1)
    fallback = desk.deploy(before, "bootstrap", desk.model(before, graph=POOR), "fallback")
    champion = desk.deploy(before, "promoted", desk.model(before, graph=GOOD))
    challenger = desk.deploy(D, "shadow", desk.model(D, graph=graph, **model))
    return Models(fallback, champion, challenger)


def begin_canary(desk: Desk) -> Models:
    """As `begin`, but a canary from the first night on."""
    models = begin(desk)
    desk.deploy(D, "canary", models.challenger.model, by="advance_model", reason={"share": POLICY.canary_share})
    return models


def live(desk: Desk, first: int, last: int) -> list[ArtifactRef]:
    """Nights first to last after D: predicted, trained in vain, and the trial judged. Returns the scores."""
    scores = []
    for number in range(first, last + 1):
        partition = days_after(number)
        scores.append(desk.predict(partition))
        desk.deploy(partition, "rejected", None)
        desk.promote(partition)
    return scores


def decided(desk: Desk) -> list[tuple[int, str, str]]:
    return [one for one in desk.actions() if one[1] != "rejected"][3:]


def choice_of(desk: Desk, number: int) -> dict[str, Any]:
    ref = desk.store.current(desk.use_case.name, "resolve_model", days_after(number))
    return desk.read(ref, "model_choice.json")
