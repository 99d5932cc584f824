"""Models asked in a clean process: what it has, what it says, and what it says of models that go wrong."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nightshift.core.export.onnx_export import export_onnx
from nightshift.core.gates.registry import RuntimeResult
from nightshift.core.gates.verification import GATES
from nightshift.core.inference.onnx_model import feed_of, load_session, score
from nightshift.core.models.estimators import fit_estimator
from nightshift.declare.discovery import PROJECT_ROOT
from nightshift.declare.policies import VerificationPolicy
from nightshift.deployment import GateResult
from nightshift.errors import ConfigurationError
from nightshift.io import runtimes
from nightshift.io.runtimes import probe_inputs, require_runtimes, score_in_runtime
from nightshift.services.preflight import _runtimes
from support.errors import raises_code
from support.synthetic_training_set import SIGNATURE, training_split, use_case

VERSIONS = VerificationPolicy().onnxruntime_versions
SPLIT = training_split(rows_per_day=60)


@cache
def forest(trees: int, depth: int = 2) -> bytes:
    parameters = {"n_estimators": trees, "max_depth": depth, "learning_rate": 0.01, "min_child_weight": 1}
    labels = SPLIT.train_labels
    return export_onnx(fit_estimator("xgboost", SPLIT.train, labels, SIGNATURE, parameters, seed=7, threads=2))


def asked(model: bytes, version: str = VERSIONS[0], **given: Any) -> RuntimeResult:
    arguments = {"batch_rows": 2000, "memory_mb": 600.0, "seconds": 30.0, "single_rows": 20, "batch_repeats": 1}
    with probe_inputs(feed_of(SPLIT.holdout, SIGNATURE)) as inputs:
        return score_in_runtime(version, model, inputs, **(arguments | given))


def gates(answered: RuntimeResult, memory: float = 1e9, p99_ms: float = 1e9, rows: float = 0) -> dict[str, GateResult]:
    policy = VerificationPolicy(largest_memory_mb=memory, largest_single_row_p99_ms=p99_ms, least_rows_per_second=rows)
    subject: Any = SimpleNamespace(policy=policy, runtime_results=[answered])
    return {gate.name: gate.check(subject) for gate in GATES if gate.timed}


def filling(megabytes: int) -> bytes:
    """A graph that fills so many megabytes for each batch it answers."""
    count = megabytes * 1024 * 1024 // 4
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, len(SIGNATURE.numeric)])
    categorical = helper.make_tensor_value_info("categorical", TensorProto.STRING, [None, len(SIGNATURE.categorical)])
    nodes = [
        helper.make_node("Shape", ["numeric"], ["rows"], end=1),
        # So many zeros, one more for each row: not a constant that could be folded away.
        helper.make_node("Add", ["rows", "count"], ["length"]),
        helper.make_node("ConstantOfShape", ["length"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=1),
        helper.make_node("Expand", ["zero", "rows"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [numeric, categorical],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None])],
        [helper.make_tensor("count", TensorProto.INT64, [1], [count])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_at_least_two_versions_are_supported_and_locked() -> None:
    assert len(VERSIONS) >= 2
    for version in VERSIONS:
        lock = (PROJECT_ROOT / "config" / "runtimes" / f"onnxruntime-{version}.txt").read_text(encoding="utf-8")
        assert f"onnxruntime=={version} " in lock
        assert "--hash=sha256:" in lock
        assert "://" not in lock


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clean_process_answers_like_this_one(version: str) -> None:
    answered = asked(forest(20), version)
    expected = score(load_session(forest(20)), SIGNATURE, SPLIT.holdout)
    assert answered.scores is not None
    np.testing.assert_allclose(answered.scores, expected, atol=1e-6)
    assert answered.scores.dtype == np.float64
    assert set(answered.costs) >= {"load_ms", "rows_per_second", "single_row_p50_ms", "single_row_p99_ms"}
    assert 10 < answered.costs["peak_memory_mb"] < 300


def test_batches_of_another_size_are_the_same_rows() -> None:
    np.testing.assert_array_equal(asked(forest(20), batch_rows=7).scores, asked(forest(20)).scores)


def test_missing_runtime_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtimes.RUNTIMES_VARIABLE, str(tmp_path))
    with raises_code(ConfigurationError, "NS-GATE-005", *VERSIONS[:2], tmp_path):
        require_runtimes(VERSIONS)
    with raises_code(ConfigurationError, "NS-GATE-005"):
        asked(forest(20))
    with raises_code(ConfigurationError, "NS-GATE-005"):
        _runtimes(use_case())
    monkeypatch.undo()
    assert VERSIONS[0] in _runtimes(use_case())
    with raises_code(ConfigurationError, "NS-GATE-004"):
        require_runtimes(())


@pytest.mark.parametrize(
    ("report", "code", "named"),
    [
        ({"importable": ["pandas"], "onnxruntime": VERSIONS[0]}, "NS-GATE-006", "pandas"),
        ({"importable": [], "onnxruntime": "1.0.0"}, "NS-GATE-007", "1.0.0"),
        (
            {"importable": [], "error_type": "ModuleNotFoundError", "error": "No module named 'onnxruntime'"},
            "NS-GATE-007",
            "No module named",
        ),
    ],
)
def test_runtime_of_another_version_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any], code: str, named: str
) -> None:
    python = tmp_path / f"onnxruntime-{VERSIONS[0]}" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho '{json.dumps(report).replace(chr(39), '')}'\n")
    python.chmod(0o755)
    monkeypatch.setenv(runtimes.RUNTIMES_VARIABLE, str(tmp_path))
    with raises_code(ConfigurationError, code, named):
        asked(forest(20))


def test_what_is_no_model_is_an_answer_and_no_error() -> None:
    answered = asked(b"nonsense")
    assert answered.scores is None
    assert "protobuf" in answered.error.lower()
    verdicts = gates(answered, memory=600)
    assert {verdicts[name].code for name in ("latency", "throughput")} == {
        "latency.not_measured",
        "throughput.not_measured",
    }


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "START_SECONDS", 0.0)
    answered = asked(forest(20), seconds=0.01)
    assert answered.scores is None
    assert answered.too_slow


def test_a_slow_model_is_stopped_by_throughput_and_latency() -> None:
    fast, slow = asked(forest(5)), asked(forest(3000))
    rows = np.sqrt(fast.costs["rows_per_second"] * slow.costs["rows_per_second"])
    p50 = "single_row_p50_ms"
    # The median, declared as a limit of the slowest: one row in a hundred is at least as slow.
    limit = slow.costs[p50] * 0.9
    assert gates(fast, rows=rows)["throughput"].verdict == "pass"
    verdict = gates(slow, rows=rows)["throughput"]
    assert (verdict.verdict, verdict.code, verdict.bound) == ("fail", "throughput.bound", rows)
    assert verdict.observed == slow.costs["rows_per_second"]
    assert gates(slow, p99_ms=limit)["latency"].code == "latency.bound"
    assert fast.costs[p50] < limit


def test_a_model_beyond_memory_is_stopped_by_memory() -> None:
    small, large = (asked(filling(size), single_rows=2) for size in (1, 300))
    assert large.scores is not None
    assert gates(small, memory=250)["memory"].verdict == "pass"
    verdict = gates(large, memory=250)["memory"]
    assert (verdict.verdict, verdict.code, verdict.bound) == ("fail", "memory.bound", 250)
    assert verdict.observed > 250


def test_model_beyond_the_memory_limit_fails_memory() -> None:
    exhausted = asked(filling(4000), memory_mb=250)
    assert exhausted.scores is None
    assert exhausted.out_of_memory
    verdict = gates(exhausted, memory=250)["memory"]
    assert (verdict.verdict, verdict.code) == ("fail", "memory.exhausted")
