"""Whole verdicts on versions: each that is bad in one way is stopped by the gate made for it, and nothing raises."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper

from nightshift.core.compression.networks.int8_dynamic import int8_dynamic
from nightshift.core.compression.problem import Problem
from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.verification import GATES, VERSION_GATES, EvaluatedGates, Subject
from nightshift.core.gates.version_parity import check_version_parity
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.training_split import TrainingSplit, split_training_set
from nightshift.core.versions.version import ExportedVersion
from nightshift.declare.policies import BehaviourExpectation, SlicePolicy, VerificationPolicy
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.documents.train import Parity, Verification
from nightshift.steps.train.verify import _without_timing, evaluate, without_timing
from support.fitting import attribute, damaged, fit
from support.synthetic_training_set import DAYS, FIRST, SIGNATURE, training_split, training_table, use_case

SPLIT = training_split(rows_per_day=60)
LENIENT = VerificationPolicy(
    least_rows_per_second=1.0,
    largest_single_row_p99_ms=1e6,
    # Half of these rows are late: many are near the threshold.
    largest_flip_share=0.25,
)


def policed(**policy: Any) -> UseCase:
    verification = dataclasses.replace(LENIENT, **policy)
    return dataclasses.replace(
        use_case(), verification=verification, slices=SlicePolicy(columns=("carrier",), least_rows=30)
    )


@cache
def fitted() -> FittedModel:
    return fit("xgboost", SPLIT)


def judged(case: UseCase | None = None, **given: Any) -> EvaluatedGates:
    arguments: dict[str, Any] = {"fitted": fitted(), "signature": SIGNATURE, "split": SPLIT} | given
    model: FittedModel = arguments["fitted"]
    split: TrainingSplit = arguments["split"]
    graph: bytes = arguments["model"] if "model" in arguments else export_onnx(model)
    full_precision = arguments.get("full_precision")
    case = case or policed()
    loads = len(graph) > 100
    version = ExportedVersion(model, graph, full_precision)
    parity = check_version_parity(case, version, split.holdout) if loads else Parity(probes=0, splits="", compared=())
    rows = pa.concat_tables([split.train, split.holdout])
    scores = model.probability(split.holdout)
    partition = FIRST + timedelta(days=DAYS)
    return evaluate(
        Subject(case, partition, graph, arguments["signature"], rows, split, scores, parity, full_precision is not None)
    )


def failed(found: EvaluatedGates) -> dict[str, GateResult]:
    assert [result.gate for result in found.verification.gates] == list(VERSION_GATES)
    results = {result.gate: result for result in found.verification.gates if result.verdict == "fail"}
    assert all(result.code.startswith(f"{gate}.") for gate, result in results.items())
    return results


def codes(found: EvaluatedGates) -> set[str]:
    return {result.code for result in failed(found).values()}


def test_good_version_passes_every_gate() -> None:
    found = judged()
    assert failed(found) == {}
    by_gate = {result.gate: result for result in found.verification.gates}
    left_out = {result.code for result in found.verification.gates if result.verdict == "not applicable"}
    assert left_out == {"behaviour.none_declared", "calibration.at_promotion", "new_rows.not_compared",
                        "change.not_compared"}  # fmt: skip
    record = found.verification
    assert record.holdout is not None
    assert record.worst_slice is not None
    assert by_gate["calibration"].observed == record.holdout.calibration_error
    assert by_gate["feature_values"].verdict == "pass"
    assert "every split" in by_gate["parity_fitted"].reason
    assert Verification.from_bytes(record.to_files()[Verification.FILE]) == record
    assert {one.value for one in record.slices} == {"AA", "BB", "ZZ"}
    assert record.worst_slice.column == "carrier"
    assert len(record.calibration) == 15
    assert set(record.runtimes) == set(LENIENT.onnxruntime_versions)
    numbers = {"auc", "log_loss", "brier", "calibration_error", "bytes", "rows_per_second", "single_row_p50_ms"}
    assert set(found.metrics) >= numbers | {"single_row_p99_ms", "peak_memory_mb"}


def test_the_same_version_gives_the_same_file() -> None:
    one, other = judged(), judged()
    assert without_timing(one.verification) == without_timing(other.verification)
    names = {gate.name for gate in GATES if gate.timed}
    timed = {result.gate: result.observed for result in one.verification.gates if result.gate in names}
    assert None not in timed.values()
    exhausted = GateResult(gate="memory", verdict="fail", observed=900, code="memory.exhausted")
    measured = exhausted.model_copy(update={"observed": 800, "code": "memory.bound"})
    assert _without_timing(exhausted) == _without_timing(measured)


def _shift_thresholds(graph: onnx.GraphProto) -> None:
    values, modes = attribute(graph, "nodes_values").floats, attribute(graph, "nodes_modes").strings
    for i, mode in enumerate(modes):
        if mode != b"LEAF":
            values[i] = np.nextafter(np.float32(values[i]), np.float32(np.inf))


def _flip_missing(graph: onnx.GraphProto) -> None:
    routes = attribute(graph, "nodes_missing_value_tracks_true").ints
    routes[:] = [1 - route for route in routes]


def _reorder_categories(graph: onnx.GraphProto) -> None:
    carriers = attribute(graph, "cats_strings").strings
    carriers[:] = list(carriers)[::-1]


@pytest.mark.parametrize(
    ("damage", "named"),
    [(_shift_thresholds, "a split"), (_flip_missing, "missing"), (_reorder_categories, "as delivered")],
)
def test_a_broken_export_is_stopped_by_parity(damage: Any, named: str) -> None:
    results = failed(judged(model=damaged(export_onnx(fitted()), damage)))
    assert set(results) <= {"parity_fitted", "stability"}
    parity = results["parity_fitted"]
    assert parity.code == "parity_fitted.difference"
    assert parity.observed > parity.bound
    assert named in parity.reason
    assert "flight=" in parity.reason


def test_a_leaky_model_is_stopped_by_leakage() -> None:
    table = training_table(60)
    late = table["is_late"].to_numpy()
    delay = 40 * late + np.random.default_rng(0).normal(0, 12, len(late))
    split = split_training_set(table.append_column("dep_delay", pa.array(delay)), "is_late")
    signature = SIGNATURE.model_copy(update={"numeric": (*SIGNATURE.numeric, "dep_delay")})
    leakage = failed(judged(fitted=fit("xgboost", split, signature), signature=signature, split=split))["leakage"]
    assert leakage.code == "leakage.undeclared"
    assert leakage.observed > 0.9
    assert "['dep_delay']" in leakage.reason
    assert "dep_delay (0.9" in leakage.reason


def test_an_unstable_model_is_stopped_by_stability() -> None:
    table = training_table(60)
    # Late in every second of thirty bands of the rate: learned well, and one step of the rate turns the answer round.
    striped = np.floor(table["rate"].to_numpy() * 30).astype(np.int64) % 2
    position = table.schema.get_field_index("is_late")
    split = split_training_set(table.set_column(position, "is_late", pa.array(striped)), "is_late")
    nervous = fit("xgboost", split, n_estimators=60, max_depth=6, learning_rate=0.5, min_child_weight=0)
    results = failed(judged(fitted=nervous, split=split))
    assert set(results) == {"stability"}
    assert results["stability"].code == "stability.step"
    assert results["stability"].observed > results["stability"].bound
    assert "rate 0." in results["stability"].reason


def test_a_violated_expectation_is_stopped_by_behaviour() -> None:
    wrong = BehaviourExpectation("rate", "decreasing", "a test says so")
    results = failed(judged(policed(expectations=(wrong,))))
    assert set(results) == {"behaviour"}
    assert results["behaviour"].code == "behaviour.violated"
    assert "a test says so" in results["behaviour"].reason
    right = BehaviourExpectation("rate", "increasing", "that is the law")
    assert failed(judged(policed(expectations=(right,)))) == {}


def test_a_spec_worse_than_the_constant_rate_is_stopped() -> None:
    table = training_table(60)
    flipped = 1 - table["is_late"].to_numpy()
    position = table.schema.get_field_index("is_late")
    split = split_training_set(table.set_column(position, "is_late", pa.array(flipped)), "is_late")
    assert codes(judged(split=split)) == {"constant_rate.log_loss"}


def test_costs_beyond_their_limits_are_stopped_by_their_gates() -> None:
    tight = policed(largest_memory_mb=20.0, least_rows_per_second=1e12, largest_single_row_p99_ms=1e-6)
    assert codes(judged(tight)) == {"memory.bound", "throughput.bound", "latency.bound"}


def _depend_on_the_batch(graph: onnx.GraphProto) -> None:
    """Each answer a millionth of the batch's largest one lower: much as int8 scales of activations do."""
    graph.node[-1].output[0] = "before"
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["before"], ["largest"], keepdims=0),
            helper.make_node("Constant", [], ["millionth"], value_float=1e-6),
            helper.make_node("Mul", ["largest", "millionth"], ["shift"]),
            helper.make_node("Sub", ["before", "shift"], ["probability"]),
        ]
    )


def test_scores_that_depend_on_the_batch_fail_parity_batch() -> None:
    def depend_a_lot(graph: onnx.GraphProto) -> None:
        _depend_on_the_batch(graph)
        next(node for node in graph.node if node.output[0] == "millionth").attribute[0].f = 1e-2

    results = failed(judged(model=damaged(export_onnx(fitted()), depend_a_lot)))
    assert {result.code for result in results.values()} == {"parity_fitted.difference", "parity_batch.difference"}
    assert "one row at a time" in results["parity_batch"].reason


@cache
def _network() -> FittedModel:
    from nightshift.core.compression.students.distilled_mlp import distilled_mlp

    return distilled_mlp(fitted(), _problem())


def _problem() -> Problem:
    teacher = fitted().probability(SPLIT.train)
    # Large enough for int8 to save something.
    parameters = {"distilled_mlp": {"hidden_layer_sizes": (96, 64), "max_iter": 10, "batch_size": 128}}
    return Problem(SPLIT.train, SPLIT.train_labels, teacher, seed=7, threads=1, parameters=parameters)


def _quantized_network() -> dict[str, Any]:
    graph = int8_dynamic(_network(), _problem()).graph
    return {"fitted": _network(), "model": graph, "full_precision": export_onnx(_network())}


def test_parity_bounds_of_a_quantized_version_and_its_source() -> None:
    found = judged(**_quantized_network())
    assert failed(found) == {}
    assert found.verification.parity is not None
    fitted_bound, quantized = found.verification.parity.compared
    assert fitted_bound.bound == use_case().training.parity_tolerance
    assert 1e-6 < (quantized.largest or 0.0) < quantized.bound == 0.05
    source = onnx.ModelProto.FromString(export_onnx(_network()))
    source.graph.node[-1].op_type = "Sigmoid" if source.graph.node[-1].op_type != "Sigmoid" else "Identity"
    other = _quantized_network() | {"full_precision": source.SerializeToString()}
    assert "parity_fitted.difference" in codes(judged(**other))


@pytest.mark.parametrize("model", [b"nonsense", b""])
def test_invalid_graph_fails_every_gate(model: bytes) -> None:
    found = judged(model=model)
    results = failed(found)
    assert set(results) == set(VERSION_GATES) - {"memory"}
    assert results["runtime"].code == "runtime.no_scores"
    assert results["latency"].code == "latency.not_measured"
    assert results["parity_fitted"].code == "parity_fitted.not_scored"
    assert results["leakage"].code == "leakage.not_scored"
    assert found.verification.unusable


def test_graph_with_nan_scores_fails_every_gate() -> None:
    def spoil(graph: onnx.GraphProto) -> None:
        # log(-1) of each answer.
        answer = graph.node[-1]
        answer.output[0] = "before"
        minus_one = helper.make_node("Constant", [], ["minus_one"], value_float=-1.0)
        for node in (
            minus_one,
            helper.make_node("Min", ["before", "minus_one"], ["negative"]),
            helper.make_node("Log", ["negative"], ["probability"]),
        ):
            graph.node.append(node)

    results = failed(judged(model=damaged(export_onnx(fitted()), spoil)))
    assert results["parity_fitted"].code == "parity_fitted.difference"
    assert "nan" in results["parity_fitted"].reason
    assert results["leakage"].code == "leakage.no_probabilities"
