"""Unreadable and extreme numbers in every numeric column of the flight feeds, each in a row of its own."""

from __future__ import annotations

import io
import itertools

import pandas as pd
import pytest

from flight_delay import replay
from flight_delay.feeds import FEEDS
from nightshift.declare.feeds import Feed
from support.landing import curate, read_landed

UNREADABLE = ("NaN", "inf", "-Infinity", "1e999", "9" * 400, "=1+1", "1,5", "1_0")
EXTREME = {
    "int64": ("9223372036854775807", "-9223372036854775808", "0", "-1"),
    "float64": ("1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "-0.0"),
}
NUMERIC = [feed for feed in FEEDS if any(column.type in EXTREME for column in feed.landed)]


def delivered(feed: Feed) -> pd.DataFrame:
    bodies = {name: body for name, _, file, body in replay.deliveries(replay.FIRST) if file == f"{name}.csv"}
    rows = pd.read_csv(io.BytesIO(bodies[feed.name]), dtype=str, keep_default_na=False)
    # Enough rows, so that most values of each column stay readable.
    return pd.concat([rows] * 10, ignore_index=True)


def spoilt(feed: Feed, cells: list[tuple[str, str]]) -> bytes:
    """The feed's rows, of which row n + 1 has the nth cell."""
    rows = delivered(feed)
    assert len(rows) > 3 * len(cells)
    for number, (column, value) in enumerate(cells):
        rows.loc[number, column] = value
    return rows.to_csv(index=False).encode()


@pytest.mark.parametrize("feed", NUMERIC, ids=lambda feed: feed.name)
def test_unreadable_cell_in_every_numeric_column_is_quarantined(feed: Feed) -> None:
    columns = [column for column in feed.landed if column.type in EXTREME]
    cells = [(column, value) for column, value in itertools.product(columns, UNREADABLE)]
    landed = read_landed(feed, f"{feed.name}.csv", spoilt(feed, [(column.name, value) for column, value in cells]))
    reasons = {row["landed_row"]: row["reasons"] for row in landed.quarantine.to_pylist()}
    assert reasons == {n: [f"{column.name} is not {column.type}"] for n, (column, _) in enumerate(cells, 1)}


@pytest.mark.parametrize("feed", NUMERIC, ids=lambda feed: feed.name)
def test_extreme_number_in_every_numeric_column_loses_no_row(feed: Feed) -> None:
    cells = [(column.name, value) for column in feed.landed for value in EXTREME.get(column.type, ())]
    landed = read_landed(feed, f"{feed.name}.csv", spoilt(feed, cells))
    assert landed.quarantine.num_rows == 0
    curated = curate(feed, landed.rows)
    curated.rows.to_pylist()
    assert landed.delivered == curated.rows.num_rows + curated.quarantine.num_rows + curated.exact_duplicates
