"""Great Expectations over one table: severities, reasons per row, parameters, and stable pages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_delay.use_case import USE_CASE
from nightshift.declare.feeds import Expectation, Feed
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import parquet_bytes
from nightshift.io.expectation_arguments import suite_parameters
from nightshift.io.expectations import Verdict, examine, render_data_docs
from support.errors import raises_code

PARTITION = date(2013, 2, 12)
CUTOFF = datetime(2013, 2, 13, 8, tzinfo=UTC)
TABLE = pa.table(
    {
        "day": pa.array([date(2013, 2, 12), date(2013, 2, 13), date(2013, 2, 14)]),
        "at": pa.array([CUTOFF.replace(hour=7), CUTOFF, None], pa.timestamp("us", tz="UTC")),
        "wind": pa.array([10.0, 1048.0, None]),
        "plane": pa.array(["N1", "N0", None]),
        "nothing": pa.array([None, None, None], pa.string()),
    }
)


def between(column: str, low: Any, high: Any, severity: str = "quarantine", **more: Any) -> Expectation:
    kwargs = {"column": column, "min_value": low, "max_value": high, **more}
    return Expectation("expect_column_values_to_be_between", kwargs, severity, f"{column} out of range")  # type: ignore[arg-type]


def file(table: pa.Table) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(parquet_bytes(table)))


def verdict(*expectations: Expectation, table: pa.Table = TABLE, planes: Sequence[str] = ("N1", "N2")) -> Verdict:
    feed = Feed("weather", (), (), Path("unused.sql"), (), tuple(expectations))
    parameter = suite_parameters(USE_CASE, PARTITION, lambda feed, column: pa.array(list(planes)))
    return examine(USE_CASE, feed, file(table), parameter)


def test_all_reasons_of_a_row_in_the_order_declared() -> None:
    regex = Expectation(
        "expect_column_values_to_match_regex", {"column": "plane", "regex": "^N[1-9]"}, "quarantine", "no plane"
    )
    found = verdict(regex, between("wind", 0, 120))
    assert found.reasons("quarantine") == {1: ["no plane", "wind out of range"]}
    assert found.reasons("warning") == {}
    assert found.breached("critical") == []


def test_missing_values_break_only_expectations_about_nulls() -> None:
    assert verdict(between("nothing", 0, 1)).reasons("quarantine") == {}
    null = Expectation("expect_column_values_to_not_be_null", {"column": "wind"}, "quarantine", "no wind")
    assert verdict(null).reasons("quarantine") == {2: ["no wind"]}


def test_critical_allows_what_it_says_it_allows() -> None:
    assert verdict(between("wind", 0, 120, "critical", mostly=0.5)).breached("critical") == []
    [finding] = verdict(between("wind", 0, 120, "critical", mostly=0.6)).breached("critical")
    assert str(finding) == (
        "column 'wind': wind out of range (expect_column_values_to_be_between: 1 of 3 rows, for example 1048.0)"
    )


def test_warnings_about_rows_and_about_the_table() -> None:
    rows = Expectation("expect_table_row_count_to_be_between", {"min_value": 69}, "warning", "hours are missing")
    found = verdict(rows, between("wind", 0, 120, "warning"))
    assert next(str(finding) for finding in found.breached("warning")) == (
        "hours are missing (expect_table_row_count_to_be_between: observed 3)"
    )
    assert found.reasons("warning") == {1: ["wind out of range"]}
    assert found.reasons("quarantine") == {}


@pytest.mark.parametrize("severity", ["critical", "warning"])
@pytest.mark.parametrize(
    ("name", "kwargs", "observed"),
    [
        ("expect_column_distinct_values_to_be_in_set", {"column": "plane", "value_set": ["N1"]},
         "1 values outside the set, for example N0"),
        ("expect_column_distinct_values_to_contain_set", {"column": "plane", "value_set": ["N1", "N2", "N3"]},
         "2 values of the set missing, for example N2, N3"),
        ("expect_column_distinct_values_to_equal_set", {"column": "plane", "value_set": ["N1", "N2"]},
         "1 values outside the set, for example N0, 1 values of the set missing, for example N2"),
        ("expect_column_max_to_be_between", {"column": "wind", "max_value": 120}, "observed 1048.0"),
        ("expect_column_unique_value_count_to_be_between", {"column": "plane", "min_value": 3}, "observed 2"),
        ("expect_column_most_common_value_to_be_in_set", {"column": "plane", "value_set": ["N2"]}, "observed "),
        ("expect_column_quantile_values_to_be_between",
         {"column": "wind", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}}, "observed "),
        ("expect_column_proportion_of_non_null_values_to_be_between", {"column": "wind", "min_value": 0.9},
         "observed 0.66"),
        ("expect_column_values_to_be_of_type", {"column": "wind", "type_": "int64"}, "observed float64"),
        ("expect_column_values_to_be_in_type_list", {"column": "wind", "type_list": ["int64"]}, "observed float64"),
        ("expect_column_to_exist", {"column": "sun"}, "observed "),
        ("expect_table_row_count_to_equal", {"value": 4}, "observed 3"),
        ("expect_table_column_count_to_equal", {"value": 4}, "observed 5"),
        ("expect_table_columns_to_match_set", {"column_set": ["day"]}, "observed "),
    ],
)  # fmt: skip
def test_failed_expectation_about_a_column_or_the_table_says_what_was_observed(
    severity: str, name: str, kwargs: dict[str, Any], observed: str
) -> None:
    found = verdict(Expectation(name, kwargs, severity, "not as declared"))  # type: ignore[arg-type]
    [finding] = found.breached(severity)  # type: ignore[arg-type]
    assert (finding.unexpected, len(finding.positions)) == (0, 0)
    assert finding.observed.startswith(observed)
    assert render_data_docs("weather", [found])


@pytest.mark.parametrize(
    ("expectation", "rows"),
    [
        (between("day", {"$PARAMETER": "partition"}, {"$PARAMETER": "next_day"}), {2}),
        (between("at", {"$PARAMETER": "previous_cutoff"}, {"$PARAMETER": "cutoff"}, strict_max=True), {1}),
        # The window of 13 February, New York: from 05:00 UTC on.
        (between("at", {"$PARAMETER": "window_start"}, {"$PARAMETER": "window_end"}), set()),
        (between("at", {"$PARAMETER": "window_end"}, None), {0, 1}),
    ],
)
def test_days_and_moments_of_the_partition(expectation: Expectation, rows: set[int]) -> None:
    assert set(verdict(expectation).reasons("quarantine")) == rows


def test_values_of_another_feed() -> None:
    known = Expectation(
        "expect_column_values_to_be_in_set",
        {"column": "plane", "value_set": {"$PARAMETER": "planes.tailnum"}},
        "warning",
        "unknown plane",
    )
    found = verdict(known)
    assert found.reasons("warning") == {1: ["unknown plane"]}
    # All planes of another table would drown the page.
    assert found.json["results"][0]["expectation_config"]["kwargs"]["value_set"] == ["values of planes.tailnum"]
    assert set(verdict(known, planes=["N7"]).reasons("warning")) == {0, 1}
    with raises_code(ConfigurationError, "NS-CURATE-005", "ships.hull"):
        verdict(dataclasses.replace(known, kwargs={"column": "plane", "value_set": {"$PARAMETER": "ships.hull"}}))


@pytest.mark.parametrize(
    ("expectation", "code"),
    [
        (Expectation("expect_the_unexpected", {}, "critical", "x"), "NS-CURATE-007"),
        (Expectation("expect_column_values_to_be_between", {"column": "wind"}, "critical", "x"), "NS-CURATE-007"),
        (between("gust", 0, 1), "NS-CURATE-008"),
        (Expectation("expect_table_row_count_to_be_between", {"min_value": 9}, "quarantine", "x"), "NS-CURATE-009"),
    ],
)
def test_wrong_declarations_are_named(expectation: Expectation, code: str) -> None:
    with raises_code(ConfigurationError, code, "weather", expectation.type):
        verdict(expectation)


def test_an_empty_table_can_be_examined() -> None:
    rows = Expectation("expect_table_row_count_to_be_between", {"min_value": 1}, "critical", "no rows")
    found = verdict(rows, between("wind", 0, 1), table=TABLE.slice(0, 0))
    assert [f.expectation.reason for f in found.breached("critical")] == ["no rows"]


def test_results_and_pages_are_the_same_every_time() -> None:
    expectations = (
        between("wind", 0, 120),
        between("day", {"$PARAMETER": "partition"}, {"$PARAMETER": "next_day"}, "warning"),
    )
    first, second = verdict(*expectations), verdict(*expectations)
    assert json.dumps(first.json, sort_keys=True) == json.dumps(second.json, sort_keys=True)
    pages = render_data_docs("Flights", [first])
    assert pages == render_data_docs("Flights", [second])
    assert set(pages) == {"index.html", "weather.html"}
    assert b"1048" in pages["weather.html"]
    assert [r["expectation_config"]["severity"] for r in first.json["results"]] == ["warning", "info"]


def test_a_snapshot_is_examined_again_only_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from nightshift.io import expectations

    asked: list[str] = []
    real = expectations._batch_definition
    monkeypatch.setattr(expectations, "_batch_definition", lambda name: asked.append(name) or real(name))
    feed = Feed("planes", (), (), Path("unused.sql"), (), (between("wind", 0, 120),), cadence="snapshot")
    parameter = suite_parameters(USE_CASE, PARTITION, lambda feed, column: pa.array([]))
    first, again = (examine(USE_CASE, feed, file(TABLE), parameter) for _ in range(2))
    assert len(asked) == 1
    assert again.reasons("quarantine") == first.reasons("quarantine") == {1: ["wind out of range"]}
    assert again.json == first.json
    assert again.html == first.html

    calm = TABLE.set_column(2, "wind", pa.array([10.0, 10.0, None]))
    assert examine(USE_CASE, feed, file(calm), parameter).reasons("quarantine") == {}
    stricter = dataclasses.replace(feed, expectations=(between("wind", 0, 5),))
    assert list(examine(USE_CASE, stricter, file(calm), parameter).reasons("quarantine")) == [0, 1]
    assert len(asked) == 3
