"""Whole nights of the second use case, on a real object store and a real warehouse, without a scheduler.

What is promised of every night: nothing delivered later changes its predictions, the same again changes nothing,
and one that failed does not stop the next.
"""

from __future__ import annotations

from datetime import date, timedelta
from io import BytesIO

import pandas as pd
import psycopg
import pyarrow.compute as pc
import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import State
from nightshift.documents.predict import Calibration, ModelChoice
from nightshift.errors import DataContractError, PartitionNotReady, Superseded
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import partition_range
from nightshift.services.lineage import trace
from support.errors import raises_code
from support.history import FIRST, TRAINED
from support.nights import Nights

DAY = timedelta(days=1)
NIGHTS = partition_range(TRAINED + DAY, TRAINED + 3 * DAY)

pytestmark = pytest.mark.filterwarnings("default")


def rows(nights: Nights, query: str) -> list[tuple]:
    with psycopg.connect(nights.settings.warehouse_url.get_secret_value()) as connection:
        return connection.execute(query).fetchall()


def predictions(nights: Nights, last: date = date.max) -> str:
    """The md5 of every row of the table of predictions, up to a day."""
    query = "SELECT md5(string_agg(p::text, ',' ORDER BY p)) FROM late_returns.predictions p WHERE booking_date <= "
    ((md5,),) = rows(nights, f"{query}'{last}'")
    return str(md5)


def served(nights: Nights) -> dict[date, str]:
    """The versions whose predictions are published, by partition."""
    query = "SELECT partition, model_version FROM late_returns.publications WHERE superseded_at IS NULL"
    return dict(rows(nights, query))


def scored_with(nights: Nights, partition: date) -> ModelChoice:
    ref = nights.store.current(nights.use_case.name, "resolve_model", partition)
    return nights.store.read_document(ref, ModelChoice)


def state_for(nights: Nights, partition: date) -> State:
    return Warehouse(nights.settings, nights.use_case).state_as_of(partition)


def scrambled(feed: str, body: bytes) -> bytes:
    """A delivery with other branches, customers, hours and labels; returns state labels of earlier days besides."""
    table = pd.read_csv(BytesIO(body))
    table["branch"] = table["branch"].replace({"north": "south", "south": "north"})
    table["customer"] = table["customer"].to_numpy()[::-1]
    table["hours"] = 73 - table["hours"]
    if feed == "returns":
        table["returned_late"] = 1 - table["returned_late"]
        day = date.fromisoformat(table["booking_date"][0])
        earlier = [table.assign(booking_date=str(day - n * DAY)) for n in range(1, 4)]
        table = pd.concat([*earlier, table])
    return table.to_csv(index=False).encode()


def ingest(nights: Nights, partition: date) -> None:
    nights.ingest(partition)
    nights.materialize(partition, online=True)


def whole_night(nights: Nights, partition: date) -> list[ArtifactRef]:
    """Every DAG of a night, in the order of their schedule."""
    ingest(nights, partition)
    made = [nights.train(partition), nights.promote(partition), nights.predict(partition)]
    return [*made, nights.check_drift(partition)]


def test_nights(trained_nights: Nights) -> None:
    nights, two = trained_nights, NIGHTS[:2]
    nights.deliver(two)
    made = [whole_night(nights, night) for night in two]

    per_day = rows(nights, "SELECT booking_date, count(*) FROM late_returns.predictions GROUP BY 1 ORDER BY 1")
    assert per_day == [(night + DAY, 40) for night in two]
    assert rows(nights, "SELECT count(*) FROM late_returns.predictions WHERE p_late BETWEEN 0 AND 1") == [(80,)]

    # What the training of each night makes is published by the next.
    champion = nights.use_case.champion.spec_id
    for night, version in served(nights).items():
        newest = state_for(nights, night).version(champion)
        assert newest is not None
        assert (version, newest.partition) == (newest.model_version, night - DAY)
        frozen = set() if night == two[0] else {"frozen"}  # of the first night it is the primary itself
        assert {one.role for one in scored_with(nights, night).shadows} == {"fallback"} | frozen

    # Every row is in one slice of each declared column.
    sliced = rows(
        nights,
        "SELECT role, prediction_date, sum(rows) FILTER (WHERE slice_column = ''), "
        "sum(rows) FILTER (WHERE slice_column = 'customer'), "
        "abs(sum(rows * log_loss) FILTER (WHERE slice_column = '') "
        "- sum(rows * log_loss) FILTER (WHERE slice_column = 'customer')) < 1e-9 "
        "FROM late_returns.performance_daily WHERE role IN ('published', 'fallback') GROUP BY 1, 2 ORDER BY 1",
    )
    assert sliced == [(role, two[1], 40, 40, True) for role in ("fallback", "published")]

    # The same nights again: the same artifacts, decisions and rows.
    before, decided = predictions(nights), Warehouse(nights.settings, nights.use_case).decisions()
    nights.deliver(two)
    assert [whole_night(nights, night) for night in two] == made
    assert predictions(nights) == before
    assert Warehouse(nights.settings, nights.use_case).decisions() == decided
    assert len(rows(nights, "SELECT 1 FROM late_returns.publications")) == len(two)

    key = {"booking_date": str(two[-1] + DAY), "booking": "7"}
    path = trace(nights.use_case, nights.settings, nights.store, key)
    assert f"landing/late_returns/bookings/dt={two[-1]}/bookings.csv" in path
    assert f"build_training_set {two[-2]}" in path


def test_what_is_delivered_later_changes_no_prediction(trained_nights: Nights) -> None:
    nights, store = trained_nights, trained_nights.store
    *earlier, night = NIGHTS
    later = partition_range(night + DAY, night + 2 * DAY)
    nights.deliver(NIGHTS)
    for partition in earlier:
        ingest(nights, partition)
        nights.fail("train", partition)
        nights.promote(partition)
        nights.predict(partition)
    ingest(nights, night)
    scores = nights.predict(night)
    files = {name: store.read(scores, name) for name in ("scores.parquet", "all_scores.parquet", "features.parquet")}
    published = predictions(nights, night + DAY)
    (calibration,) = store.manifest(scores).inputs["calibration"]
    assert all(one.rows for one in store.read_document(calibration, Calibration).specs.values())

    nights.deliver(later, scrambled)
    for partition in later:
        ingest(nights, partition)
    nights.train(night)
    nights.train(later[0])
    for partition in (night, *later):
        nights.promote(partition, allow_undecided=True)
    nights.predict(later[-1], allow_undecided=True)
    # All that the night did, once more.
    ingest(nights, night)
    assert nights.predict(night) == scores
    assert {name: store.read(scores, name) for name in files} == files
    assert predictions(nights, night + DAY) == published

    # The same change to what the night itself delivers does change them.
    nights.deliver([night], scrambled)
    ingest(nights, night)
    assert store.read(nights.predict(night), "scores.parquet") != files["scores.parquet"]


def test_a_failed_training_leaves_the_version_before(trained_nights: Nights) -> None:
    nights = trained_nights
    nights.deliver(NIGHTS)
    for night in NIGHTS:
        ingest(nights, night)
    before = state_for(nights, NIGHTS[0]).version(nights.use_case.champion.spec_id)
    assert before is not None
    nights.append(NIGHTS[0])
    training_set, (version, *_) = nights.fit(NIGHTS[1])
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"train of partition {NIGHTS[0]}"):
        nights.step("verify", NIGHTS[1], training_set=training_set, version=version)
    nights.promote(NIGHTS[0])
    nights.predict(NIGHTS[0])
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"train of partition {NIGHTS[0]}"):
        nights.predict(NIGHTS[1])
    nights.fail("train", NIGHTS[0])
    nights.promote(NIGHTS[1])
    nights.predict(NIGHTS[1])
    assert served(nights) == dict.fromkeys(NIGHTS[:2], before.model_version)
    # The next training that succeeds counts again.
    nights.train(NIGHTS[1])
    nights.fail("train", NIGHTS[1])  # of another run, which is over later: it changes nothing
    nights.predict(NIGHTS[2])
    assert served(nights)[NIGHTS[2]].startswith(str(NIGHTS[1]))
    decisions = Warehouse(nights.settings, nights.use_case).decisions()
    assert [one.partition for one in decisions if one.action == "failed"] == [NIGHTS[0]]


def test_a_rejected_partition_does_not_stop_the_next(trained_nights: Nights) -> None:
    nights = trained_nights
    broken, following = NIGHTS[:2]
    nights.deliver([broken], lambda feed, body: body[: len(body) // 2] if feed == "returns" else body)
    with raises_code(DataContractError, "NS-LAND-007", f"returns/dt={broken}"):
        nights.ingest(broken)
    assert nights.store.decision(nights.use_case.name, "publish", broken).status == "rejected"

    nights.deliver([following])
    ingest(nights, following)
    nights.predict(following)
    assert list(served(nights)) == [following]

    # Delivered again, the rejected partition is predicted after all.
    nights.deliver([broken])
    ingest(nights, broken)
    nights.predict(broken)
    assert rows(nights, "SELECT count(*) FROM late_returns.predictions") == [(80,)]


def test_failed_features_cost_one_partition(trained_nights: Nights) -> None:
    """Later trainings and predictions neither fail nor wait, and go on without the labels of that partition."""
    nights, (first, lost, third) = trained_nights, NIGHTS
    later = third + DAY
    nights.deliver([*NIGHTS, later])
    whole_night(nights, first)
    nights.ingest(lost)
    nights.fail("materialize", lost)
    for night in (third, later):
        ingest(nights, night)
        nights.train(night)
        nights.promote(night)
        nights.predict(night)
    champion = nights.use_case.champion.spec_id
    assert sorted(served(nights)) == [first, third, later]
    assert served(nights)[later].startswith(str(third))
    newest = state_for(nights, later + DAY).version(champion)
    assert newest is not None
    assert newest.partition == later
    rows_of_third = nights.store.current(nights.use_case.name, "append_training_rows", third)
    assert list(nights.store.manifest(rows_of_third).parameters["missing"]) == [str(lost)]


def test_undelivered_partition_is_rejected_on_last_try(nights: Nights) -> None:
    store, name = nights.store, nights.use_case.name
    with raises_code(PartitionNotReady, "NS-LAND-001", f"dt={FIRST}"):
        nights.step("land", FIRST)
    assert store.decision(name, "publish", FIRST) is None
    with raises_code(DataContractError, "NS-LAND-020", f"dt={FIRST}"):
        nights.step("land", FIRST, reject_undelivered=True)
    assert store.decision(name, "publish", FIRST).status == "rejected"


def test_scores_that_were_superseded_are_not_published(trained_nights: Nights) -> None:
    nights, night = trained_nights, NIGHTS[0]
    nights.deliver([night])
    ingest(nights, night)
    choice = nights.step("resolve_model", night)
    calibration = nights.step("calibrate", night, model_choice=choice)
    old = nights.step("score", night, model_choice=choice, calibration=calibration)
    audited = nights.step("audit", night, scores=old)
    nights.deliver([night], scrambled)
    ingest(nights, night)
    nights.predict(night)
    published = predictions(nights)
    with raises_code(Superseded, "NS-NIGHT-001"):
        nights.step("publish_predictions", night, scores=old, audited=audited)
    assert predictions(nights) == published


def test_monitored_columns_are_summarised_and_no_features(trained_nights: Nights) -> None:
    store, name = trained_nights.store, trained_nights.use_case.name
    (table,) = (one for one in trained_nights.use_case.features.tables if one.monitored)
    built = store.current(name, "build_features", TRAINED)
    summary = store.read_table(built, "summary.parquet")
    columns = summary.filter(pc.equal(summary["source"], table.name))["column_name"].to_pylist()
    assert {*table.monitored, *table.numeric} <= set(columns)
    assert not {*table.monitored} & {*store.read_table(built, f"{table.name}.parquet").column_names}
    rows = store.read_table(store.current(name, "append_training_rows", TRAINED), "rows.parquet")
    assert not {*table.monitored} & {*rows.column_names}


def test_features_wait_for_the_partition_before(trained_nights: Nights) -> None:
    nights = trained_nights
    nights.deliver(NIGHTS[:2])
    nights.ingest(NIGHTS[1])
    with raises_code(PartitionNotReady, "NS-CURATE-012", NIGHTS[0]):
        nights.materialize(NIGHTS[1])
    nights.ingest(NIGHTS[0])
    nights.materialize(NIGHTS[1])
