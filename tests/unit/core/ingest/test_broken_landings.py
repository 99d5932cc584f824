"""Broken landings: each has a defined error code, or is quarantined with the reasons, or is read right.

A case is a name, the delivered bytes and what becomes of them: a code; `{row: reasons}` of the quarantined rows; or the
value that a column of the last row is read as. Of all others no row may be lost.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.declare.feeds import Column, Feed
from nightshift.errors import NightshiftError
from support.landing import CuratedRows, LandedRows, curate, read_landed

CSV, PARQUET = (f"s3://bucket/landing/shop/tools/dt=2020-01-01/tools.{suffix}" for suffix in ("csv", "parquet"))
COLUMNS = (
    Column("id", "int64", nullable=False),
    Column("name", "string"),
    Column("weight", "float64"),
    Column("bought_on", "date"),
    Column("seen_at", "timestamp"),
    Column("lent", "bool"),
)
HEADER = ",".join(column.name for column in COLUMNS)
ROW = {"name": "saw", "weight": "2.5", "bought_on": "2020-01-01", "seen_at": "2020-01-02T03:04:05Z", "lent": "true"}


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    (tmp_path / "tools.sql").write_text("SELECT * FROM landed", encoding="utf-8")
    return Feed("tools", landed=COLUMNS, curated=COLUMNS, normalise=tmp_path / "tools.sql", key=("id",))


def line(number: int, **cells: str) -> str:
    return ",".join((ROW | {"id": str(number)} | cells)[column.name] for column in COLUMNS)


def csv(*last: str, header: str = HEADER, end: str = "\n") -> bytes:
    """Rows 1 to 3 are good; then come others."""
    return "".join(f"{text}{end}" for text in (header, *(line(n) for n in (1, 2, 3)), *last)).encode()


def cell(**cells: str) -> bytes:
    """A file whose fourth row has other cells."""
    return csv(line(4, **cells))


def table(**columns: Any) -> pa.Table:
    """Four good rows, with other columns."""
    good = {
        "id": pa.array([1, 2, 3, 4]),
        "name": pa.array(["saw"] * 4),
        "weight": pa.array([2.5] * 4),
        "bought_on": pa.array([18262] * 4, pa.int32()).cast(pa.date32()),
        "seen_at": pa.array([datetime(2020, 1, 2, tzinfo=UTC)] * 4),
        "lent": pa.array([True] * 4),
    }
    return pa.table(good | columns)


def parquet(content: pa.Table | None = None, **columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table(**columns) if content is None else content, sink)
    return sink.getvalue()


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("tools.csv", data)
    return sink.getvalue()


def invalid_utf8() -> pa.Array:
    offsets = pa.py_buffer(np.array([0, 1, 2, 3, 5], np.int32))
    return pa.Array.from_buffers(pa.string(), 4, [None, offsets, pa.py_buffer(b"abc\xff\xfe")])


BAD = "{} is not {}"
ENCODED = {
    "empty": (b"", "NS-LAND-006"),
    "white space": (b" \r\n\t\n", "NS-LAND-006"),
    "NUL bytes": (b"\0" * 1000 + b"\n", "NS-LAND-011"),
    "BOM alone": (b"\xef\xbb\xbf\n", "NS-LAND-011"),
    "BOM": (b"\xef\xbb\xbf" + csv(), {}),
    "BOM twice": (b"\xef\xbb\xbf" * 2 + csv(), "NS-LAND-018"),
    "UTF-16 with BOM": (csv().decode().encode("utf-16"), "NS-LAND-112"),
    "UTF-16, big end first": (b"\xfe\xff" + csv().decode().encode("utf-16-be"), "NS-LAND-112"),
    "UTF-16 without BOM": (csv().decode().encode("utf-16-be"), "NS-LAND-011"),
    "Latin-1": (cell(name="Säge").decode().encode("latin-1"), "NS-LAND-008"),
    "invalid UTF-8": (csv() + b"4,\xc3\x28,,,,\n", "NS-LAND-008"),
    "surrogate": (csv() + b"4,\xed\xa0\x80,,,,\n", "NS-LAND-008"),
    "cut within a character": (cell(name="ä").split(b"\xa4")[0], "NS-LAND-007"),
    "gzip": (gzip.compress(csv()), "NS-LAND-112"),
    "truncated gzip": (gzip.compress(csv())[:40], "NS-LAND-112"),
    "bzip2": (bz2.compress(csv()), "NS-LAND-112"),
    "xz": (lzma.compress(csv()), "NS-LAND-112"),
    "zip": (zipped(csv()), "NS-LAND-112"),
    "pickle": (pickle.dumps({"id": [1]}), "NS-LAND-112"),
    "HTML": (b"<html><body>Error 502, sorry</body></html>\n", "NS-LAND-011"),
    "JSON": (b'[{"id": 1, "name": "saw"}]\n', "NS-LAND-011"),
}
LINES = {
    "CRLF": (csv(end="\r\n"), {}),
    "CR": (csv(end="\r"), {}),
    "mixed line ends": (csv(line(4)).replace(b"\n", b"\r\n", 2).replace(b"true\n", b"true\r", 1), {}),
    "blank lines": (csv().replace(b"\n", b"\n\n"), {}),
    "no last line end": (csv()[:-1], "NS-LAND-007"),
    "cut within a row": (csv("4,saw"), "NS-LAND-005"),
    "end of file mark of DOS": (csv("\x1a"), "NS-LAND-005"),
    "line separator in a cell": (cell(name="a\u2028b"), ("name", "a\u2028b")),
    "line end in a quoted cell": (cell(name='"a\nb"'), ("name", "a\nb")),
}
HEADERS = {
    "header only": (f"{HEADER}\n".encode(), {}),
    "no header": (csv().split(b"\n", 1)[1], "NS-LAND-011"),
    "header twice": (csv(HEADER), {4: ["id is not int64", *(BAD.format(c.name, c.type) for c in COLUMNS[2:])]}),
    "duplicate name": (csv(header=HEADER.replace("name", "id")), "NS-LAND-012"),
    "name in other letters": (csv(header=HEADER.upper()), "NS-LAND-011"),
    "one name in other letters": (csv(header=HEADER.replace("lent", "Lent")), "NS-LAND-018"),
    "name with a space": (csv(header=HEADER.replace("name", " name")), "NS-LAND-018"),
    "line end in a name": (csv(header=HEADER.replace("name", '"na\nme"')), "NS-LAND-018"),
    "empty name": (csv(header=f"{HEADER},").replace(b"true\n", b"true,\n"), "NS-LAND-018"),
    "3,000 more columns": (csv(header=f"{HEADER},{','.join(f'c{n}' for n in range(3000))}"), "NS-LAND-018"),
    "header of 200,000 characters": (csv(header=f"{HEADER},{'x' * 200_000}"), "NS-LAND-115"),
    "semicolons": (csv().replace(b",", b";"), "NS-LAND-010"),
    "tabs": (csv().replace(b",", b"\t"), "NS-LAND-010"),
    "pipes": (csv().replace(b",", b"|"), "NS-LAND-010"),
}
ROWS = {
    "one cell more": (csv(line(4) + ",1"), {4: ["7 cells instead of 6"]}),
    "one cell less": (csv("4,saw,2.5,2020-01-01,true", line(5)), {4: ["5 cells instead of 6"]}),
    "a trailing delimiter in each row": (csv().replace(b"true\n", b"true,\n"), "NS-LAND-114"),
    "columns shifted in one row": (
        csv("4,2020-01-01,saw,true,2.5,x"),
        {4: ["weight is not float64", "bought_on is not date", "seen_at is not timestamp", "lent is not bool"]},
    ),
    "columns shifted in each row": (csv().replace(b"saw,", b"").replace(b"true\n", b"true,saw\n"), "NS-LAND-013"),
    "two columns swapped": (csv(header="id,weight,name,bought_on,seen_at,lent"), "NS-LAND-013"),
    "key is missing": (csv(line(4, id="NA")), {4: ["id is missing"]}),
    "key twice": (csv(line(3, name="axe")), {3: ["another row with this key was delivered later"]}),
    "row twice": (csv(line(3)), {}),
    "ten times the rows": (csv(*[line(n) for n in (1, 2, 3)] * 9), {}),
}
CELLS = {
    "formula in text": (cell(name="=cmd|' /C calc'!A0"), ("name", "=cmd|' /C calc'!A0")),
    "formula in a number": (cell(weight="=1+1"), {4: ["weight is not float64"]}),
    "markup": (cell(name="<script>alert(1)</script>"), ("name", "<script>alert(1)</script>")),
    "two megabytes": (cell(name="x" * 2_000_000), ("name", "x" * 2_000_000)),
    "two megabytes in a number": (cell(weight="1" * 2_000_000), {4: ["weight is not float64"]}),
    "NUL in text": (cell(name="a\0b"), {4: ["name is not string"]}),
    "NUL in a number": (cell(weight="1\0"), {4: ["weight is not float64"]}),
    "doubled quotes": (cell(name='"a ""b"", c"'), ("name", 'a "b", c')),
    "quotes within": (cell(name='a "b" c'), ("name", 'a "b" c')),
    "quote not closed": (cell(name='"saw'), "NS-LAND-009"),
    "NaN": (cell(weight="NaN"), {4: ["weight is not float64"]}),
    "infinity": (cell(weight="-inf"), {4: ["weight is not float64"]}),
    "beyond double": (cell(weight="1e999"), {4: ["weight is not float64"]}),
    "beyond 64 bits": (cell(id="9" * 30), {4: ["id is not int64"]}),
    "fraction": (cell(id="4.5"), {4: ["id is not int64"]}),
    "thousands separator": (cell(weight='"1,000.5"'), {4: ["weight is not float64"]}),
    "thousands underscore": (cell(weight="1_000"), {4: ["weight is not float64"]}),
    "decimal comma": (cell(weight='"2,5"'), {4: ["weight is not float64"]}),
    "hexadecimal": (cell(weight="0x10"), {4: ["weight is not float64"]}),
    "digits of another script": (cell(id="\u0664"), {4: ["id is not int64"]}),
    "spaces around a number": (cell(weight=" 4.5 "), ("weight", 4.5)),
    "date, day first": (cell(bought_on="31.12.2020"), {4: ["bought_on is not date"]}),
    "date, month first": (cell(bought_on="12/31/2020"), {4: ["bought_on is not date"]}),
    "every date, day first": (csv().replace(b"2020-01-01", b"01.01.2020"), "NS-LAND-013"),
    "30 February": (cell(bought_on="2020-02-30"), {4: ["bought_on is not date"]}),
    "year 0": (cell(bought_on="0000-01-01"), {4: ["bought_on is not date"]}),
    "date as a timestamp": (cell(seen_at="2020-01-02"), {4: ["seen_at is not timestamp"]}),
    "timestamp without offset": (cell(seen_at="2020-01-02T03:04:05"), {4: ["seen_at is not timestamp"]}),
    "timestamp with slashes": (cell(seen_at="2020/01/02 03:04:05Z"), {4: ["seen_at is not timestamp"]}),
    "seconds since 1970": (cell(seen_at="1577934245"), {4: ["seen_at is not timestamp"]}),
    "offset of 99 hours": (cell(seen_at="2020-01-02 03:04:05+99:99"), {4: ["seen_at is not timestamp"]}),
    "leap second": (cell(seen_at="2016-12-31T23:59:60Z"), {4: ["seen_at is not timestamp"]}),
    "year 20000": (cell(seen_at="20000-01-01T00:00:00Z"), {4: ["seen_at is not timestamp"]}),
    "first of the two hours at the end of summer": (
        cell(seen_at="2020-11-01T01:30:00-04:00"), ("seen_at", datetime(2020, 11, 1, 5, 30, tzinfo=UTC))),
    "second of them": (
        cell(seen_at="2020-11-01T01:30:00-05:00"), ("seen_at", datetime(2020, 11, 1, 6, 30, tzinfo=UTC))),
}  # fmt: skip
COLUMNAR = {
    "empty Parquet": (b"", "NS-LAND-014"),
    "truncated Parquet": (parquet()[:-100], "NS-LAND-015"),
    "Parquet without its middle": (parquet()[:100] + parquet()[-100:], "NS-LAND-016"),
    "magic bytes alone": (b"PAR1" + b"\0" * 20 + b"PAR1", "NS-LAND-016"),
    "footer of four gigabytes": (b"PAR1" + b"\xff" * 8 + b"PAR1", "NS-LAND-016"),
    "encrypted footer": (b"PARE" + b"\0" * 20 + b"PARE", "NS-LAND-015"),
    "CSV as Parquet": (csv(), "NS-LAND-015"),
    "pickle as Parquet": (pickle.dumps({"id": [1]}), "NS-LAND-112"),
    "pickle within Parquet": (parquet(name=pa.array([pickle.dumps(1)] * 4)), "NS-LAND-017"),
    "no columns": (parquet(pa.table({})), "NS-LAND-018"),
    "no rows": (parquet(table().slice(0, 0)), {}),
    "name twice": (parquet(pa.table([pa.array([1])] * 2, ["id", "id"])), "NS-LAND-012"),
    "column more": (parquet(color=pa.array(["red"] * 4)), "NS-LAND-018"),
    "NaN in Parquet": (parquet(weight=pa.array([1.0, 1.0, 1.0, np.nan])), {4: ["weight is not float64"]}),
    "infinity in Parquet": (parquet(weight=pa.array([1.0, 1.0, 1.0, np.inf])), {4: ["weight is not float64"]}),
    "every value NaN": (parquet(weight=pa.array([np.nan] * 4)), "NS-LAND-013"),
    "NaN in integers": (parquet(id=pa.array([1.0, 2.0, 3.0, np.nan])), "NS-LAND-017"),
    "beyond 64 bits in Parquet": (parquet(id=pa.array([1, 2, 3, 2**64 - 1], pa.uint64())), "NS-LAND-017"),
    "invalid UTF-8 in Parquet": (parquet(name=invalid_utf8()), "NS-LAND-016"),
    "NUL in Parquet": (parquet(name=pa.array(["a", "b", "c", "d\0"])), {4: ["name is not string"]}),
    "list": (parquet(name=pa.array([["saw"]] * 4)), "NS-LAND-017"),
    "struct": (parquet(name=pa.array([{"a": 1}] * 4)), "NS-LAND-017"),
    "numbers as text": (parquet(weight=pa.array(["2.5"] * 4)), "NS-LAND-017"),
    "duration": (parquet(weight=pa.array([1] * 4, pa.duration("s"))), "NS-LAND-017"),
    "local timestamps": (parquet(seen_at=pa.array([0] * 4, pa.timestamp("us"))), "NS-LAND-017"),
    "nanoseconds": (
        parquet(seen_at=pa.array([1] * 4, pa.timestamp("ns", "UTC"))), ("seen_at", datetime(1970, 1, 1, tzinfo=UTC))),
    "milliseconds beyond 64 bits": (
        parquet(seen_at=pa.array([2**62] * 4, pa.timestamp("ms", "UTC"))), "NS-LAND-017"),
    "year 33658": (
        parquet(seen_at=pa.array([0, 0, 0, 10**18], pa.timestamp("us", "UTC"))), {4: ["seen_at is not timestamp"]}),
    "date in the year 275,759": (
        parquet(bought_on=pa.array([0, 0, 0, 10**8], pa.int32()).cast(pa.date32())), {4: ["bought_on is not date"]}),
    "decimals": (parquet(weight=pa.array(["1.5"] * 4).cast(pa.decimal128(5, 2))), ("weight", 1.5)),
    "dictionary": (parquet(name=pa.array(["saw"] * 4).dictionary_encode()), ("name", "saw")),
    "nulls without a type": (parquet(name=pa.array([None] * 4)), ("name", None)),
}  # fmt: skip
CASES = {
    **{name: (CSV, *case) for group in (ENCODED, LINES, HEADERS, ROWS, CELLS) for name, case in group.items()},
    **{name: (PARQUET, *case) for name, case in COLUMNAR.items()},
}


def both(feed: Feed, uri: str, data: bytes) -> tuple[LandedRows, CuratedRows]:
    """What `land` makes of a file; the values can be had in Python, as expectations and the warehouse need them."""
    landed = read_landed(feed, uri, data)
    curated = curate(feed, landed.rows)
    curated.rows.to_pylist()
    assert landed.delivered == (
        curated.rows.num_rows + landed.quarantine.num_rows + curated.quarantine.num_rows + curated.exact_duplicates
    )
    return landed, curated


@pytest.mark.parametrize("name", CASES)
def test_broken_landing_has_a_defined_end(name: str, feed: Feed) -> None:
    uri, data, expected = CASES[name]
    if isinstance(expected, str):
        with pytest.raises(NightshiftError) as caught:
            both(feed, uri, data)
        assert caught.value.code == expected, str(caught.value)
        assert uri in caught.value.message
        assert len(caught.value.message) < 2000
        return
    landed, curated = both(feed, uri, data)
    if isinstance(expected, dict):
        found = [*landed.quarantine.to_pylist(), *curated.quarantine.to_pylist()]
        assert {row["landed_row"]: sorted(row["reasons"]) for row in found} == {
            number: sorted(reasons) for number, reasons in expected.items()
        }
    else:
        column, value = expected
        assert landed.quarantine.num_rows == 0
        assert curated.rows[column].to_pylist()[-1] == value


def test_there_are_at_least_sixty() -> None:
    assert len(CASES) >= 60
