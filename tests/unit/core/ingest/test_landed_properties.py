"""Properties of reading: arbitrary bytes end in a code or are read; a table written as CSV or Parquet is read equal."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightshift.core.ingest.landed_table import landed_schema
from nightshift.declare.feeds import Column, Feed
from nightshift.errors import DataContractError
from support.landing import read_landed

FEED = Feed(
    name="tools",
    landed=(
        Column("id", "int64", nullable=False),
        Column("name", "string"),
        Column("weight", "float64"),
        Column("bought_on", "date"),
        Column("seen_at", "timestamp"),
        Column("lent", "bool"),
    ),
    curated=(),
    normalise=Path("unused.sql"),
    key=("id",),
    max_bytes=1_000_000,
)
NAMES = [column.name for column in FEED.landed]
HEADER = ",".join(NAMES).encode() + b"\n"

INSTANTS = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.integers(-15 * 60, 15 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
# Text that the feed does not read as a null.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(lambda text: text not in ("", "NA"))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(-(2**63), 2**63 - 1),
            "name": st.none() | TEXTS,
            "weight": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "bought_on": st.none() | st.dates(min_value=date(1, 1, 2)),
            "seen_at": st.none() | INSTANTS,
            "lent": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=8,
)


def check(uri: str, data: bytes) -> None:
    try:
        landed = read_landed(FEED, uri, data)
    except DataContractError:
        return
    assert landed.delivered == landed.rows.num_rows + landed.quarantine.num_rows
    assert landed.rows.schema == landed_schema(FEED.landed)
    for row in landed.rows.to_pylist():
        assert row["id"] is not None
        assert row["weight"] is None or math.isfinite(row["weight"])


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400), header=st.booleans())
@example(data=b"\x1f\x8b", header=False)
@example(data=b'"', header=True)
def test_any_bytes_are_read_or_rejected(data: bytes, header: bool) -> None:
    check("tools.csv", HEADER + data if header else data)


@settings(max_examples=200, deadline=None)
@given(cells=st.lists(st.text('0123456789+-:.TZ eE_",\n\r\0infaNA', max_size=24), min_size=6, max_size=18))
def test_any_cells_are_read_or_rejected(cells: list[str]) -> None:
    rows = [",".join(cells[at : at + 6]) for at in range(0, len(cells), 6)]
    check("tools.csv", HEADER + "\n".join([*rows, ""]).encode())


@settings(max_examples=200, deadline=None)
@given(rows=ROWS)
def test_valid_table_as_csv_is_read_equal(rows: list[dict[str, object]]) -> None:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(NAMES)
    writer.writerows([row[name] for name in NAMES] for row in rows)
    landed = read_landed(FEED, "tools.csv", sink.getvalue().encode())
    assert landed.quarantine.to_pylist() == []
    assert landed.rows.select(NAMES).to_pylist() == rows


@settings(max_examples=100, deadline=None)
@given(rows=ROWS)
def test_valid_table_as_parquet_is_read_equal(rows: list[dict[str, object]]) -> None:
    utc = [row | ({"seen_at": row["seen_at"].astimezone(UTC)} if row["seen_at"] else {}) for row in rows]  # type: ignore[attr-defined]
    landed = read_landed(FEED, "tools.parquet", parquet(utc))
    assert landed.rows.select(NAMES).to_pylist() == utc


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    schema = pa.schema([landed_schema(FEED.landed).field(name) for name in NAMES])
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()


WHOLE = parquet(
    [
        {
            "id": n,
            "name": "saw",
            "weight": 2.5,
            "bought_on": date(2020, 1, 1),
            "seen_at": datetime(2020, 1, 2, tzinfo=UTC),
        }
        for n in range(20)
    ]
)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), cut=st.integers(0, 40))
def test_parquet_with_other_bytes_is_read_or_rejected(at: int, byte: int, cut: int) -> None:
    check("tools.parquet", WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 + cut :])
