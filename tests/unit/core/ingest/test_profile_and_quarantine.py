"""Column profiles, and the one schema for rows set aside."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from nightshift.core.ingest.profile import profile_summary, profile_table
from nightshift.core.ingest.quarantine import QUARANTINE, gathered, reason_counts, set_aside, without_rows

TABLE = pa.table(
    {
        "size": pa.array([1.0, 2.0, None, 4.0]),
        "kind": pa.array(["saw", "axe", "saw", None]),
        "day": pa.array([date(2020, 1, 1)] * 4),
        "at": pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * 4, pa.timestamp("us", tz="UTC")),
        "landed_uri": pa.array(["b", "a", "a", "a"]),
        "landed_row": pa.array([1, 3, 2, 1]),
    }
)


def test_profile_of_numbers_and_of_everything_else() -> None:
    profile = profile_table(ds.dataset(TABLE))
    assert profile.rows == 4
    assert set(profile.columns) == {"size", "kind", "day", "at"}
    size, kind, at = (profile.columns[name] for name in ("size", "kind", "at"))
    assert (size.nulls, size.distinct, size.min, size.max) == (1, 3, 1.0, 4.0)
    assert size.mean == pytest.approx(7 / 3)
    assert (size.quantiles or {})["0.5"] == 2.0
    assert kind.top_values == (("saw", 2), ("axe", 1))
    assert at.min == "2020-01-01T00:00:00+00:00"
    json.dumps(profile.model_dump(mode="json"), allow_nan=False)


def test_profile_of_nothing() -> None:
    profile = profile_table(ds.dataset(TABLE.slice(0, 0)))
    assert profile.columns["size"].mean is None
    assert (profile.columns["size"].quantiles or {})["0.5"] is None
    assert profile_summary(profile) == {"rows": 0, "null_share": {}, "mean": {}}


def test_most_frequent_values_are_ordered_by_count_then_value() -> None:
    texts = ["b", "a", "\u00e9", "Z", "\U0001f600", "\uffff", "", None, "b", None, *"cdefghij"]
    flags = [True, False, None] * 6
    moments = [datetime(2020, 1, 1, 0, 0, 0, micro, tzinfo=UTC) for micro in [500_000, 0] * 9]
    at = pa.array(moments, pa.timestamp("us", tz="UTC"))
    table = pa.table({"text": texts, "flag": flags, "at": at, "none": pa.array([None] * 18, pa.string())})
    text, flag, at_, none = profile_table(ds.dataset(table)).columns.values()
    assert (text.nulls, text.distinct, text.min, text.max) == (2, 15, "", "\U0001f600")
    assert text.top_values == (("b", 2), ("", 1), ("Z", 1), ("a", 1), *((one, 1) for one in "cdefgh"))
    assert (flag.type, flag.min, flag.max, flag.top_values) == ("bool", False, True, ((False, 6), (True, 6)))
    half = "2020-01-01T00:00:00.500000+00:00"
    assert (at_.type, at_.max) == ("timestamp[us, tz=UTC]", half)
    assert at_.top_values == (("2020-01-01T00:00:00+00:00", 9), (half, 9))
    assert (none.nulls, none.distinct, none.min, none.max, none.top_values) == (18, 0, None, None, ())


def test_numbers_that_differ_in_bits_are_different() -> None:
    numbers = pa.table({"x": [0.0, -0.0, 1.0, None, 1.0], "i": pa.array([1, 1, None, 2, 3], pa.int32())})
    x, i = profile_table(ds.dataset(numbers)).columns.values()
    assert (x.distinct, i.distinct) == (3, 3)


def test_summary_keeps_what_is_missing_and_the_means() -> None:
    assert profile_summary(profile_table(ds.dataset(TABLE))) == {
        "rows": 4,
        "null_share": {"size": 0.25, "kind": 0.25},
        "mean": {"size": 2.3333},
    }


def test_rows_set_aside_keep_their_values_and_all_reasons() -> None:
    first = set_aside(TABLE.slice(0, 1), [["too small", "too old"]], step="validate")
    rest = set_aside(TABLE.slice(1), [["too small"]] * 3, step="land")
    together = gathered([first, rest])
    assert together.schema == QUARANTINE
    assert [(r["landed_uri"], r["landed_row"]) for r in together.to_pylist()] == [
        ("a", 1),
        ("a", 2),
        ("a", 3),
        ("b", 1),
    ]
    last = together.to_pylist()[-1]
    assert (last["step"], last["reasons"]) == ("validate", ["too small", "too old"])
    assert json.loads(last["row"])["size"] == 1.0
    assert reason_counts(together) == {"too old": 1, "too small": 4}


def test_nothing_gathered_is_an_empty_quarantine() -> None:
    assert gathered([]).schema == QUARANTINE
    assert reason_counts(gathered([])) == {}


def test_rows_are_removed_by_file_and_number() -> None:
    files = ["a.csv", "a.csv", "b.csv", "b.csv"]
    rows = pa.table({"landed_uri": files, "landed_row": [1, 2, 1, 2], "size": [1, 2, 3, 4]})
    removed = set_aside(rows.take(pa.array([1, 2])), [["too big"], ["too small"]], step="validate")
    assert without_rows(rows, removed)["size"].to_pylist() == [1, 4]
    assert without_rows(rows, removed.slice(0, 0)).equals(rows)
