"""verify on a real object store: what it commits, what it remembers, and what stops it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import onnx
import pytest

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.core.gates import CANDIDATE_GATES
from nightshift.core.risk import demands
from nightshift.errors import ArtifactCorrupt, ConfigurationError
from nightshift.io import preflight, runtimes
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.execution_cache import known_execution, machine_id
from nightshift.settings import Settings
from nightshift.steps.train import export, fit, verify
from synthetic_training_set import DAYS, FIRST, committed, training_table, use_case

PARTITION = FIRST + timedelta(days=DAYS - 1)
CASE = use_case(estimators=("logistic_regression", "xgboost"), techniques=())


class Training:
    """The fits and exports of one training set."""

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self.settings, self.store = settings, store
        self.training_set = committed(store, training_table(60), PARTITION, CASE)
        common: Any = (CASE, settings, store, PARTITION)
        self.fitted = [fit.run(*common, training_set=self.training_set, estimator=e) for e in CASE.training.estimators]
        self.exports = [
            export.run(*common, fitted=self.fitted, distilled=[], compressed=[], candidate=e)
            for e in CASE.training.estimators
        ]

    def verified(self, exports: list[ArtifactRef] | None = None, candidate: str = "xgboost") -> ArtifactRef:
        given = {"training_set": self.training_set, "fitted": self.fitted, "exports": exports or self.exports}
        return verify.run(CASE, self.settings, self.store, PARTITION, **given, candidate=candidate)

    def verification(self, ref: ArtifactRef) -> dict[str, Any]:
        return json.loads(self.store.read(ref, "verification.json"))

    def verdicts(self, ref: ArtifactRef) -> dict[str, str]:
        return {one["gate"]: one["verdict"] for one in self.store.manifest(ref).metrics["gates"]}


@pytest.fixture
def training(settings: Settings, store: ArtifactStore) -> Training:
    return Training(settings, store)


def test_verdicts_and_costs_are_on_record_and_the_execution_is_remembered(training: Training) -> None:
    store = training.store
    ref = training.verified()
    assert ref.kind == "verification"
    verdicts = training.verdicts(ref)
    assert list(verdicts) == list(CANDIDATE_GATES)
    mandatory = set(demands(CASE.risk).mandatory) & set(CANDIDATE_GATES)
    assert {verdicts[gate] for gate in mandatory} == {"pass"}
    verification = training.verification(ref)
    timed = {"memory", "latency", "throughput"}
    assert {one["gate"] for one in verification["gates"]} == set(CANDIDATE_GATES) - timed
    # Against itself for the teacher, as little as rounding for its export.
    log_loss = {
        e: store.manifest(f).metrics["log_loss"] for e, f in zip(CASE.training.estimators, training.fitted, strict=True)
    }
    is_teacher = log_loss["xgboost"] == min(log_loss.values())
    assert (verification["disagreement"]["largest"] < 1e-5) == is_teacher
    metrics = store.manifest(ref).metrics
    assert metrics["native_bytes"] > 0
    assert metrics["rows_per_second"] > 0
    assert metrics["peak_memory_mb"] > 0
    assert not metrics["execution"]["remembered"]

    graph = sha256_hex(store.read(training.exports[1], "model.onnx"))
    execution = known_execution(store, CASE.name, graph)
    assert execution is not None
    assert metrics["execution"].items() >= execution.to_json().items()
    key = f"{CASE.name}/execution/{graph}/{machine_id()}.json"
    assert [found.key for found in store.list(f"{CASE.name}/execution/{graph}/")] == [key]
    assert training.verified() == ref
    store.put(key, b"{}")
    with pytest.raises(ArtifactCorrupt, match="no remembered execution"):
        known_execution(store, CASE.name, graph)


def test_a_broken_export_is_a_verdict_and_no_error(training: Training) -> None:
    store, good = training.store, training.exports[1]
    damaged = onnx.ModelProto.FromString(store.read(good, "model.onnx"))
    for node in damaged.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_missing_value_tracks_true":
                attribute.ints[:] = [1 - value for value in attribute.ints]
    manifest = store.manifest(good)
    swapped = store.commit(
        use_case=CASE.name,
        step="export",
        partition=PARTITION,
        variant="xgboost",
        kind="onnx_model",
        files={"model.onnx": damaged.SerializeToString(), "signature.json": store.read(good, "signature.json")},
        inputs=manifest.inputs,
        parameters=manifest.parameters,
    )
    ref = training.verified([swapped])
    assert training.verdicts(ref)["parity_fitted"] == "fail"
    (gate,) = (one for one in training.verification(ref)["gates"] if one["gate"] == "parity_fitted")
    assert "toy xgboost against fitted" in gate["reason"]
    assert "missing" in gate["reason"]


def test_a_technique_that_does_not_apply_is_passed_on(training: Training) -> None:
    given = training.store.commit(
        use_case=CASE.name,
        step="export",
        partition=PARTITION,
        variant="xgboost_int8",
        kind="not_applicable",
        files={"not_applicable.json": b'{"reason": "trees have no matrix products"}'},
    )
    ref = training.verified([given], "xgboost_int8")
    reason = {"candidate": "xgboost_int8", "not_applicable": "trees have no matrix products"}
    assert training.verification(ref) == reason
    assert set(training.verdicts(ref).values()) == {"not applicable"}
    assert list(training.verdicts(ref)) == list(CANDIDATE_GATES)


def test_a_candidate_without_an_export_is_a_configuration_error(training: Training) -> None:
    with pytest.raises(ConfigurationError, match="distilled_mlp was not exported"):
        training.verified(candidate="distilled_mlp")


def test_a_missing_runtime_stops_verification_and_preflight_names_it(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"onnxruntime for {CASE.name}"
    found = {check.name: check for check in preflight.check(training.settings, [CASE])}
    assert found[name].ok
    monkeypatch.setenv(runtimes.RUNTIMES_VARIABLE, str(tmp_path))
    with pytest.raises(ConfigurationError, match="make runtimes"):
        training.verified()
    found = {check.name: check for check in preflight.check(training.settings, [CASE])}
    assert not found[name].ok
    assert "make runtimes" in found[name].detail
