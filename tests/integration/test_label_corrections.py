"""How much of the labels of the past one delivery may change: the way to poison a model has a declared limit."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from io import BytesIO

import pandas as pd
import pytest

from nightshift.declare.policies import CorrectionPolicy
from nightshift.declare.use_case import UseCase
from nightshift.errors import DataContractError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import partition_range
from nightshift.settings import Settings
from support.errors import raises_code
from support.nights import Nights

pytestmark = pytest.mark.filterwarnings("default")

FIRST, SECOND, THIRD, FOURTH = DAYS = partition_range(date(2020, 3, 1), date(2020, 3, 4))


@pytest.fixture
def nights(late_returns: UseCase, settings: Settings, store: ArtifactStore) -> Nights:
    """With two partitions ingested."""
    policy = CorrectionPolicy(largest_age_days=2, largest_changed_share=0.1, ordinary_changes=2)
    made = Nights(dataclasses.replace(late_returns, corrections=policy), settings, store)
    made.deliver(DAYS)
    for day in (FIRST, SECOND):
        made.ingest(day)
    return made


def correct(nights: Nights, partition: date, of: date, rows: int, *, flip: bool = True) -> None:
    """Deliver a partition's returns again, with those of some bookings of an earlier day."""
    earlier, own = (
        pd.read_csv(BytesIO(nights.store.get(f"landing/late_returns/returns/dt={day}/returns.csv") or b""))
        for day in (of, partition)
    )
    earlier = earlier.iloc[:rows].copy()
    if flip:
        earlier["returned_late"] = 1 - earlier["returned_late"]
    body = pd.concat([earlier, own]).to_csv(index=False).encode()
    nights.store.put(f"landing/late_returns/returns/dt={partition}/returns.csv", body)


@pytest.mark.parametrize(("rows", "flipped"), [(0, 0), (2, 2), (4, 4)], ids=["none", "ordinary", "share"])
def test_corrections_within_the_limit_are_counted(nights: Nights, rows: int, flipped: int) -> None:
    correct(nights, THIRD, SECOND, rows)
    counted = nights.store.manifest(nights.ingest(THIRD)).metrics["label_corrections"]
    assert counted == {"labels": 40 + rows, "repeated": rows, "flipped": flipped, "withdrawn": 0}


def test_labels_delivered_again_unchanged_are_no_corrections(nights: Nights) -> None:
    correct(nights, THIRD, SECOND, 40, flip=False)
    counted = nights.store.manifest(nights.ingest(THIRD)).metrics["label_corrections"]
    assert counted == {"labels": 80, "repeated": 40, "flipped": 0, "withdrawn": 0}


def test_too_many_changed_labels_reject_the_partition(nights: Nights) -> None:
    correct(nights, THIRD, SECOND, 5)
    with raises_code(DataContractError, "NS-NIGHT-004", "of 45 labels, 5 are", "10.0%"):
        nights.ingest(THIRD)
    decision = nights.store.decision("late_returns", "publish", THIRD)
    assert decision is not None
    assert (decision.status, decision.reason[:12]) == ("rejected", "NS-NIGHT-004")
    # Without them it is published.
    nights.deliver([THIRD])
    nights.ingest(THIRD)


def test_labels_of_long_ago_reject_the_partition(nights: Nights) -> None:
    nights.ingest(THIRD)
    correct(nights, FOURTH, FIRST, 40, flip=False)
    nights.ingest(FOURTH)
    nights.deliver([FOURTH])
    correct(nights, FOURTH, FIRST, 1)
    with raises_code(DataContractError, "NS-NIGHT-003", FIRST, FOURTH - timedelta(days=2)):
        nights.ingest(FOURTH)


def test_delivered_again_a_partition_is_compared_with_itself(nights: Nights) -> None:
    key = f"landing/late_returns/returns/dt={SECOND}/returns.csv"
    first = nights.store.get(key) or b""
    flipped = pd.read_csv(BytesIO(first))
    flipped["returned_late"] = 1 - flipped["returned_late"]
    nights.store.put(key, flipped.to_csv(index=False).encode())
    for _ in ("delivered again", "ingested again after it was rejected"):
        with raises_code(DataContractError, "NS-NIGHT-004", "of 40 labels, 40 are"):
            nights.ingest(SECOND)
    nights.store.put(key, first)
    counted = nights.store.manifest(nights.ingest(SECOND)).metrics["label_corrections"]
    assert counted["flipped"] == counted["withdrawn"] == 0


@pytest.mark.parametrize(("rows", "rejected"), [(37, False), (36, True)])
def test_labels_that_are_left_out_when_delivered_again_are_withdrawn(nights: Nights, rows: int, rejected: bool) -> None:
    key = f"landing/late_returns/returns/dt={SECOND}/returns.csv"
    fewer = pd.read_csv(BytesIO(nights.store.get(key) or b"")).iloc[:rows]
    nights.store.put(key, fewer.to_csv(index=False).encode())
    if rejected:
        with raises_code(DataContractError, "NS-NIGHT-004", "of 36 labels, 0 are", "4 are withdrawn"):
            nights.ingest(SECOND)
    else:
        nights.ingest(SECOND)
