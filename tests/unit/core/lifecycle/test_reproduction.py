"""How a rebuilt artifact is compared with the recorded one."""

import importlib
import inspect
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.artifact import ArtifactRef, Decision, FileEntry, Manifest
from nightshift.core.lifecycle.reproduction import (
    artifact_differences,
    environment_differences,
    file_differences,
    value_differences,
)
from nightshift.partitions import parse_partition
from nightshift.pipeline import find_step, step_module
from nightshift.services.recorded import statuses
from nightshift.steps.operator.reproduce import REBUILT

TABLE = pa.table({"flight": ["a", "b", "c", "d"], "score": pa.array([0.1, None, float("nan"), 0.4])})


def parquet(table, **arguments):
    sink = io.BytesIO()
    pq.write_table(table, sink, **arguments)
    return sink.getvalue()


def compared(new, **arguments):
    return file_differences("x.parquet", parquet(TABLE), parquet(new, **arguments))


def scores(*values):
    return TABLE.set_column(1, "score", pa.array(values, pa.float64()))


def manifest(step, partition="2020-01-02", *, inputs=None, files=None, parameters=None, **changes):
    name = f"{step}-{partition}"
    values = {"code_version": "c1", "lock_sha256": "l1", "libraries": {"numpy": "2.0", "onnx": "1.2"}} | changes
    return Manifest(
        use_case="toy",
        stage="train",
        step=step,
        partition=partition,
        ref=ArtifactRef(uri=f"s3://b/{name}/", sha256=name, kind=step),
        inputs={key: [one.ref for one in made] for key, made in (inputs or {}).items()},
        files=[FileEntry(path=path, sha256=sha256, bytes=1) for path, sha256 in (files or {}).items()],
        parameters=parameters or {},
        **values,
    )


@pytest.mark.parametrize("what", REBUILT)
def test_steps_take_the_recorded_arguments(what):
    for step in REBUILT[what]:
        parameters = inspect.signature(importlib.import_module(step_module(step)).run).parameters.values()
        needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        assert needed == list(find_step(step).inputs), step


def test_values_of_a_table():
    assert compared(scores(0.1, None, float("nan"), 0.5)) == ["score differs in 1 of 4 rows (row 3: 0.4 became 0.5)"]
    (text,) = compared(scores(0.1, float("nan"), None, 0.4))
    assert text == "score differs in 2 of 4 rows (row 1: None became nan; row 2: nan became None)"


def test_at_most_five_values_are_shown():
    table, other = (pa.table({"flight": [f"{n}{mark}" for n in range(9)]}) for mark in ("", "?"))
    (text,) = file_differences("x.parquet", parquet(table), parquet(other))
    assert "differs in 9 of 9 rows" in text
    assert "row 4" in text
    assert "row 5" not in text


def test_rows_columns_and_layout_of_a_table():
    assert compared(TABLE.slice(0, 3)) == ["4 rows became 3"]
    assert compared(TABLE.drop_columns("score")) == ['column score: "double" became absent']
    assert compared(TABLE.select(["score", "flight"])) == ["the columns stand in another order, or have other metadata"]
    assert compared(TABLE, row_group_size=2) == ["all values are equal; the layout of the file differs"]


def test_keys_of_json():
    old = {"log_loss": 0.5, "bins": [{"rows": 1}, {"rows": 2}], "gone": 1, "features": ["a", "b"]}
    new = {"log_loss": 0.6, "bins": [{"rows": 1}, {"rows": 3}], "features": ["a"]}
    assert file_differences("x.json", json.dumps(old).encode(), json.dumps(new).encode()) == [
        "bins[1].rows: 2 became 3",
        'features: ["a","b"] became ["a"]',
        "gone: 1 became absent",
        "log_loss: 0.5 became 0.6",
    ]
    assert file_differences("x.json", b'{"a":1}', b'{"a": 1}') == ["all values are equal; they are written differently"]
    assert len(value_differences({str(n): n for n in range(9)}, {})) == 9


def test_bytes():
    assert file_differences("model.onnx", b"abc", b"abd") == ["3 bytes became 3, from byte 2 on"]
    assert file_differences("model.onnx", b"ab", b"abc") == ["2 bytes became 3, from byte 2 on"]


def test_inputs_parameters_and_files_are_named():
    day, other = manifest("publish", "2020-01-01"), manifest("publish", "2020-01-02")
    old = manifest("fit", inputs={"rows": [day]}, files={"a": "1" * 64, "b": "2" * 64}, parameters={"seed": 1})
    new = manifest("fit", inputs={"rows": [day, other]}, files={"a": "3" * 64, "c": "2" * 64}, parameters={"seed": 2})
    assert artifact_differences(old, new, {"a": b"x"}, {"a": b"y", "c": b"z"}) == [
        "input rows: 1 artifacts became 2, for example s3://b/publish-2020-01-02/",
        "parameter seed: 1 became 2",
        f"a ({'1' * 16} became {'3' * 16}): 1 bytes became 1, from byte 0 on",
        "b is not made any more",
        "c was not made then",
    ]


def test_versions_that_differ_are_named_with_their_steps():
    made = [manifest("fit"), manifest("verify", libraries={"numpy": "1.9", "onnx": "1.2"})]
    assert environment_differences(made, "c2", "l1", {"numpy": "2.0", "onnx": "1.2", "optuna": "5"}) == [
        {"what": "code version", "recorded": "c1", "now": "c2", "steps": "fit, verify"},
        {"what": "numpy", "recorded": "1.9", "now": "2.0", "steps": "verify"},
        {"what": "optuna", "recorded": "", "now": "5", "steps": "fit, verify"},
    ]
    assert environment_differences(made[:1], "c1", "l1", {"numpy": "2.0", "onnx": "1.2"}) == []


def test_statuses_are_those_of_the_inputs():
    older, newer = manifest("publish", "2020-01-01"), manifest("publish", "2020-01-01", code_version="c2")
    newer = newer.model_copy(update={"ref": newer.ref.model_copy(update={"sha256": "newer"})})
    features = manifest("build_features", inputs={"curated": [older]}, parameters={"missing": ["2019-12-31"]})
    scored = manifest("score", inputs={"features": [features], "curated": [newer]})
    known = {one.ref: one for one in (older, newer, features)}
    day = parse_partition("2020-01-01")
    assert statuses(None, features, known)["publish", day, ""].ref == older.ref
    # The nearer input counts.
    found = statuses(None, scored, known)
    assert found["publish", day, ""].ref == newer.ref
    missing = Decision(status="rejected", reason="it was missing then")
    assert found["publish", parse_partition("2019-12-31"), ""] == missing
