"""Newest label per row, and the rows held out for the gates."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.core.features.training_rows import newest_rows, with_split
from nightshift.errors import TerminalError
from support.errors import raises_code

FIRST = date(2013, 1, 1)


def spine(days: int) -> pa.Table:
    partitions = [FIRST + timedelta(days=n) for n in range(days) for _ in range(2)]
    return pa.table({"partition": pa.array(partitions, pa.date32()), "row": range(2 * days)})


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
