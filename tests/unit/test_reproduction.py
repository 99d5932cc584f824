import io
import json
import pickle

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from nightshift.artifact import ArtifactRef, Manifest
from nightshift.core.replay_comparison import describe_difference, differing_keys
from nightshift.core.replay_report import Replayed, environment_differences, render, summarise

TABLE = pa.table(
    {
        "day": pa.array([1, 1, 2, 2], pa.int64()),
        "flight": pa.array(["a", "b", "a", "b"]),
        "score": pa.array([0.1, None, float("nan"), 0.4]),
    }
)
KEY = ("day", "flight")


def parquet(table, **arguments):
    sink = io.BytesIO()
    pq.write_table(table, sink, **arguments)
    return sink.getvalue()


def compared(old, new, **arguments):
    return describe_difference("x.parquet", parquet(old), parquet(new, **arguments), KEY)


def replaced(name, values):
    position = TABLE.column_names.index(name)
    return TABLE.set_column(position, name, values if isinstance(values, pa.Array) else pa.array(values))


def test_values_of_a_table_are_named_by_key():
    said = compared(TABLE, replaced("score", [0.1, None, float("nan"), 0.5]))
    assert said == ["score differs in 1 of 4 rows (day 2, flight b: 0.4 became 0.5)"]


def test_a_null_is_no_nan():
    (said,) = compared(TABLE, replaced("score", [0.1, float("nan"), None, 0.4]))
    assert said.startswith("score differs in 2 of 4 rows (day 1, flight b: None became nan; ")


def test_at_most_five_values_are_shown():
    table = pa.table({"flight": [str(n) for n in range(9)]})
    other = pa.table({"flight": [f"{n}?" for n in range(9)]})
    (said,) = describe_difference("x.parquet", parquet(table), parquet(other))
    assert "differs in 9 of 9 rows" in said
    assert "row 4" in said
    assert "row 5" not in said


def test_rows_and_columns_of_a_table():
    assert compared(TABLE, TABLE.slice(0, 3)) == ["4 rows became 3", "1 rows lost: day 2, flight b"]
    assert compared(TABLE, TABLE.drop_columns("score")) == ["columns lost: score"]
    assert compared(TABLE, TABLE.append_column("more", pa.array(range(4)))) == ["columns gained: more"]
    assert compared(TABLE, replaced("day", pa.array([1, 1, 2, 2], pa.int32()))) == ["day was int64, is int32"]
    assert compared(TABLE, TABLE.select(["flight", "day", "score"])) == ["the columns stand in another order"]


def test_another_layout_of_the_same_table():
    assert compared(TABLE, TABLE, row_group_size=2) == [
        "all values are equal; the layout of the file differs (row groups, or the version that wrote it)"
    ]


def test_keys_of_json():
    old = {"log_loss": 0.5, "bins": [{"rows": 1}, {"rows": 2}], "gone": 1, "features": ["a", "b"]}
    new = {"log_loss": 0.6, "bins": [{"rows": 1}, {"rows": 3}], "features": ["a"]}
    assert describe_difference("x.json", json.dumps(old).encode(), json.dumps(new).encode()) == [
        "bins[1].rows: 2 became 3",
        'features: ["a","b"] became ["a"]',
        "gone: 1 became absent",
        "log_loss: 0.5 became 0.6",
    ]
    assert describe_difference("x.json", b'{"a":1}', b'{"a": 1}') == [
        "all values are equal; they are written differently"
    ]
    many = differing_keys({str(n): n for n in range(9)}, {})
    assert len(many) == 9
    assert differing_keys({"a": {"b": 1}}, {"a": {"b": 1}}) == []


def graph(weights, axis):
    weight = helper.make_tensor("weights", TensorProto.FLOAT, [2], weights)
    node = helper.make_node("Concat", ["x", "weights"], ["y"], name="join", axis=axis)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    return helper.make_model(helper.make_graph([node], "g", inputs, outputs, [weight])).SerializeToString()


def test_parts_of_a_graph():
    said = describe_difference("model.onnx", graph([1.0, 2.0], 0), graph([1.0, 2.5], 1))
    assert said[1:] == ["initializer weights changed", "node 0 (Concat join): axis changed"]
    assert onnx.__version__ not in said[0]
    other = onnx.load_model_from_string(graph([1.0, 2.0], 0))
    other.producer_name = "another"
    assert "the graphs are equal" in describe_difference("m.onnx", graph([1.0, 2.0], 0), other.SerializeToString())[1]


def test_text_and_bytes():
    assert describe_difference("a.html", b"one\ntwo\n", b"one\n2\n") == ["8 bytes became 6", "line 2: 'two' became '2'"]
    assert describe_difference("model.pickle", pickle.dumps([1, 2]), pickle.dumps([1, 3]))[0].startswith(
        f"{len(pickle.dumps([1, 2]))} bytes, from byte "
    )
    assert describe_difference("model.pickle", b"ab", b"abc") == ["2 bytes became 3, from byte 2 on"]


def manifest(step, **changes):
    ref = ArtifactRef(uri=f"s3://b/{step}/", sha256="0" * 64, kind="x")
    values = {"code_version": "c1", "lock_sha256": "l1", "libraries": {"numpy": "2.0", "onnx": "1.2"}} | changes
    return Manifest(use_case="toy", stage="train", step=step, partition="2020-01-01", ref=ref, **values)


def test_versions_that_differ_are_named_with_their_steps():
    made = [manifest("fit"), manifest("export", libraries={"numpy": "1.9", "onnx": "1.2"})]
    assert environment_differences(made, "c2", "l1", {"numpy": "2.0", "onnx": "1.2", "optuna": "5"}) == [
        {"what": "code version", "recorded": "c1", "now": "c2", "steps": "export, fit"},
        {"what": "optuna", "recorded": "", "now": "5", "steps": "export, fit"},
        {"what": "numpy", "recorded": "1.9", "now": "2.0", "steps": "export"},
    ]
    assert environment_differences(made[:1], "c1", "l1", {"numpy": "2.0", "onnx": "1.2"}) == []


@pytest.mark.parametrize("broken", [False, True])
def test_the_verdict_names_the_first_step_that_differs(broken):
    found = [
        Replayed(
            "fit", "xgboost", "2020-01-01", "s3://b/fit/", "a" * 64, declared_otherwise=("seed: 1 (recorded: 2)",)
        ),
        Replayed("export", "xgboost", "2020-01-01", "s3://b/export/", "b" * 64),
    ]
    if broken:
        found += [
            Replayed(
                "verify", name, "2020-01-01", "s3://b/", "c" * 64, ("v.json: <auc> 1 became 2",), {"v.json": ("a", "b")}
            )
            for name in ("xgboost", "other")
        ]
    environment = [{"what": "numpy", "recorded": "1", "now": "", "steps": "fit"}] if broken else []
    summary = summarise("training", "2020-01-01", found, environment, {"publish": 3})
    page = render(summary, title="Toys")
    assert "seed: 1 (recorded: 2)" in page
    assert "3 of publish" in page
    if not broken:
        assert (summary["verdict"], summary["first_difference"]) == ("identical", None)
        assert "byte for byte" in page
        return
    assert summary["verdict"] == "differs"
    assert (summary["first_difference"]["step"], summary["first_difference"]["variant"]) == ("verify", "xgboost")
    assert summary["first_difference"]["files"] == {"v.json": {"recorded": "a", "rebuilt": "b"}}
    assert "<b>verify xgboost</b>" in page
    assert "&lt;auc&gt;" in page
    assert "unknown" in page
