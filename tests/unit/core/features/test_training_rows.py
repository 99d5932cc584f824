"""Newest label per row, and the rows held out for the gates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flight_delay.use_case import USE_CASE
from nightshift.core.features.feature_computation import compute_spine
from nightshift.core.features.training_rows import newest_rows, with_split, without_withdrawn
from nightshift.errors import TerminalError
from support.errors import raises_code

FIRST = date(2013, 1, 1)


def spine(days: int) -> pa.Table:
    partitions = [FIRST + timedelta(days=n) for n in range(days) for _ in range(2)]
    return pa.table({"partition": pa.array(partitions, pa.date32()), "row": range(2 * days)})


def test_withdrawn_rows_are_left_out() -> None:
    delivered = [(1, 0, 1), (1, 1, None), (2, 0, 0), (2, 1, None), (2, 2, 1), (3, 0, 1)]  # flight, known on, label
    flights, known_on, labels = zip(*delivered, strict=True)
    rows = pa.table(
        {
            "partition": pa.array([FIRST] * len(flights), pa.date32()),
            "flight": flights,
            "known_on": pa.array([FIRST + timedelta(days=n) for n in known_on], pa.date32()),
            "label": labels,
        }
    )
    kept = without_withdrawn(rows, ["flight"], "label")
    assert list(zip(kept["flight"].to_pylist(), kept["label"].to_pylist(), strict=True)) == [(2, 1), (2, 0), (3, 1)]
    complete = rows.filter(pc.is_valid(rows["label"]))
    assert without_withdrawn(complete, ["flight"], "label") is complete


def test_flight_that_is_delivered_again_without_an_arrival_has_no_label() -> None:
    """Of the partition's own day it has none yet; of an earlier day it had one, which is withdrawn."""
    today = USE_CASE.first_partition + timedelta(days=3)
    flights = [
        (1, today, 20.0),
        (2, today, None),
        (3, today - timedelta(days=1), 2.0),
        (4, today - timedelta(days=1), None),
    ]
    numbers, days, delays = zip(*flights, strict=True)
    n = len(flights)
    table = pa.table(
        {
            "flight_date": pa.array(days, pa.date32()), "carrier": ["EV"] * n, "flight": numbers,
            "origin": ["EWR"] * n, "dest": ["BOS"] * n,
            "scheduled_departure_at": pa.array([datetime(2013, 1, 4, 12, tzinfo=UTC)] * n),
            "arrival_delay_minutes": pa.array(delays, pa.float64()),
            "status": ["cancelled" if delay is None else "arrived" for delay in delays],
            "landed_uri": ["a"] * n, "landed_row": list(range(n)), "delivered_on": pa.array([today] * n, pa.date32()),
        }
    )  # fmt: skip
    spine = compute_spine(USE_CASE, USE_CASE.training_spine, {"flights": table}, today)
    labels = dict(zip(spine["flight"].to_pylist(), spine["is_late"].to_pylist(), strict=True))
    assert labels == {1: 1, 3: 0, 4: None}


def test_newest_rows_are_what_was_known_last_by_a_partition() -> None:
    days = [FIRST + timedelta(days=n) for n in range(4)]
    delivered = [(1, 1, 1, 0), (0, 2, 1, 1), (0, 1, 1, 0), (0, 1, 3, 1)]  # partition, flight, known on, label
    columns = list(zip(*delivered, strict=True))
    rows = pa.table(
        {
            "partition": pa.array([days[n] for n in columns[0]], pa.date32()),
            "flight_date": pa.array([days[n] for n in columns[0]], pa.date32()),
            "flight": columns[1],
            "known_on": pa.array([days[n] for n in columns[2]], pa.date32()),
            "label": columns[3],
        }
    )

    def labels(as_of: date) -> list[tuple[date, int, int]]:
        kept = newest_rows(rows, ["flight_date", "flight"], as_of)
        return list(zip(*(kept[name].to_pylist() for name in ("partition", "flight", "label")), strict=True))

    assert labels(days[0]) == []
    assert labels(days[2]) == [(days[0], 1, 0), (days[0], 2, 1), (days[1], 1, 0)]
    assert labels(days[3]) == [(days[0], 1, 1), (days[0], 2, 1), (days[1], 1, 0)]


def test_the_newest_days_with_rows_are_held_out() -> None:
    kept = [FIRST + timedelta(days=n) for n in (0, 1, 2, 3, 7)]
    rows = spine(10).filter(pc.is_in(spine(10)["partition"], value_set=pa.array(kept, pa.date32())))
    split = with_split(rows, holdout_days=2, minimum_days=5)
    assert split["split"].to_pylist() == ["train"] * 6 + ["holdout"] * 4
    assert split["row"].to_pylist() == [0, 1, 2, 3, 4, 5, 6, 7, 14, 15]


@pytest.mark.parametrize(("days", "minimum_days"), [(4, 5), (2, 1), (0, 1)])
def test_too_few_days_are_an_error(days: int, minimum_days: int) -> None:
    with raises_code(TerminalError, "NS-TRAIN-001", f"{days} days"):
        with_split(spine(days), holdout_days=2, minimum_days=minimum_days)
