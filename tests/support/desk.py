"""Makes what earlier stages would have made, so that predicting and promoting run without training or Feast.

The second use case, forty bookings a day, on a real object store and a real warehouse. Versions are ONNX graphs
`sigmoid(slope * hours + bias)`, where `hours` is the booking's number; bookings from about the twentieth on are late.

    with new_desk(monkeypatch, settings, store) as desk:
        begin(desk)                       # fallback and champion, of the partition before D
        challenger = desk.use_case.challengers[0]
        desk.register(challenger, D, SIMILAR, role="challenger")
        desk.decide(D, "shadow", challenger)                        # decided_by nominate
        desk.decide(D, "canary", challenger, share=0.4)             # decided_by advance
        desk.live(1, 3)                   # partitions D + 1 .. D + 3: delivered, predicted, published
        desk.rows("predictions")

`deliver` states the labels of a day, and late or corrected ones; `predict` runs resolve_model, calibrate, score,
audit and publish_predictions; `register` and `decide` append rows to deployments.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from psycopg import sql
from psycopg.rows import dict_row

from nightshift.artifact import ArtifactRef, Decision, sha256_hex
from nightshift.core.inference.domain import Domain
from nightshift.core.inference.onnx_model import Signature
from nightshift.core.monitoring.day_summary import summarise
from nightshift.declare.discovery import load_use_case
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import RiskPolicy
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment, model_version
from nightshift.documents.predict import ModelChoice
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.pipeline import step_module
from nightshift.settings import Settings
from nightshift.steps.context import StepContext
from nightshift.steps.predict import score
from support.second_use_case import ROOT

D = date(2020, 3, 20)
BOOKINGS = 40
SERVICE = "late_returns_v1"

DECIDED_BY = {"shadow": "nominate", "backtest_failed": "nominate", "killed": "hand:ann", "restored": "hand:ann"}
"""Who takes decisions of a kind; the others are taken by `advance`."""


def days_after(number: int) -> date:
    """The partition that many days after D."""
    return D + timedelta(days=number)


@contextmanager
def late_returns(monkeypatch: pytest.MonkeyPatch, settings: Settings, **changes: Any) -> Iterator[UseCase]:
    """The second use case under a name, and with a schema, of its own; `changes` replace what it declares."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(ROOT))
    name = f"late_{uuid.uuid4().hex[:8]}"
    yield dataclasses.replace(load_use_case("late_returns"), name=name, **changes)
    with warehouse_schema.connect(settings) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


@contextmanager
def new_desk(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore, **changes: Any
) -> Iterator[Desk]:
    """A desk without Feast and MLflow, of a use case whose specs need no approval; `changes` as in `late_returns`."""
    monkeypatch.setattr(score, "historical_features", hours_without_feast)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with late_returns(monkeypatch, settings, **({"risk": RiskPolicy()} | changes)) as use_case:
        yield Desk(use_case, settings, store)


def hours_without_feast(
    use_case: UseCase, settings: Settings, store: ArtifactStore, service: str, spine: pa.Table, **_: Any
) -> pa.Table:
    """In place of `historical_features`: one feature, `hours`, which is the booking's number."""
    if service != SERVICE:
        raise ConfigurationError("NS-TEST-001", f"there is no feature service {service}")
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


EVEN = sigmoid_of_hours(0.11, -2.15)
"""Scores from 0.1 to 0.9, spread evenly."""
GOOD = sigmoid_of_hours(0.3, -6.0)
SIMILAR = sigmoid_of_hours(0.32, -6.4)
POOR = sigmoid_of_hours(0.02, -0.4)
TERRIBLE = sigmoid_of_hours(-0.3, 6.0)


def late_bookings(day: date) -> list[int]:
    """Labels of a day by booking: the long bookings are late, nearly, and each day is a little different."""
    shift = day.toordinal() % 3
    return [int(i >= 19 + shift) for i in range(BOOKINGS)]


class Desk:
    """One use case on one store and one warehouse."""

    def __init__(self, use_case: UseCase, settings: Settings, store: ArtifactStore) -> None:
        self.use_case, self.settings, self.store = use_case, settings, store
        self.warehouse = Warehouse(settings, use_case)

    def step(self, name: str, partition: date, **refs: Any) -> ArtifactRef:
        """Run one step."""
        module = importlib.import_module(step_module(name))
        ref: ArtifactRef = module.run(StepContext(self.use_case, self.settings, self.store, partition), **refs)
        return ref

    # What earlier stages make

    def deliver(
        self,
        partition: date,
        *,
        bookings: int = BOOKINGS,
        labels: Sequence[int | None] | None = None,
        late: Mapping[date, Mapping[int, int | None]] | None = None,
    ) -> ArtifactRef:
        """Ingest and materialize: tomorrow's bookings, and returns. Returns the curated artifact.

        `labels`: of the partition's own bookings, None where it is not known yet (default: `late_bookings`);
        `late`: labels of earlier days, by booking; None withdraws one.
        """
        labels = late_bookings(partition) if labels is None else labels
        returns = [(partition, booking, label) for booking, label in enumerate(labels) if label is not None]
        returns += [(day, booking, label) for day, known in (late or {}).items() for booking, label in known.items()]
        key = f"landing/{self.use_case.name}/bookings/dt={partition}/bookings.csv"
        body = f"bookings of {partition}".encode()
        self.store.put(key, body)
        landed = ArtifactRef(uri=self.store.uri(key), sha256=sha256_hex(body), kind="landed_file")
        tomorrow = partition + timedelta(days=1)
        returned = _feed(landed, [(day, booking) for day, booking, _ in returns])
        files = {
            "bookings.parquet": _feed(landed, [(tomorrow, booking) for booking in range(bookings)]),
            "returns.parquet": returned.add_column(
                returned.column_names.index("landed_uri"),
                "returned_late",
                pa.array([label for _, _, label in returns], pa.int64()),
            ),
        }
        name = self.use_case.name
        curated = self.store.commit(
            use_case=name, step="publish", partition=partition, kind="curated", files=files,
            inputs={"landed": [landed]}, rows=bookings,
        )  # fmt: skip
        columns = [column.name for column in self.use_case.feed("bookings").curated]
        summary = summarise(
            "bookings",
            files["bookings.parquet"].select(columns),
            partition=partition,
            cutoff=self.use_case.cutoff(partition),
        )
        self.store.commit(
            use_case=name, step="build_features", partition=partition, kind="features",
            files={"summary.parquet": summary}, inputs={"curated": [curated]},
        )  # fmt: skip
        self.store.commit(
            use_case=name, step="publish_features", partition=partition, kind="features", files={},
            inputs={"curated": [curated]},
        )  # fmt: skip
        return curated

    def training_set(self, partition: date, curated: Sequence[ArtifactRef]) -> ArtifactRef:
        """A list of training rows, one part for each curated artifact, and what each part came from."""
        parts = [
            self.store.commit(
                use_case=self.use_case.name,
                step="build_training_set",
                partition=partition,
                variant=f"part-{number}",
                kind="training_rows",
                files={"rows.parquet": pa.table({"hours": [float(number)]})},
                inputs={"curated": [ref]},
                rows=1,
            )
            for number, ref in enumerate(curated)
        ]
        return self.store.commit(
            use_case=self.use_case.name, step="build_training_set", partition=partition, kind="training_set",
            files={"training_set.json": b"{}"}, inputs={"parts": parts}, rows=len(parts),
        )  # fmt: skip

    def version(
        self,
        spec: ModelSpec,
        partition: date,
        graph: bytes = GOOD,
        *,
        training_set: ArtifactRef | None = None,
        service: str = SERVICE,
        feature: str = "hours",
        domain: Domain | None = None,
    ) -> ArtifactRef:
        """A version of a spec as `fit` would commit it, without recording it."""
        signature = Signature(numeric=(feature,), feature_service=service, score=self.use_case.score)
        return self.store.commit(
            use_case=self.use_case.name,
            step="fit",
            partition=partition,
            variant=spec.spec_id,
            kind="version",
            files={
                "model.onnx": graph,
                **signature.to_files(),
                "spec.json": spec.model_dump_json(indent=1).encode(),
                **(domain.to_files() if domain else {}),
            },
            inputs={"training_set": [training_set] if training_set else []},
        )

    def register(
        self, spec: ModelSpec, partition: date, graph: bytes = GOOD, *, role: str = "champion", **version: Any
    ) -> Deployment:
        """Make a version of a spec and record that it passed its gates; `version` as in `version`."""
        ref = self.version(spec, partition, graph, **version)
        return self._record(
            partition, "registered", spec, role, "register", model=ref, model_version=model_version(partition, ref)
        )

    def decide(
        self,
        partition: date,
        action: str,
        spec: ModelSpec | None = None,
        *,
        role: str = "challenger",
        by: str = "",
        share: float | None = None,
        **more: Any,
    ) -> Deployment:
        """Record a decision about a spec (or about all), by the step that takes decisions of that kind, or `by`."""
        if share is not None:
            more["reason"] = {"share": share}
        role = "champion" if action in ("promoted", "rolled_back", "killed", "restored") else role
        return self._record(partition, action, spec, role, by or DECIDED_BY.get(action, "advance"), **more)

    def end(self, step: str, partition: date) -> None:
        """Let a step of a partition be decided, without a result."""
        self.store.decide(self.use_case.name, step, partition, Decision(status="rejected", reason="of a test"))

    def fail_training(self, partition: date) -> Deployment:
        """Record that the training of a partition made nothing."""
        return self._record(partition, "failed", None, "champion", "record_failure", model_version="none")

    def _record(
        self, partition: date, action: str, spec: ModelSpec | None, role: str, by: str, **more: Any
    ) -> Deployment:
        about = {"spec_id": spec.spec_id, "spec": spec} if spec else {}
        made = Deployment.model_validate(
            {"partition": partition, "action": action, "role": role, "decided_by": by, **about, **more}
        )
        self.warehouse.record_deployment(made)
        return made

    # The predict and check_drift DAGs

    def choose(self, partition: date) -> ArtifactRef:
        """Choose the versions of a partition, whether or not the training before it was decided."""
        return self.step("resolve_model", partition, allow_undecided=True)

    def score(self, partition: date, choice: ArtifactRef) -> ArtifactRef:
        """Calibrate and score by a choice."""
        calibrated = self.step("calibrate", partition, model_choice=choice)
        return self.step("score", partition, model_choice=choice, calibration=calibrated)

    def publish(self, partition: date, scores: ArtifactRef) -> ArtifactRef:
        """Audit and publish scores."""
        audited = self.step("audit", partition, scores=scores)
        return self.step("publish_predictions", partition, scores=scores, audited=audited)

    def predict(self, partition: date) -> ArtifactRef:
        """Predict a delivered partition, to its publication."""
        return self.publish(partition, self.score(partition, self.choose(partition)))

    def night(self, partition: date, **delivered: Any) -> ArtifactRef:
        """Deliver a partition and predict it; `delivered` as in `deliver`."""
        self.deliver(partition, **delivered)
        return self.predict(partition)

    def live(self, first: int, last: int) -> list[ArtifactRef]:
        """Partitions first to last after D, each delivered and predicted."""
        return [self.night(days_after(number)) for number in range(first, last + 1)]

    def check_drift(self, partition: date) -> ArtifactRef:
        """Compare, report and record the drift of a published partition, and apply the rules. Returns the outcomes."""
        performance = self.step("record_performance", partition)
        drift = self.step("compare_drift", partition, performance=performance)
        report = self.step("report_drift", partition, drift=drift)
        recorded = self.step("record_drift", partition, drift=drift)
        return self.step("apply_rules", partition, drift=drift, recorded=recorded, report=report)

    # What is there

    def choice(self, partition: date) -> ModelChoice:
        """The choice that counts for a partition."""
        ref = self.store.current(self.use_case.name, "resolve_model", partition)
        return self.store.read_document(ref, ModelChoice)

    def read(self, ref: ArtifactRef, path: str) -> Any:
        """A JSON file of an artifact."""
        return json.loads(self.store.read(ref, path))

    def count(self, table: str) -> int:
        """Rows of a table of the warehouse."""
        return len(self.rows(table, "1"))

    def rows(self, table: str, order: str = "1, 2, 3") -> list[dict[str, Any]]:
        """All rows of a table of the warehouse."""
        with self.warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            query = sql.SQL("SELECT * FROM {} ORDER BY {}").format(self.warehouse.table(table), sql.SQL(order))  # type: ignore[arg-type]
            return cursor.execute(query).fetchall()

    def actions(self) -> list[tuple[int, str, str]]:
        """What was recorded: partitions after D, action, spec id."""
        return [((made.partition - D).days, made.action, made.spec_id) for made in self.warehouse.decisions()]


def begin(desk: Desk, *, graph: bytes = GOOD, **version: Any) -> Deployment:
    """A fallback and a champion of the partition before D. Returns the champion's registration."""
    before = days_after(-1)
    desk.register(desk.use_case.fallback, before, POOR, role="fallback", **version)
    champion = desk.register(desk.use_case.champion, before, graph, **version)
    desk.decide(before, "promoted", desk.use_case.champion, by="register")
    return champion


def begin_canary(desk: Desk, *, graph: bytes = SIMILAR, share: float = 0.4, **version: Any) -> Deployment:
    """As `begin`, and a challenger that answers a share of the rows from D + 1 on. Returns its registration."""
    begin(desk)
    challenger = desk.use_case.challengers[0]
    registered = desk.register(challenger, D, graph, role="challenger", **version)
    desk.decide(D, "shadow", challenger)
    desk.decide(D, "canary", challenger, share=share)
    return registered


def _feed(landed: ArtifactRef, bookings: Sequence[tuple[date, int]]) -> pa.Table:
    """Curated rows of bookings (day, number), without a label."""
    n = len(bookings)
    return pa.table(
        {
            "booking_date": pa.array([day for day, _ in bookings], pa.date32()),
            "booking": pa.array([booking for _, booking in bookings], pa.int64()),
            "branch": pa.array(["north" if booking % 2 else "south" for _, booking in bookings], pa.string()),
            "customer": pa.array(["private"] * n, pa.string()),
            "hours": pa.array([float(booking) for _, booking in bookings], pa.float64()),
            "landed_uri": pa.array([landed.uri] * n, pa.string()),
            "landed_row": pa.array(range(2, n + 2), pa.int64()),
        }
    )
