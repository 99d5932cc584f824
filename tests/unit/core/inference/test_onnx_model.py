"""Scoring with an ONNX graph: inputs by signature, batches, faults of inputs and graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper

from nightshift.core.inference.onnx_model import Signature, categorical_matrix, load_session, numeric_matrix, score
from nightshift.errors import ArtifactCorrupt, FeatureContractError
from support.errors import raises_code

SIGNATURE = Signature(numeric=("a", "b"), categorical=("c",), feature_service="s_v1", score="p")


def graph_that_answers_a() -> bytes:
    """probability = the first numeric feature."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["numeric", "first"], ["probability"], axis=1)],
        "model",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, 2]),
            helper.make_tensor_value_info("categorical", TensorProto.STRING, [None, 1]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("first", TensorProto.INT64, [1], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


TABLE = pa.table({"b": [1, 2, 3], "c": ["x", None, "y"], "a": [0.25, 0.5, 0.75], "more": [None, None, None]})


def test_scores_come_in_the_order_of_the_rows_as_float64() -> None:
    session = load_session(graph_that_answers_a(), threads=1)
    answered = score(session, SIGNATURE, TABLE)
    assert answered.dtype == np.float64
    assert answered.tolist() == [0.25, 0.5, 0.75]
    assert score(session, SIGNATURE, TABLE.slice(0, 0)).shape == (0,)
    chunked = pa.concat_tables([TABLE, TABLE.slice(1)])
    assert score(session, SIGNATURE, chunked).tolist() == [0.25, 0.5, 0.75, 0.5, 0.75]


def test_what_float32_cannot_hold_is_missing() -> None:
    table = pa.table(
        {"a": pa.array([None, float("nan"), float("inf"), -1e300, 1.5]), "b": [True, False, None, True, True]}
    )
    matrix = numeric_matrix(table, ("a", "b"))
    assert matrix.dtype == np.float32
    assert np.isnan(matrix[:4, 0]).all()
    assert matrix[4, 0] == 1.5
    np.testing.assert_array_equal(matrix[:, 1], np.array([1, 0, np.nan, 1, 1], np.float32))


def test_categories_are_strings_and_null_is_empty() -> None:
    table = pa.table({"c": pa.array(["x", None]).dictionary_encode(), "n": pa.array([7, None])})
    assert categorical_matrix(table, ("c", "n")).tolist() == [["x", "7"], ["", ""]]


def test_a_missing_or_retyped_feature_is_named() -> None:
    session = load_session(graph_that_answers_a(), threads=1)
    with raises_code(FeatureContractError, "NS-MODEL-008", "'a'"):
        score(session, SIGNATURE, TABLE.drop(["a"]))
    with raises_code(FeatureContractError, "NS-MODEL-007", "'a'", "string"):
        score(session, SIGNATURE, TABLE.set_column(2, "a", pa.array(["1", "2", "3"])))


def test_a_signature_survives_json_and_nonsense_does_not() -> None:
    assert Signature.from_bytes(SIGNATURE.to_files()[Signature.FILE]) == SIGNATURE
    assert Signature.from_bytes(SIGNATURE.to_files()[Signature.FILE]).to_files() == SIGNATURE.to_files()
    with raises_code(ArtifactCorrupt, "NS-STORE-008"):
        Signature.from_bytes(b"{}")


def test_the_graph_of_this_test_is_valid() -> None:
    onnx.checker.check_model(onnx.ModelProto.FromString(graph_that_answers_a()))
