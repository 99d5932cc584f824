"""Reading one delivered file: what is read, what stops the partition, which rows are set aside."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.core.ingest.landed_table import landed_schema, reject_if_undelivered
from nightshift.declare.feeds import Column, Feed
from nightshift.errors import MalformedFile, SchemaChanged
from support.errors import raises_code
from support.landing import read_landed

URI = "s3://bucket/landing/shop/tools/dt=2020-01-01/tools.csv"
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
)
HEADER = "id,name,weight,bought_on,seen_at,lent"
ROW = "1,saw,2.5,2020-01-01,2020-01-02T03:04:05Z,true"
GOOD = f"{HEADER}\n{ROW}\n".encode()
VALUES = {
    "id": 1,
    "name": "saw",
    "weight": 2.5,
    "bought_on": date(2020, 1, 1),
    "seen_at": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    "lent": True,
}


def csv(*rows: str, header: str = HEADER) -> bytes:
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        b"lent,id,name,weight,bought_on,seen_at\ntrue,1,saw,2.5,2020-01-01,2020-01-02T03:04:05Z\n",
        csv('1.0,"saw",2.50,2020-01-01,2020-01-02 05:04:05+02:00,TRUE'),
    ],
    ids=["plain", "byte order mark", "windows lines", "other column order", "other spellings"],
)
def test_csv_is_read_by_name_and_type(data: bytes) -> None:
    landed = read_landed(FEED, URI, data)
    assert landed.rows.schema.equals(landed_schema(FEED.landed))
    assert landed.rows.to_pylist() == [VALUES | {"landed_uri": URI, "landed_row": 1}]
    assert (landed.delivered, landed.quarantine.num_rows) == (1, 0)


def test_quoted_cells_may_hold_delimiters_quotes_and_line_ends() -> None:
    landed = read_landed(FEED, URI, csv('1,"a, ""b""\nc",,,,', "2,NA,NA,NA,NA,NA"))
    assert landed.rows["name"].to_pylist() == ['a, "b"\nc', None]
    assert landed.rows["landed_row"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("data", "code", "named"),
    [
        (b"", "NS-LAND-006", "0 bytes"),
        (b"\n \n", "NS-LAND-006", "3 bytes"),
        (GOOD[:-1], "NS-LAND-007", "Z,true"),
        (GOOD[:-20] + b"\n", "NS-LAND-005", "5 of 6 cells"),
        (csv('1,"saw,2.5,2020-01-01,2020-01-02T03:04:05Z,true'), "NS-LAND-009", ""),
        (GOOD.replace(b",", b";"), "NS-LAND-010", "';' instead of ','"),
        (GOOD.replace(b",", b"\t"), "NS-LAND-010", r"'\t' instead of ','"),
        (csv(ROW, header="7,hammer,1,2020-01-01,2020-01-01T00:00:00Z,false"), "NS-LAND-011", "7,hammer"),
        (HEADER.encode() + b"\n1,s\xff,1,,,\n", "NS-LAND-008", "0xff"),
    ],
)
def test_malformed_csv_stops_the_partition(data: bytes, code: str, named: str) -> None:
    with raises_code(MalformedFile, code, URI, named):
        read_landed(FEED, URI, data)


@pytest.mark.parametrize(
    ("header", "row", "code", "named"),
    [
        ("id,name,weight,bought_on,lent", "1,saw,2.5,2020-01-01,true", "NS-LAND-018", ("'seen_at' is missing",)),
        (HEADER + ",color", ROW + ",red", "NS-LAND-018", ("'color' is not declared", "['red']")),
        (HEADER.replace("weight", "weight_kg"), ROW, "NS-LAND-018", ("'weight'", "renamed to 'weight_kg'", "['2.5']")),
        (HEADER.replace("weight", "mass"), ROW, "NS-LAND-018", ("'weight'", "renamed to 'mass'")),
        (HEADER.replace("name", "id"), ROW, "NS-LAND-012", ("['id']",)),
        (HEADER, ROW.replace("2.5", "heavy"), "NS-LAND-013", ("'weight'", "float64", "1 of 1", "['heavy']")),
        (HEADER, ROW.replace("Z,", ","), "NS-LAND-013", ("'seen_at'", "timestamp", "offset")),
        (HEADER, ROW.replace("1,saw", "1.5,saw"), "NS-LAND-013", ("'id'", "int64")),
    ],
)
def test_changed_schema_stops_the_partition(header: str, row: str, code: str, named: tuple[str, ...]) -> None:
    with raises_code(SchemaChanged, code, URI, *named):
        read_landed(FEED, URI, csv(row, header=header))


def test_bad_rows_are_quarantined_with_all_reasons() -> None:
    landed = read_landed(FEED, URI, csv("1,a,1,,,", "x,b,nan,,,", "3,c", "NA,d,4,,,", "5,e,inf,,,", "6,f,6,,,"))
    assert landed.rows["id"].to_pylist() == [1, 6]
    assert landed.rows["landed_row"].to_pylist() == [1, 6]
    assert landed.delivered == 6
    found = {row["landed_row"]: row for row in landed.quarantine.to_pylist()}
    assert {number: row["reasons"] for number, row in found.items()} == {
        2: ["id is not int64", "weight is not float64"],
        3: ["2 cells instead of 6"],
        4: ["id is missing"],
        5: ["weight is not float64"],
    }
    assert json.loads(found[2]["row"])["weight"] == "nan"
    assert json.loads(found[3]["row"]) == {"text": "3,c"}


def test_a_header_alone_is_no_delivery_of_a_daily_feed() -> None:
    landed = read_landed(FEED, URI, csv())
    assert landed.rows.num_rows == 0
    reject_if_undelivered(FEED, [landed, read_landed(FEED, URI, GOOD)], "s3://bucket/x/")
    with raises_code(MalformedFile, "NS-LAND-019", "s3://bucket/x/"):
        reject_if_undelivered(FEED, [landed], "s3://bucket/x/")


@given(cut=st.integers(0, len(GOOD) - 1))
def test_no_piece_of_a_file_passes_for_the_file(cut: int) -> None:
    """Except one cut at a line end, which looks whole: only the number of rows can tell."""
    piece = GOOD[:cut]
    if piece.endswith(b"\n"):
        assert read_landed(FEED, URI, piece).delivered == 0
    else:
        with pytest.raises(MalformedFile):
            read_landed(FEED, URI, piece)


def test_parquet_says_the_same_as_csv() -> None:
    table = read_landed(FEED, URI, GOOD).rows.select([column.name for column in FEED.landed])
    others = table.set_column(0, "id", table["id"].cast(pa.int16())).set_column(
        4, "seen_at", table["seen_at"].cast(pa.timestamp("ns", tz="Europe/Vienna"))
    )
    for delivered in (table, others):
        landed = read_landed(FEED, URI.replace(".csv", ".parquet"), parquet(delivered))
        assert landed.rows.drop_columns(["landed_uri"]).to_pylist() == [VALUES | {"landed_row": 1}]


def test_parquet_integers_with_gaps_may_be_floats() -> None:
    table = read_landed(FEED, URI, csv(ROW, ROW)).rows.drop_columns(["landed_uri", "landed_row"])
    gaps = parquet(table.set_column(0, "id", pa.array([1.0, None])))
    landed = read_landed(FEED, URI, gaps)
    assert landed.rows["id"].to_pylist() == [1]
    assert landed.quarantine["reasons"].to_pylist() == [["id is missing"]]
    with raises_code(SchemaChanged, "NS-LAND-017", "'id'", "double"):
        read_landed(FEED, URI, parquet(table.set_column(0, "id", pa.array([1.5, 2.0]))))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("weight", pa.array(["2.5"])),
        ("name", pa.array([7])),
        ("seen_at", pa.array([datetime(2020, 1, 2)])),  # noqa: DTZ001 - the fault
        ("bought_on", pa.array(["2020-01-01"])),
    ],
)
def test_parquet_of_another_type_stops_the_partition(name: str, values: pa.Array) -> None:
    table = read_landed(FEED, URI, GOOD).rows.drop_columns(["landed_uri", "landed_row"])
    changed = table.set_column(table.column_names.index(name), name, values)
    with raises_code(SchemaChanged, "NS-LAND-017", repr(name)):
        read_landed(FEED, URI, parquet(changed))


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (lambda b: b"", "NS-LAND-014"),
        (lambda b: b[:-8], "NS-LAND-015"),
        (lambda b: b[: len(b) // 2] + b"PAR1", "NS-LAND-016"),
    ],
)
def test_half_written_parquet_stops_the_partition(broken: object, code: str) -> None:
    table = read_landed(FEED, URI, GOOD).rows.drop_columns(["landed_uri", "landed_row"])
    uri = URI.replace(".csv", ".parquet")
    with raises_code(MalformedFile, code, "tools.parquet"):
        read_landed(FEED, uri, broken(parquet(table)))  # type: ignore[operator]
