"""Whole nights of the second use case, on a real object store and a real warehouse, without a scheduler.

What is promised of every night: nothing after the cutoff touches it, the same again changes nothing,
a refused night holds up nobody.
"""

from datetime import date
from pathlib import Path

import psycopg
import pytest

from integration.nights import Nights
from nightshift.errors import AuditFailed, DataContractError, PartitionNotReady
from nightshift.io.lineage import trace
from nightshift.usecase import load_use_case, partition_range

SECOND = Path(__file__).resolve().parents[1] / "second_use_case"
FIRST, LAST_OF_HISTORY = date(2020, 3, 1), date(2020, 3, 12)
NIGHTS = partition_range(date(2020, 3, 13), date(2020, 3, 15))

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def use_case(monkeypatch, settings):
    """The second use case, under a warehouse schema of this test's own."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    yield load_use_case("late_returns")
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS late_returns CASCADE")


def load_history(nights: Nights, *, train: bool = True) -> None:
    history = partition_range(FIRST, LAST_OF_HISTORY)
    nights.deliver(history)
    for partition in history:
        nights.ingest(partition)
    for partition in history:
        nights.materialize(partition)
    nights.bootstrap(LAST_OF_HISTORY)
    if train:
        nights.train(LAST_OF_HISTORY)
    else:
        nights.step("record_failure", LAST_OF_HISTORY)


def rows(nights: Nights, query: str) -> list[tuple]:
    with psycopg.connect(nights.settings.warehouse_url.get_secret_value()) as connection:
        return connection.execute(query).fetchall()


def swapped(feed: str, body: bytes) -> bytes:
    """A delivery with the branches exchanged."""
    return body.replace(b"north", b"NORTH").replace(b"south", b"north").replace(b"NORTH", b"south")


PREDICTIONS = (
    "SELECT booking_date, booking, branch, p_late, decision, model_version, publish_id "
    "FROM late_returns.predictions ORDER BY 1, 2"
)


def test_nights(use_case, settings, store):
    nights = Nights(use_case, settings, store)
    load_history(nights)
    nights.deliver(NIGHTS)
    scores = {}
    for partition in NIGHTS:
        nights.ingest(partition)
        nights.materialize(partition, online=True)
        nights.train(partition)
        nights.promote(partition)
        scores[partition] = nights.predict(partition)
        nights.check_drift(partition)

    published = rows(nights, PREDICTIONS)
    per_night = {}
    for day, *_ in published:
        per_night[day] = per_night.get(day, 0) + 1
    assert per_night == {date.fromordinal(p.toordinal() + 1): 40 for p in NIGHTS}
    assert all(0 <= row[3] <= 1 for row in published)

    # Each night is answered by a champion decided before it, or by the fallback.
    served = rows(nights, "SELECT partition, model_version FROM late_returns.publications ORDER BY 1")
    assert all(version[:10] < partition.isoformat() for partition, version in served)

    # The same again: same artifacts, same rows, nothing written.
    for partition in NIGHTS:
        assert nights.predict(partition) == scores[partition]
    assert rows(nights, PREDICTIONS) == published

    key = {"booking_date": "2020-03-16", "booking": "7"}
    path = trace(use_case, settings, store, key)
    landed = f"landing/late_returns/bookings/dt={NIGHTS[-1]}/bookings.csv"
    assert landed in path
    assert "build_training_set" in path


def test_nothing_after_the_cutoff_touches_a_night(use_case, settings, store):
    """Every byte landed for a later partition is changed, before anything runs: the night's scores stay the same."""
    night, later = NIGHTS[0], NIGHTS[1:]
    nights = Nights(use_case, settings, store)
    load_history(nights)
    nights.deliver([night])
    nights.ingest(night)
    features = nights.materialize(night)
    scores = nights.predict(night)
    before = {name: store.read(scores, name) for name in ("scores.parquet", "features.parquet")}

    nights.deliver(later, swapped)
    for partition in later:
        nights.ingest(partition)
        nights.materialize(partition)
    nights.train(night)
    nights.promote(night)
    nights.train(later[0])
    assert nights.materialize(night) == features
    again = nights.predict(night)
    assert again == scores
    assert {name: store.read(again, name) for name in before} == before

    # The test can fail: the same change to what was known before the cutoff does move the scores.
    nights.deliver([night], swapped)
    nights.ingest(night)
    nights.materialize(night)
    assert store.read(nights.predict(night), "scores.parquet") != before["scores.parquet"]


def test_a_refused_night_holds_up_nobody(use_case, settings, store):
    nights = Nights(use_case, settings, store)
    load_history(nights, train=False)
    broken, following = NIGHTS[:2]
    nights.deliver([broken], lambda feed, body: body[: len(body) // 2] if feed == "returns" else body)
    with pytest.raises(DataContractError, match=rf"returns.*dt={broken}"):
        nights.ingest(broken)
    assert store.decision(use_case.name, "publish", broken).status == "rejected"

    nights.deliver([following])
    nights.ingest(following)
    nights.materialize(following)
    nights.predict(following)  # with the fallback: no training ever gave a champion
    assert rows(nights, "SELECT partition FROM late_returns.publications") == [(following,)]

    # Delivered anew, the refused night is made good.
    nights.deliver([broken])
    nights.ingest(broken)
    nights.materialize(broken)
    nights.predict(broken)
    assert len(rows(nights, PREDICTIONS)) == 80


def test_a_night_that_is_not_delivered_is_refused_in_the_end(use_case, settings, store):
    nights = Nights(use_case, settings, store)
    with pytest.raises(PartitionNotReady, match=f"nothing was delivered at .*dt={FIRST}"):
        nights.step("land", FIRST)
    assert store.decision(use_case.name, "publish", FIRST) is None
    with pytest.raises(DataContractError, match="did not come in time"):
        nights.step("land", FIRST, refuse_undelivered=True)
    assert store.decision(use_case.name, "publish", FIRST).status == "rejected"


def test_scores_that_were_superseded_are_not_published(use_case, settings, store):
    nights = Nights(use_case, settings, store)
    load_history(nights, train=False)
    night = NIGHTS[0]
    nights.deliver([night])
    nights.ingest(night)
    nights.materialize(night)
    old = nights.step("score", night, model_choice=nights.step("resolve_model", night))
    audited = nights.step("audit", night, scores=old)
    nights.deliver([night], swapped)
    nights.ingest(night)
    nights.materialize(night)
    nights.predict(night)
    published = rows(nights, PREDICTIONS)
    with pytest.raises(AuditFailed, match="superseded"):
        nights.step("publish_predictions", night, scores=old, audited=audited)
    assert rows(nights, PREDICTIONS) == published


def test_a_night_waits_for_the_one_before(use_case, settings, store):
    nights = Nights(use_case, settings, store)
    load_history(nights, train=False)
    nights.deliver(NIGHTS[:2])
    nights.ingest(NIGHTS[1])
    with pytest.raises(PartitionNotReady, match=str(NIGHTS[0])):
        nights.materialize(NIGHTS[1])
    nights.ingest(NIGHTS[0])
    nights.materialize(NIGHTS[1])
    with pytest.raises(PartitionNotReady, match=rf"training of partition {NIGHTS[0]}"):
        nights.predict(NIGHTS[1])
    nights.step("record_failure", NIGHTS[0])
    nights.predict(NIGHTS[1])
