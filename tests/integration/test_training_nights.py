"""The training of a night on real services: rows appended, specs fitted, verified and registered."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.artifact import Decision
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.core.versions.package import HOLDOUT, MODEL
from nightshift.declare.use_case import UseCase
from nightshift.deployment import model_version
from nightshift.documents.train import Registration, TrainingSet, Verification
from nightshift.errors import (
    ArtifactCorrupt,
    PartitionNotReady,
    PartitionRejected,
    TerminalError,
    WarehouseUnavailable,
)
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import partition_range
from nightshift.services.training_rows import STEP, compact_months, known_rows, load_rows, publish_rows
from nightshift.steps.train import track_training
from support.errors import raises_code
from support.history import TRAINED
from support.nights import Nights

FIRST = date(2020, 3, 1)
DAY = timedelta(days=1)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def use_case(nights: Nights) -> UseCase:
    return nights.use_case


def registration(nights: Nights, partition: date) -> Registration:
    return nights.store.read_document(nights.train(partition), Registration)


def failed_gates(registered: Registration) -> dict[str, str]:
    return {one.spec_id: one.why for one in registered.versions if one.action == "rejected"}


def test_registering_twice_changes_nothing(trained_nights, use_case, store, settings, history):
    nights, last = trained_nights, TRAINED
    registered = store.read_document(store.current(use_case.name, "register", last), Registration)
    assert failed_gates(registered) == {}
    assert {one.role: one.spec_id for one in registered.versions} == {
        "champion": use_case.champion.spec_id,
        "fallback": use_case.fallback.spec_id,
    }
    assert registered.promoted == use_case.champion.spec_id
    recorded = Warehouse(settings, use_case).decisions()
    assert [one.action for one in recorded] == ["registered", "registered", "promoted"]
    state = Warehouse(settings, use_case).state_as_of(last + DAY)
    assert state.primary is not None
    assert state.primary[1].model_version == model_version(last, registered.versions[0].model)
    assert Warehouse(settings, use_case).state_as_of(last).primary is None

    assert registration(nights, last) == registered
    assert Warehouse(settings, use_case).decisions() == recorded

    night = last + DAY
    history.copy(store, night, first=night)
    again = registration(nights, night)
    assert failed_gates(again) == {}
    assert again.promoted == ""
    verification = store.current(use_case.name, "verify", night, variant=use_case.champion.spec_id)
    by_gate = {one.gate: one.verdict for one in store.read_document(verification, Verification).gates}
    assert by_gate["change"] == "pass"
    assert by_gate["calibration"] == "not applicable"


def test_cards_and_tracking_follow_a_registration(trained_nights, store, use_case, monkeypatch):
    nights, last = trained_nights, TRAINED
    registered = store.current(use_case.name, "register", last)
    card = nights.step("report_training", last, registered=registered)
    champion, fallback = store.read_document(registered, Registration).versions
    page = store.read(card, "card.html").decode()
    assert champion.model_version in page
    assert f"card-{fallback.spec_id}.html" in page
    assert fallback.model_version in store.read(card, f"card-{fallback.spec_id}.html").decode()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracked = nights.step("track_training", last, registered=registered)
    assert store.manifest(tracked).metrics == {champion.spec_id: None, fallback.spec_id: None}


def test_two_tries_of_a_task_do_not_log_a_version_at_once(trained_nights, store, settings, use_case, monkeypatch):
    registered = store.current(use_case.name, "register", TRAINED)
    monkeypatch.setattr(warehouse_schema, "LOCK_TIMEOUT_SECONDS", 0.2)
    logged = []

    def another_try(_settings, _use_case, record):
        with (
            raises_code(WarehouseUnavailable, "NS-WAREHOUSE-006", "late_returns/track_training"),
            warehouse_schema.hold_lock(settings, use_case.name, "track_training"),
        ):
            pytest.fail("two at once")
        logged.append(record.model_version)

    monkeypatch.setattr(track_training, "log_training", another_try)
    trained_nights.step("track_training", TRAINED, registered=registered)
    assert logged == [one.model_version for one in store.read_document(registered, Registration).versions]


def test_the_shipped_graph_is_fitted_on_the_newest_labels(trained_nights, use_case, store):
    last = TRAINED
    version = store.current(use_case.name, "fit", last, variant=use_case.champion.spec_id)
    names = {entry.path for entry in store.manifest(version).files}
    assert not [name for name in names if "pickle" in name]
    card = json.loads(store.read(version, "card.json"))
    assert card["fitted_on"]["last_partition"] == (last - DAY).isoformat()
    holdout = store.read_table(version, HOLDOUT)
    assert holdout.column_names == ["booking_date", "booking", "partition", "is_late", "p_late"]
    assert len(holdout["partition"].unique()) == use_case.training.holdout_days


def test_labels_flipped_for_one_day_stop_both_versions(trained_nights):
    nights, night = trained_nights, TRAINED + DAY

    def flip(feed: str, body: bytes) -> bytes:
        if feed != "returns":
            return body
        head, *lines = body.decode().splitlines()
        flipped = [line[:-1] + str(1 - int(line[-1])) for line in lines]
        return "\n".join([head, *flipped, ""]).encode()

    nights.deliver([night], flip)
    nights.ingest(night)
    nights.materialize(night)
    rejected = failed_gates(registration(nights, night))
    assert any("new_rows.auc" in why for why in rejected.values())
    assert nights.use_case.champion.spec_id in rejected


def test_too_few_days_are_an_error(nights, history):
    history.copy(nights.store, date(2020, 3, 5))
    with raises_code(TerminalError, "NS-TRAIN-009", "labels of 4 partitions"):
        nights.train(date(2020, 3, 5))


def test_a_late_label_gets_the_features_of_its_own_day(nights, store, use_case):
    last = date(2020, 3, 6)

    def without_first_booking(feed: str, body: bytes) -> bytes:
        head, _, *lines = body.decode().splitlines()
        return "\n".join([head, *lines, ""]).encode() if feed == "returns" else body

    late: list[str] = []

    def with_late_booking(feed: str, body: bytes) -> bytes:
        return body + (late[0] + "\n").encode() if feed == "returns" else body

    replay = __import__("late_returns.replay", fromlist=["deliveries"])
    day = date(2020, 3, 4)
    late.append({feed: body for feed, _, _, body in replay.deliveries(day)}["returns"].decode().splitlines()[1])
    nights.deliver(partition_range(FIRST, last))
    nights.deliver([day], without_first_booking)
    nights.deliver([last], with_late_booking)
    for partition in partition_range(FIRST, last):
        nights.ingest(partition)
    for partition in partition_range(FIRST, last):
        nights.materialize(partition)
    found = store.read_table(nights.append(last), "rows.parquet")
    row = found.filter(pc.equal(found["booking_date"], day)).to_pylist()
    assert len(row) == 1
    assert (row[0]["partition"], row[0]["known_on"]) == (day - DAY, last)
    branches = store.read_table(store.current(use_case.name, "publish_features", day - DAY), "branch_history.parquet")
    assert row[0]["branch_late_rate"] in branches["branch_late_rate"].to_pylist()


def test_features_still_to_come_are_waited_for_and_then_left_out(nights, store):
    days = partition_range(FIRST, FIRST + DAY)
    nights.deliver(days)
    for day in days:
        nights.ingest(day)
    with raises_code(PartitionNotReady, "NS-TRAIN-006", "2020-03-01"):
        nights.append(days[1])
    ref = nights.step(STEP, days[1], allow_undecided=True)
    assert ref.rows == 0
    assert list(store.manifest(ref).parameters["missing"]) == ["2020-03-01"]


def test_a_rejected_day_is_missing_and_named(nights, store, use_case, history):
    last = date(2020, 3, 3)
    history.copy(nights.store, last)
    store.decide(use_case.name, "publish", FIRST + DAY, Decision(status="rejected", reason="half a file"))
    with raises_code(PartitionRejected, "NS-TRAIN-005", "half a file"):
        nights.append(FIRST + DAY)
    missing = known_rows(store, use_case, last).missing
    assert missing == {}  # nothing is missing before the first day that has rows
    store.decide(use_case.name, STEP, FIRST, Decision(status="published", ref=store.current(use_case.name, STEP, last)))
    missing = known_rows(store, use_case, last).missing
    assert "half a file" in missing["2020-03-02"]


def test_month_is_compacted_again_after_a_day_changed(nights, store, use_case, history):
    last = date(2020, 4, 2)
    history.copy(nights.store, last)
    days = known_rows(store, use_case, last).parts
    before = load_rows(store, use_case, days)
    (month,) = compact_months(store, use_case, last)
    assert compact_months(store, use_case, last) == []
    listing = known_rows(store, use_case, last)
    parts, missing = listing.parts, listing.missing
    assert parts == [month, *days[-2:]]
    assert missing == {}
    assert load_rows(store, use_case, parts).equals(before)
    # An origin within the month sees its days alone.
    assert known_rows(store, use_case, date(2020, 3, 20)).parts == days[:20]

    made_again = date(2020, 3, 10)
    nights.deliver([made_again], lambda feed, body: body.replace(b",trade,", b",private,"))
    nights.ingest(made_again)
    ref = nights.append(made_again)
    assert ref not in days
    assert nights.append(made_again) == ref
    training_set = store.read_document(nights.step("build_training_set", last, rows=days[-1]), TrainingSet)
    assert training_set.parts[0] != month
    assert ref in store.manifest(training_set.parts[0]).inputs["rows"]
    assert training_set.rows == before.num_rows
    assert (training_set.first, training_set.last) == (FIRST + DAY, last)
    assert pc.max(load_rows(store, use_case, training_set.parts)[KNOWN_ON]).as_py() == last


def test_requests_of_a_training_do_not_grow_with_history(nights, store, use_case, settings, history):
    last = date(2020, 3, 14)
    history.copy(nights.store, last)
    rows = store.read_table(store.current(use_case.name, STEP, last), "rows.parquet")
    long = dataclasses.replace(use_case, first_partition=date(2020, 1, 1))
    for day in partition_range(long.first_partition, FIRST - DAY):
        dated = {"booking_date": day, "partition": day - DAY, KNOWN_ON: day}
        earlier = rows
        for name, value in dated.items():
            column = pa.array([value] * rows.num_rows, pa.date32())
            earlier = earlier.set_column(earlier.schema.get_field_index(name), name, column)
        publish_rows(store, use_case, day, earlier, inputs={}, parameters={})
    compact_months(store, long, last)

    def requests(case: UseCase) -> int:
        counted: list[str] = []
        fresh = Nights(case, settings, ArtifactStore(settings))
        fresh.store._client.meta.events.register("before-send.s3", lambda request, **_: counted.append(request.url))
        fresh.train(last)
        return len(counted)

    few, many = requests(use_case), requests(long)
    training_set = store.read_document(store.current(use_case.name, "build_training_set", last), TrainingSet)
    assert (training_set.last - training_set.first).days > 3 * (last - FIRST).days
    assert few < many <= 1.2 * few


def test_a_version_of_another_training_set_is_noticed(trained_nights, use_case, store, history):
    nights, last = trained_nights, TRAINED
    training_set = store.current(use_case.name, "build_training_set", last)
    version = store.current(use_case.name, "fit", last, variant=use_case.champion.spec_id)
    # Of the same newest rows, as after a label of an older one was corrected.
    alike = store.commit(
        use_case=use_case.name,
        step="build_training_set",
        partition=last,
        kind="training_set",
        files=store.read_document(training_set, TrainingSet).to_files(),
        current=False,
    )
    with raises_code(ArtifactCorrupt, "NS-GATE-001", alike.uri):
        nights.step("verify", last, training_set=alike, version=version, allow_undecided=True)
    night = last + DAY
    history.copy(store, night, first=night)
    other = nights.step("build_training_set", night, rows=nights.append(night))
    with raises_code(ArtifactCorrupt, "NS-GATE-001", version.uri):
        nights.step("verify", night, training_set=other, version=version, allow_undecided=True)
    assert store.read(version, MODEL)
    assert training_set != other


@pytest.mark.parametrize("rejected", [(), (date(2020, 3, 19),)])
def test_training_waits_for_the_rows_of_the_partition_before(nights, store, history, rejected):
    before, day = date(2020, 3, 18), date(2020, 3, 19) + len(rejected) * DAY
    history.copy(store, date(2020, 3, 17))
    for one in rejected:
        store.decide(nights.use_case.name, "publish", one, Decision(status="rejected", reason="half a file"))
    nights.deliver([before, day])
    for one in (before, day):
        nights.ingest(one)
    for one in (before, day):
        nights.materialize(one)
    rows = nights.append(day)
    with raises_code(PartitionNotReady, "NS-TRAIN-008", before):
        nights.step("build_training_set", day, rows=rows)
    without = nights.step("build_training_set", day, rows=rows, allow_undecided=True)
    nights.append(before)
    assert nights.step("build_training_set", day, rows=rows).rows > without.rows
