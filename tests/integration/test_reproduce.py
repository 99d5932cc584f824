"""Past trainings and predictions rebuilt on real services: identical, or the step and file that differ are named."""

import dataclasses
import json
from datetime import timedelta

import psycopg
import pytest

from nightshift.errors import ConfigurationError, PartitionNotReady
from nightshift.partitions import partition_range
from nightshift.steps.context import StepContext
from nightshift.steps.operator import reproduce
from support.errors import raises_code
from support.history import TRAINED as LAST

NEWEST = partition_range(LAST - timedelta(days=2), LAST)
NIGHT = LAST + timedelta(days=1)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def nights(trained_nights):
    """History up to LAST and its training, and the night after it."""
    trained_nights.deliver([NIGHT])
    trained_nights.ingest(NIGHT)
    trained_nights.materialize(NIGHT)
    return trained_nights


def predict(nights):
    choice = nights.step("resolve_model", NIGHT)
    calibration = nights.step("calibrate", NIGHT, model_choice=choice)
    scores = nights.step("score", NIGHT, model_choice=choice, calibration=calibration)
    audited = nights.step("audit", NIGHT, scores=scores)
    nights.step("publish_predictions", NIGHT, scores=scores, audited=audited)


def reproduced(nights, partition, what, **changes):
    use_case = dataclasses.replace(nights.use_case, **changes)
    ref = reproduce.run(StepContext(use_case, nights.settings, nights.store, partition), what=what)
    result = json.loads(nights.store.read(ref, "reproduction.json"))
    page = nights.store.read(ref, "reproduction.html").decode()
    shown = {"identical": "good", "differs": "bad"}[result["verdict"]]
    assert f'<b class="{shown}">{result["verdict"]}</b>' in page
    return result


def differences(result):
    """What differs, by artifact."""
    assert result["verdict"] == ("differs" if result["first_difference"] else "identical")
    return {one["name"]: one["differences"] for one in result["artifacts"] if one["differences"]}


def objects(nights):
    """Everything in the bucket but what was reproduced, with its size."""
    return {o.key: o.bytes for o in nights.store.list("") if not o.key.startswith("late_returns/reproduce/")}


def warehouse_rows(nights):
    query = "SELECT (SELECT count(*) FROM late_returns.deployments), (SELECT count(*) FROM late_returns.publications)"
    with psycopg.connect(nights.settings.warehouse_url.get_secret_value()) as connection:
        return connection.execute(query).fetchone()


def deliver_other_data(nights):
    """Other branches for the newest partitions of the history."""

    def swapped(feed, body):
        return body.replace(b"north", b"NORTH").replace(b"south", b"north").replace(b"NORTH", b"south")

    nights.deliver(NEWEST, swapped)
    for partition in NEWEST:
        nights.ingest(partition)
    for partition in NEWEST:
        nights.materialize(partition)


class Changed:
    """One byte of a file of a recorded artifact is another one within."""

    def __init__(self, store, ref, path):
        self.store, self.key = store, store.key(ref.uri) + path

    def __enter__(self):
        self.body = self.store.get(self.key)
        self.store.put(self.key, self.body[:-1] + bytes([self.body[-1] ^ 1]))

    def __exit__(self, *error):
        self.store.put(self.key, self.body)


def test_training_is_identical_whatever_came_later(nights):
    before, rows = objects(nights), warehouse_rows(nights)
    result = reproduced(nights, LAST, "training")
    assert differences(result) == {}
    specs = sorted([nights.use_case.champion.spec_id, nights.use_case.fallback.spec_id])
    assert [one["name"] for one in result["artifacts"]] == [
        "append_training_rows",
        "build_training_set",
        *(f"{step} {spec}" for step in ("fit", "verify") for spec in specs),
    ]
    assert result["taken_as_recorded"]["choose_specs"] == 2
    assert result["environment"] == []
    assert (objects(nights), warehouse_rows(nights)) == (before, rows)

    rows_before = nights.store.current("late_returns", "append_training_rows", LAST)
    deliver_other_data(nights)
    assert reproduced(nights, LAST, "training") == result
    # Without the statuses of then, the rows would be other ones.
    assert nights.append(LAST) != rows_before


def test_training_is_identical_whose_night_before_was_never_decided(nights):
    """It went on without the training of NIGHT, and nobody trains NIGHT later."""
    after = NIGHT + timedelta(days=1)
    nights.append(NIGHT)
    nights.deliver([after])
    nights.ingest(after)
    nights.materialize(after)
    nights.train(after)
    result = reproduced(nights, after, "training")
    assert differences(result) == {}
    assert any(one["name"].startswith("verify") for one in result["artifacts"])


def test_a_changed_training_is_named_with_step_and_file(nights):
    store, champion = nights.store, nights.use_case.champion.spec_id
    version = store.current("late_returns", "fit", LAST, variant=champion)
    with Changed(store, version, "model.onnx"):
        said = differences(reproduced(nights, LAST, "training"))
        assert said[f"fit {champion}"] == [
            f"model.onnx does not have the bytes that were committed: restore {version.uri}model.onnx"
        ]
    curated = store.current("late_returns", "publish", LAST)
    with Changed(store, curated, "returns.parquet"):
        result = reproduced(nights, LAST, "training")
        assert result["first_difference"] == "publish"
        assert "returns.parquet does not have the bytes" in differences(result)["publish"][0]

    threshold = nights.use_case.decision_threshold
    said = differences(reproduced(nights, LAST, "training", decision_threshold=threshold + 0.1))
    assert set(said) == {f"verify {champion}", f"verify {nights.use_case.fallback.spec_id}"}
    assert f"parameter decision_threshold: {threshold} became {threshold + 0.1}" in said[f"verify {champion}"]

    training = dataclasses.replace(nights.use_case.training, holdout_days=nights.use_case.training.holdout_days + 1)
    said = differences(reproduced(nights, LAST, "training", training=training))
    assert not {"append_training_rows", "build_training_set"} & set(said)
    assert any(text.startswith("holdout.parquet (") and " rows became " in text for text in said[f"fit {champion}"])

    assert differences(reproduced(nights, LAST, "training")) == {}


def test_a_prediction_is_identical_or_names_what_differs(nights):
    store = nights.store
    predict(nights)
    before, rows = objects(nights), warehouse_rows(nights)
    result = reproduced(nights, NIGHT, "prediction")
    assert differences(result) == {}
    steps = [one["name"] for one in result["artifacts"]]
    assert steps == ["build_features", "publish_features", "calibrate", "score", "audit"]
    assert (objects(nights), warehouse_rows(nights)) == (before, rows)
    deliver_other_data(nights)
    assert reproduced(nights, NIGHT, "prediction") == result

    threshold = nights.use_case.decision_threshold
    said = differences(reproduced(nights, NIGHT, "prediction", decision_threshold=threshold / 2))
    assert f"parameter decision_threshold: {threshold} became {threshold / 2}" in said["score"]
    assert any(text.startswith("scores.parquet (") and "decision differs in" in text for text in said["score"])

    manifest = store.key(store.current("late_returns", "score", NIGHT).uri) + "manifest.json"
    body = store.get(manifest)
    store.put(manifest, body.replace(f'"decision_threshold": {threshold}'.encode(), b'"decision_threshold": 0.75'))
    said = differences(reproduced(nights, NIGHT, "prediction"))
    assert said["score"] == [f"{store.uri(manifest)} is not what was committed"]
    store.put(manifest, body)

    with psycopg.connect(nights.settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("ALTER TABLE late_returns.deployments DISABLE TRIGGER ALL")
        connection.execute("DELETE FROM late_returns.deployments WHERE role = 'fallback'")
    result = reproduced(nights, NIGHT, "prediction")
    assert result["first_difference"] == "resolve_model"
    assert "deployments has no version" in differences(result)["resolve_model"][0]


def test_what_was_never_recorded_cannot_be_reproduced(nights):
    with raises_code(PartitionNotReady, "NS-STORE-019", f"register of {NIGHT}"):
        reproduced(nights, NIGHT, "training")
    with raises_code(ConfigurationError, "NS-STORE-001", "drift"):
        reproduced(nights, NIGHT, "drift")
