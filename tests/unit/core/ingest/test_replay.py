"""The producer: everything is delivered once, and nothing before it was known."""

from __future__ import annotations

import hashlib
import io
from datetime import date, timedelta

import pandas as pd

from flight_delay import replay
from flight_delay.feeds import FLIGHTS
from flight_delay.use_case import USE_CASE
from nightshift.errors import ConfigurationError
from nightshift.partitions import partition_range
from support.errors import raises_code
from support.landing import curate, read_landed

KEY = ["year", "month", "day", "carrier", "flight", "origin"]
JANUARY = partition_range(date(2013, 1, 1), date(2013, 1, 31))


def files(partition: date) -> dict[str, bytes]:
    return {name: body for _, _, name, body in replay.deliveries(partition)}


def table(body: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(body), na_values=["NA"], keep_default_na=False)


def test_every_flight_is_delivered_once_with_its_outcome() -> None:
    source = pd.read_csv(replay.data_folder() / "flights.csv.zip", na_values=["NA"], keep_default_na=False)
    source = source[(source["month"] == 1)]
    delivered = [
        table(body) for p in JANUARY for name, body in files(p).items() if name in ("flights.csv", "corrections.csv")
    ]
    # Those of the evening of the 31st follow in February's first delivery.
    delivered += [table(files(date(2013, 2, 1))["corrections.csv"])]
    together = pd.concat(delivered)
    pd.testing.assert_frame_equal(
        together.sort_values(KEY).reset_index(drop=True), source.sort_values(KEY).reset_index(drop=True)
    )


def test_nothing_is_delivered_before_it_was_known() -> None:
    for partition in [*JANUARY[:10], date(2013, 3, 9), date(2013, 3, 10), date(2013, 11, 2), date(2013, 11, 3)]:
        cutoff = pd.Timestamp(USE_CASE.cutoff(partition))
        before = pd.Timestamp(USE_CASE.cutoff(partition - timedelta(days=1)))
        delivered = files(partition)
        for name in {"flights.csv", "corrections.csv"} & set(delivered):
            rows = curate(FLIGHTS, read_landed(FLIGHTS, name, delivered[name]).rows).rows.to_pandas()
            arrived = rows["arrived_at"].dropna()
            assert (arrived < cutoff).all()
            if name == "corrections.csv":
                assert (rows["flight_date"] < partition).all()
                assert (arrived >= before).all()
            else:
                assert (rows["flight_date"] == partition).all()
        observed = pd.to_datetime(table(delivered["weather.csv"])["time_hour"])
        assert observed.max() < cutoff
        assert partition == replay.FIRST or observed.min() >= before


def test_one_percent_of_the_labels_comes_late() -> None:
    flights = corrections = 0
    for partition in JANUARY:
        delivered = files(partition)
        flights += len(table(delivered["flights.csv"]))
        corrections += len(table(delivered.get("corrections.csv", b"year\n")))
    assert 0.003 < corrections / flights < 0.02


def test_schedule_does_not_reveal_cancellations() -> None:
    schedule = table(files(date(2013, 2, 7))["schedule.csv"])
    assert set(schedule[["year", "month", "day"]].itertuples(index=False, name=None)) == {(2013, 2, 8)}
    assert list(schedule.columns) == list(replay.SCHEDULE_COLUMNS)
    # The blizzard of 8 February: half of what was planned never left, and all of it was planned.
    outcomes = table(files(date(2013, 2, 8))["flights.csv"])
    late = table(files(date(2013, 2, 9)).get("corrections.csv", b"year,month,day\n"))
    assert len(schedule) == len(outcomes) + (late["day"] == 8).sum() == 930
    assert outcomes["dep_time"].isna().sum() > 400


def test_snapshots_come_first_and_once() -> None:
    assert {"planes.csv", "airlines.csv"} <= set(files(replay.FIRST))
    assert not {"planes.csv", "airlines.csv"} & set(files(date(2013, 1, 2)))


def test_bytes_stay_the_same() -> None:
    digest = hashlib.sha256()
    for partition in partition_range(replay.FIRST, replay.LAST):
        for feed, dt, name, body in replay.deliveries(partition):
            assert dt == partition.isoformat()
            digest.update(f"{feed}/{dt}/{name}".encode() + body)
    assert digest.hexdigest() == "6252d5fdb326d968fd752021a69d8aaff96e155a48e49314f419759526db7822"


def test_other_days_cannot_be_replayed() -> None:
    with raises_code(ConfigurationError, "NS-USECASE-023", "2013-01-01 to 2013-12-30", "2014-01-01"):
        list(replay.deliveries(date(2014, 1, 1)))
