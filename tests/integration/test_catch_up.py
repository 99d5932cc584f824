"""Partitions that were left behind are made good by the next nights, and what that changes is listed."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nightshift.artifact import Attempt
from nightshift.documents.ingest import CatchUp
from nightshift.errors import DataContractError, PartitionNotReady, StoreUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.content import content_sha256
from nightshift.io.landing import DeliveredFeed, read_delivery
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.partitions import partition_range
from nightshift.services.catch_up import changed_files
from nightshift.settings import Settings
from nightshift.steps.ingest import land
from support.errors import raises_code
from support.nights import Nights
from support.receiver import Receiver, with_receivers

pytestmark = pytest.mark.filterwarnings("default")

DAYS = partition_range(date(2020, 3, 1), date(2020, 3, 12))
RETURNS = "landing/late_returns/returns/dt={}/{}"
NOT_RUN = "ingest did not decide it"


@pytest.fixture
def nights(untrained_nights: Nights) -> Nights:
    return untrained_nights


def catch_up(nights: Nights, partition: date, *, may_run: bool = True) -> CatchUp:
    published = nights.store.current(nights.use_case.name, "publish", partition)
    ref = nights.step("catch_up", partition, published=published, may_run=may_run)
    return nights.store.read_document(ref, CatchUp)


def ingest(nights: Nights, days: Sequence[date]) -> None:
    for day in days:
        nights.ingest(day)


def test_partition_without_a_scheduler_is_made_good(nights: Nights) -> None:
    first, lost, third, fourth = DAYS[:4]
    nights.deliver(DAYS[:4])
    ingest(nights, [first, third])
    for day, undecided in ((first, False), (third, True)):
        built = nights.step("build_features", day, allow_undecided=undecided)
        nights.step("publish_features", day, features=built)
    assert catch_up(nights, third) == CatchUp(run_again={lost: NOT_RUN})
    # What `run_missed` does with it; the assets lead to materialize.
    ingest(nights, [lost])
    nights.materialize(lost)
    ingest(nights, [fourth])
    assert catch_up(nights, fourth) == CatchUp(outdated={third: (lost,)})
    nights.materialize(third)
    assert catch_up(nights, fourth) == CatchUp()
    # Published again, with other rows: what was built from it is outdated.
    nights.deliver([first], lambda feed, body: body.replace(b"private", b"trade", 1))
    ingest(nights, [first])
    assert catch_up(nights, fourth).outdated == {lost: (first,), third: (first,)}
    assert catch_up(nights, first).outdated == {lost: (first,), third: (first,)}


def test_which_partitions_are_run_again(nights: Nights) -> None:
    """By the reason for which they were left behind."""
    failed, broken, undelivered, late, unbuilt, unscored, good = DAYS[:7]
    nights.deliver([failed, unbuilt, unscored, good])
    nights.step("record_failure", failed, stage="ingest", run_id="run-7", failed_tasks=["profile"])
    nights.deliver([broken], lambda feed, body: body.replace(b",1\n", b",7\n"))
    with raises_code(DataContractError, "NS-CURATE-011"):
        nights.ingest(broken)
    for day in (undelivered, late):
        with raises_code(DataContractError, "NS-LAND-020"):
            nights.step("land", day, reject_undelivered=True)
    nights.deliver([late])
    ingest(nights, [unbuilt, unscored, good])
    nights.step("record_failure", unbuilt, stage="materialize", run_id="run-7", failed_tasks=["build_features"])
    for day in (unscored, good):
        built = nights.step("build_features", day, allow_undecided=True)
        nights.step("publish_features", day, features=built)
    nights.step("record_failure", unscored, stage="predict", run_id="run-7", failed_tasks=["score"])
    last = DAYS[7]
    nights.deliver([last])
    ingest(nights, [last])
    run_again = catch_up(nights, last).run_again
    assert list(run_again) == [failed, late, unbuilt, unscored]
    assert [reason[:22] for reason in run_again.values()] == [
        "failed: task profile, ", "NS-LAND-020: late_retu", "failed: task build_fea", "failed: task score, ru"
    ]  # fmt: skip
    # A partition with broken data waits for another delivery.
    nights.deliver([broken])
    assert broken in catch_up(nights, last).run_again
    assert catch_up(nights, last, may_run=False).run_again == {}


def test_a_delivery_that_has_not_settled_is_not_run_again(nights: Nights) -> None:
    lost, last = DAYS[:2]
    nights.deliver([lost, last])
    ingest(nights, [last])
    for seconds, expected in ((3600, []), (0, [lost])):
        settling = nights.settings.model_copy(update={"settle_seconds": seconds})
        assert list(catch_up(Nights(nights.use_case, settling, nights.store), last).run_again) == expected


def test_a_delivery_that_could_not_be_read_is_run_again_once_it_came_again(nights: Nights) -> None:
    broken, last = DAYS[:2]
    nights.deliver([last])
    ingest(nights, [last])
    nights.deliver([broken], lambda feed, body: body[:-1] if feed == "returns" else body)
    with raises_code(DataContractError, "NS-LAND-007"):
        nights.ingest(broken)
    assert catch_up(nights, last) == CatchUp()
    time.sleep(1.1)  # the store's times are whole seconds
    nights.deliver([broken])
    assert list(catch_up(nights, last).run_again) == [broken]


def test_a_file_that_is_replaced_while_it_is_landed_is_listed(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    day, last = DAYS[:2]
    nights.deliver([day, last])
    ingest(nights, [last])

    def replaced_meanwhile(*arguments: Any, **more: Any) -> DeliveredFeed:
        delivery = read_delivery(*arguments, **more)
        # The first feed is replaced while the second one is read.
        nights.deliver([day], lambda feed, body: body.rsplit(b"\n", 2)[0] + b"\n" if feed == "bookings" else body)
        time.sleep(1.1)
        return delivery

    monkeypatch.setattr(land, "read_delivery", replaced_meanwhile)
    token = CURRENT_ATTEMPT.set(Attempt(started_at=datetime.now(UTC).isoformat()))
    try:
        ingest(nights, [day])
    finally:
        CURRENT_ATTEMPT.reset(token)
    assert list(catch_up(nights, last).changed) == [day]


def test_partition_is_run_again_by_two_nights_at_most(nights: Nights) -> None:
    lost, *nexts = DAYS[:4]
    nights.deliver(DAYS[:4])
    ingest(nights, nexts)
    assert [lost in catch_up(nights, day).run_again for day in nexts] == [True, True, False]


def test_only_the_last_week_is_run_again(nights: Nights) -> None:
    nights.deliver([DAYS[0], DAYS[1], DAYS[8]])
    ingest(nights, [DAYS[8]])
    assert list(catch_up(nights, DAYS[8]).run_again) == [DAYS[1]]


def test_landing_that_changed_after_it_was_landed_is_listed(nights: Nights) -> None:
    same, changed, added, last = DAYS[:4]
    nights.deliver(DAYS[:4])
    ingest(nights, [same, changed, added, last])
    assert catch_up(nights, last).changed == {}
    nights.deliver([same])
    nights.deliver([changed], lambda feed, body: body if feed == "bookings" else body.rsplit(b"\n", 2)[0])
    nights.store.put(RETURNS.format(added, "more.csv"), b"x")
    nights.store.put(RETURNS.format(added, "_NOTE"), b"x")
    assert catch_up(nights, last).changed == {
        changed: (nights.store.uri(RETURNS.format(changed, "returns.csv")),),
        added: (nights.store.uri(RETURNS.format(added, "more.csv")),),
    }
    # Files that are gone were read in time.
    nights.store._client.delete_object(Bucket=nights.store.bucket, Key=RETURNS.format(changed, "returns.csv"))
    assert list(catch_up(nights, last).changed) == [added]


def test_what_is_left_to_a_person_is_alerted_once(nights: Nights, receiver: Receiver) -> None:
    nights = Nights(nights.use_case, with_receivers(nights.settings, receiver), nights.store)
    first, second, last = DAYS[:3]
    nights.deliver(DAYS[:3])
    ingest(nights, DAYS[:3])
    for day in (first, second):
        nights.materialize(day)
    catch_up(nights, last)
    assert receiver.received == []
    nights.deliver([first], lambda feed, body: body.replace(b"private", b"trade", 1))
    for _ in range(2):
        catch_up(nights, last)
    ingest(nights, [first])
    nights.materialize(first)
    for _ in range(2):
        catch_up(nights, last)
    changed, outdated = receiver.lines
    assert changed.startswith(f"the delivery of {first} changed after it was landed (")
    assert f"the features of {second} were built before {first} was published as it is now" in outdated


def test_each_change_of_a_delivery_is_alerted_once(nights: Nights, receiver: Receiver) -> None:
    nights = Nights(nights.use_case, with_receivers(nights.settings, receiver), nights.store)
    first, second, last = DAYS[:3]
    nights.deliver(DAYS[:3])
    ingest(nights, DAYS[:3])
    received = []
    for kind in (b"trade", b"other"):
        nights.deliver([first], lambda feed, body, kind=kind: body.replace(b"private", kind, 1))
        catch_up(nights, last)
        # The same bytes once more are no change.
        nights.deliver([first], lambda feed, body, kind=kind: body.replace(b"private", kind, 1))
        catch_up(nights, last)
        received.append(receiver.lines)
    assert [len(lines) for lines in received] == [1, 2]
    assert {line.partition(" (")[0] for line in received[-1]} == {
        f"the delivery of {first} changed after it was landed"
    }
    # Of several partitions at once, in one message.
    nights.deliver([first, second], lambda feed, body: body.replace(b"private", b"third", 1))
    catch_up(nights, last)
    assert (len(receiver.received), len(receiver.lines)) == (3, 4)


def test_changed_files_are_hashed_in_bounded_memory(nights: Nights, tmp_path: Path) -> None:
    day = DAYS[0]
    nights.deliver([day])
    ingest(nights, [day])
    large = tmp_path / "large.csv"
    large.write_bytes(b"x" * 100_000_000)
    keys = [RETURNS.format(day, name) for name in ("returns.csv", "more.csv")]
    for key in keys:
        nights.store.put(key, large)
    tracemalloc.start()
    try:
        changed = changed_files(nights.store, nights.use_case, day)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert changed == {nights.store.uri(key): content_sha256(large) for key in keys}


def test_alerts_keep_no_partition_from_being_run_again(nights: Nights, settings: Settings) -> None:
    changed, lost, last = DAYS[:3]
    nights.deliver(DAYS[:3])
    ingest(nights, [changed, last])
    nights.deliver([changed], lambda feed, body: body.replace(b"private", b"trade", 1))
    down = settings.model_copy(update={"warehouse_url": SecretStr("postgresql://nobody@127.0.0.1:1/warehouse")})
    listed = catch_up(Nights(nights.use_case, down, nights.store), last)
    assert (list(listed.changed), listed.run_again[lost]) == ([changed], NOT_RUN)


def test_keys_that_were_rotated_cost_one_partition_at_most(
    nights: Nights, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retried while they are rejected; then the partition is rejected, the next goes on and makes it good."""
    first, lost, third = DAYS[:3]
    nights.deliver(DAYS[:3])
    ingest(nights, [first])
    nights.materialize(first)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "old")
        with raises_code(StoreUnavailable, "NS-STORE-012"):
            Nights(nights.use_case, settings, ArtifactStore(settings)).step("land", lost, reject_undelivered=True)
    nights.step("record_failure", lost, stage="ingest", run_id="run-7", failed_tasks=["land"])
    ingest(nights, [third])
    nights.materialize(third)
    assert list(catch_up(nights, third).run_again) == [lost]
    ingest(nights, [lost])
    assert catch_up(nights, lost).outdated == {third: (lost,)}


# Deliveries in several files


def test_delivery_without_its_end_mark_is_not_read(nights: Nights) -> None:
    feeds = tuple(
        dataclasses.replace(feed, end_mark="_SUCCESS") if feed.name == "returns" else feed
        for feed in nights.use_case.feeds
    )
    nights = Nights(dataclasses.replace(nights.use_case, feeds=feeds), nights.settings, nights.store)
    day = DAYS[0]
    nights.deliver([day])
    whole = nights.store.get(RETURNS.format(day, "returns.csv")) or b""
    header, *lines = whole.splitlines(keepends=True)
    nights.store.put(RETURNS.format(day, "returns.csv"), b"".join([header, *lines[:20]]))
    with raises_code(PartitionNotReady, "NS-LAND-051", "_SUCCESS", day):
        nights.step("land", day)
    assert nights.store.decision(nights.use_case.name, "publish", day) is None
    nights.store.put(RETURNS.format(day, "part-2.csv"), b"".join([header, *lines[20:]]))
    nights.store.put(RETURNS.format(day, "_SUCCESS"), b"")
    assert nights.store.read_table(nights.step("land", day), "returns.parquet").num_rows == len(lines)
    other = DAYS[1]
    nights.deliver([other])
    with raises_code(DataContractError, "NS-LAND-020", "_SUCCESS"):
        nights.step("land", other, reject_undelivered=True)


def test_delivery_that_is_still_written_is_not_read(nights: Nights) -> None:
    settled = nights.settings.model_copy(update={"settle_seconds": 3})
    nights = Nights(nights.use_case, settled, nights.store)
    nights.deliver([DAYS[0]])
    with raises_code(PartitionNotReady, "NS-LAND-052", DAYS[0]):
        nights.step("land", DAYS[0])
    deadline = nights.store.clock() + timedelta(seconds=4)
    while nights.store.clock() < deadline:
        pass
    nights.step("land", DAYS[0])
    nights.deliver([DAYS[1]])
    nights.step("land", DAYS[1], reject_undelivered=True)


def test_training_rows_of_a_partition_that_is_rejected_later_are_withdrawn(nights: Nights) -> None:
    days = DAYS[:2]
    nights.deliver(days)
    for day in days:
        nights.ingest(day)
        nights.materialize(day)
        nights.append(day)
    assert nights.store.current(nights.use_case.name, "append_training_rows", days[1]).rows
    nights.deliver(days[1:], lambda feed, body: body.replace(b",1\n", b",7\n"))
    with raises_code(DataContractError, "NS-CURATE-011"):
        nights.ingest(days[1])
    rows = nights.store.decision(nights.use_case.name, "append_training_rows", days[1])
    assert rows is not None
    assert (rows.status, "delivered no labels" in rows.reason) == ("rejected", True)
    nights.deliver(days[1:])
    nights.ingest(days[1])
    nights.append(days[1])
    assert nights.store.current(nights.use_case.name, "append_training_rows", days[1]).rows
