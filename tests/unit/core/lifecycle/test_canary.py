"""Which rows a canary answers."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.lifecycle.canary import canary_bucket, canary_rows, key_texts

KEY = ("flight_date", "carrier", "flight", "origin")


def flights(days: int = 5) -> pa.Table:
    rows = [
        (date(2013, 6, 1 + day), carrier, flight, origin)
        for day in range(days)
        for carrier in ("UA", "B6", "EV", "DL")
        for flight in range(1, 260)
        for origin in ("EWR", "JFK", "LGA")
    ]
    return pa.table(dict(zip(KEY, map(list, zip(*rows, strict=True)), strict=True)))


@pytest.mark.parametrize(
    ("key", "bucket"),
    [
        # printf %s '<key>' | sha256sum, its first 16 hex digits over 2**64
        ("", 0xE3B0C44298FC1C14 / 2**64),
        ("2013-06-01|UA|1545|EWR", 0xDA8C099A4BD9DA74 / 2**64),
    ],
)
def test_known_buckets(key: str, bucket: float) -> None:
    assert canary_bucket(key) == pytest.approx(bucket, abs=1e-15)


def test_no_bucket_reaches_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Highest:
        @staticmethod
        def digest() -> bytes:
            return b"\xff" * 32

    monkeypatch.setattr("nightshift.core.lifecycle.canary.hashlib.sha256", lambda _: Highest)
    assert canary_bucket("any") < 1.0


def test_the_text_of_a_key_is_its_values_in_order() -> None:
    table = pa.table(
        {
            "flight": [1545],
            "flight_date": pa.array([date(2013, 6, 1)], pa.date32()),
            "at": pa.array([datetime(2013, 6, 1, 4, 30, tzinfo=UTC)], pa.timestamp("us", tz="UTC")),
        }
    )
    assert key_texts(table, ("flight_date", "flight", "at")) == ["2013-06-01|1545|2013-06-01 04:30:00+00:00"]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_canary_share_is_near_the_declared_one(share: float) -> None:
    table = flights()
    chosen = canary_rows(table, KEY, share)
    deviation = np.sqrt(share * (1 - share) / table.num_rows)
    assert abs(chosen.mean() - share) < 4 * deviation
    for column in ("flight_date", "carrier"):
        values = np.array(table[column].to_pylist())
        for value in np.unique(values):
            part = chosen[values == value]
            assert abs(part.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(part))


def test_a_key_falls_alike_whatever_else_the_night_holds() -> None:
    table = flights(2)
    chosen = dict(zip(key_texts(table, KEY), canary_rows(table, KEY, 0.1), strict=True))
    order = list(range(table.num_rows))
    random.Random(1).shuffle(order)
    some = table.take(order[:500])
    assert [chosen[text] for text in key_texts(some, KEY)] == canary_rows(some, KEY, 0.1).tolist()


def test_a_larger_share_keeps_who_was_chosen() -> None:
    table = flights(1)
    small, large = canary_rows(table, KEY, 0.1), canary_rows(table, KEY, 0.3)
    assert (large | small).tolist() == large.tolist()


@pytest.mark.parametrize(("share", "everyone"), [(0.0, False), (1.0, True)])
def test_canary_share_of_none_and_all(share: float, everyone: bool) -> None:
    assert (canary_rows(flights(1), KEY, share) == everyone).all()
    assert len(canary_rows(flights(1).slice(0, 0), KEY, share)) == 0
