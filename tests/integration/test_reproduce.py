"""Replays of real nights: untouched ones are identical, and each way to break one is named."""

import dataclasses
import json
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from integration.nights import Nights
from nightshift.artifact import canonical_json
from nightshift.core import estimators, preprocessing
from nightshift.errors import ArtifactCorrupt, ConfigurationError, PartitionNotReady
from nightshift.steps.operator import replay
from nightshift.usecase import load_use_case, partition_range

SECOND = Path(__file__).resolve().parents[1] / "second_use_case"
FIRST, LAST = date(2020, 3, 1), date(2020, 3, 12)
HISTORY = partition_range(FIRST, LAST)
NIGHT = LAST + timedelta(days=1)
TRAINING_STEPS = ["build_training_set", "fit", "distil", "compress", "export", "verify", "select_model"]

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def use_case(monkeypatch, settings):
    """The second use case, under a warehouse schema of this test's own."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    yield load_use_case("late_returns")
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS late_returns CASCADE")


@pytest.fixture
def nights(use_case, settings, store):
    """History up to LAST, with a fallback model, and the first night delivered."""
    made = Nights(use_case, settings, store)
    made.deliver([*HISTORY, NIGHT])
    for partition in [*HISTORY, NIGHT]:
        made.ingest(partition)
    for partition in [*HISTORY, NIGHT]:
        made.materialize(partition)
    made.bootstrap(LAST)
    return made


def replayed(nights, partition, what, **changes):
    case = dataclasses.replace(nights.use_case, **changes)
    ref = replay.run(case, nights.settings, nights.store, partition, what=what)
    assert "<svg" not in nights.store.read(ref, "replay.html").decode()
    return json.loads(nights.store.read(ref, "replay.json"))


def select(nights, partition):
    """A training up to the selected model."""
    return nights.select(partition, nights.step("build_training_set", partition))


def objects(nights):
    """Everything in the bucket but replays, by size."""
    return {o.key: o.bytes for o in nights.store.list("") if not o.key.startswith("late_returns/replay/")}


def warehouse_rows(nights):
    query = "SELECT (SELECT count(*) FROM late_returns.deployments), (SELECT count(*) FROM late_returns.publications)"
    with psycopg.connect(nights.settings.warehouse_url.get_secret_value()) as connection:
        return connection.execute(query).fetchone()


def swapped(feed, body):
    return body.replace(b"north", b"NORTH").replace(b"south", b"north").replace(b"NORTH", b"south")


def test_an_untouched_training_is_identical_whatever_came_later(nights):
    select(nights, LAST)
    before, rows = objects(nights), warehouse_rows(nights)
    found = replayed(nights, LAST, "training")
    assert found["verdict"] == "identical", found["first_difference"]
    assert found["first_difference"] is None
    steps = [artifact["step"] for artifact in found["replayed"]]
    assert list(dict.fromkeys(steps)) == [step for step in TRAINING_STEPS if step in steps]
    assert {"build_training_set", "fit", "export", "verify", "select_model"} <= set(steps)
    assert found["taken_as_recorded"] == {"publish": 12, "publish_features": 11}
    assert found["environment"] == []
    assert (objects(nights), warehouse_rows(nights)) == (before, rows)

    # How many threads a machine gives a task is no part of a model.
    one_thread = nights.settings.model_copy(update={"threads": 1})
    ref = replay.run(nights.use_case, one_thread, nights.store, LAST, what="training")
    assert json.loads(nights.store.read(ref, "replay.json")) == found

    # What was delivered for its days since then changes what counts, and not the replay.
    nights.deliver(HISTORY, swapped)
    for partition in HISTORY:
        nights.ingest(partition)
    for partition in HISTORY:
        nights.materialize(partition)
    assert replayed(nights, LAST, "training") == found
    # The test can fail: without the pins, the training set would be another one.
    training_set = nights.store.current(nights.use_case.name, "build_training_set", LAST)
    assert nights.step("build_training_set", LAST) != training_set


def test_a_search_that_was_replaced_still_counts_for_the_training_that_took_it(nights):
    def searched(learning_rate):
        best = {"better": True, "best": {"learning_rate": learning_rate}}
        return nights.store.commit(
            use_case=nights.use_case.name,
            step="search_hyperparameters",
            partition=FIRST,
            kind="hyperparameters",
            files={"best.json": canonical_json({"estimators": {"xgboost": best}})},
        )

    taken = searched(0.2)
    select(nights, LAST)
    searched(0.1)
    found = replayed(nights, LAST, "training")
    assert found["verdict"] == "identical", found["first_difference"]
    assert found["taken_as_recorded"]["search_hyperparameters"] == 1
    fitted = nights.store.current(nights.use_case.name, "fit", LAST, variant="xgboost")
    assert nights.store.manifest(fitted).inputs["search"] == [taken]


def test_a_changed_step_is_named_with_its_file(nights, monkeypatch):
    select(nights, LAST)
    monkeypatch.setattr(preprocessing, "TAIL_PERCENT", 10.0)
    first = replayed(nights, LAST, "training")["first_difference"]
    assert (first["step"], first["variant"]) == ("fit", "logistic_regression")
    assert set(first["files"]) == {"metrics.json", "model.pickle"}
    assert first["files"]["model.pickle"]["recorded"] != first["files"]["model.pickle"]["rebuilt"]
    said = "\n".join(first["differences"])
    assert "model.pickle (" in said
    assert "log_loss: 0." in said


def test_a_changed_declaration_is_taken_from_the_manifest_and_named(nights, monkeypatch):
    select(nights, LAST)
    monkeypatch.setitem(estimators.DEFAULTS["logistic_regression"], "C", 0.5)
    training = dataclasses.replace(nights.use_case.training, seed=1)
    found = replayed(nights, LAST, "training", training=training)
    assert found["verdict"] == "identical", found["first_difference"]
    fit = next(artifact for artifact in found["replayed"] if artifact["variant"] == "logistic_regression")
    assert fit["declared_otherwise"] == ["hyperparameters.C: 0.5 (recorded: 0.01)", "seed: 1 (recorded: 20130101)"]

    # What no manifest can bring back is named as the difference.
    features = dataclasses.replace(nights.use_case.features, numeric=nights.use_case.features.numeric[:-1])
    first = replayed(nights, LAST, "training", features=features)["first_difference"]
    assert first["step"] == "build_training_set"
    said = "\n".join(first["differences"])
    assert "parameter numeric: " in said
    assert "training_set.parquet (" in said
    assert "columns lost: branch_late_rate" in said


def test_corrupt_bytes_are_named(nights):
    select(nights, LAST)
    store = nights.store
    curated = store.key(store.current(nights.use_case.name, "publish", FIRST).uri)
    model = store.key(store.current(nights.use_case.name, "fit", LAST, variant="xgboost").uri)
    for key in (f"{curated}returns.parquet", f"{model}model.pickle"):
        body = store.get(key)
        store.put(key, body[:-1] + b"?")
        with pytest.raises(ArtifactCorrupt, match=rf"{key} is not the bytes its manifest states"):
            replayed(nights, LAST, "training")
        store.put(key, body)
    manifest = store.get(f"{model}manifest.json")
    store.put(f"{model}manifest.json", manifest.replace(b'"seed":20130101', b'"seed":20130102').replace(
        b'"seed": 20130101', b'"seed": 20130102'))  # fmt: skip
    with pytest.raises(ArtifactCorrupt, match=rf"{model}manifest\.json is not what was committed"):
        replayed(nights, LAST, "training")


def test_a_prediction_is_identical_and_its_model_is_on_record(nights):
    nights.step("record_failed_training", LAST)
    scores = nights.predict(NIGHT)
    before, rows = objects(nights), warehouse_rows(nights)
    found = replayed(nights, NIGHT, "prediction")
    assert found["verdict"] == "identical", found["first_difference"]
    steps = [artifact["step"] for artifact in found["replayed"]]
    assert steps == ["resolve_model", "build_features", "publish_features", "score", "audit"]
    assert (objects(nights), warehouse_rows(nights)) == (before, rows)

    # Delivered anew and predicted anew, the night before last is what the decision names.
    nights.deliver(HISTORY, swapped)
    for partition in HISTORY:
        nights.ingest(partition)
    nights.materialize(NIGHT)
    assert replayed(nights, NIGHT, "prediction") == found
    assert nights.store.read(scores, "scores.parquet")

    # Another number of rows in a batch gives the same values in another layout, and says so.
    settings = nights.settings.model_copy(update={"score_batch_rows": 7})
    ref = replay.run(nights.use_case, settings, nights.store, NIGHT, what="prediction")
    first = json.loads(nights.store.read(ref, "replay.json"))["first_difference"]
    assert first["step"] == "score"
    assert any("all values are equal" in text for text in first["differences"])

    with psycopg.connect(nights.settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("ALTER TABLE late_returns.deployments DISABLE TRIGGER ALL")
        connection.execute("DELETE FROM late_returns.deployments WHERE role = 'fallback'")
    first = replayed(nights, NIGHT, "prediction")["first_difference"]
    assert first["step"] == "resolve_model"
    assert "deployments has no model" in first["differences"][0]


def test_what_was_never_recorded_cannot_be_replayed(nights):
    with pytest.raises(PartitionNotReady, match=f"no recorded training of partition {NIGHT}"):
        replayed(nights, NIGHT, "training")
    with pytest.raises(ConfigurationError, match="'drift' cannot be replayed"):
        replayed(nights, NIGHT, "drift")
