"""A table evaluated in batches: the same results, reasons and messages as evaluated whole, for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.row_conditions import Column, PassThroughCondition

from flight_delay.use_case import USE_CASE
from nightshift.core import parquet_file
from nightshift.declare.feeds import Expectation, Feed, Severity
from nightshift.io import expectations
from nightshift.io.artifact_store import parquet_bytes
from nightshift.io.expectation_arguments import suite_parameters
from nightshift.io.expectation_batches import _ABOUT_NAMES, _ROW_WISE, in_batches

PARTITION = date(2013, 2, 12)
DAYS = [date(2013, 2, 11 + n % 3) for n in range(10)]
TABLE = pa.table(
    {
        "day": pa.array([*DAYS, None]),
        "at": pa.array(
            [*(datetime(2013, 2, 13, n, tzinfo=UTC) for n in range(10)), None], pa.timestamp("us", tz="UTC")
        ),
        # Nulls in the last batch alone: pandas has whole numbers in the others, and floats in the whole table.
        "count": pa.array([1, 2, 3, 400, 5, 6, 7, 800, 9, 10, None]),
        "size": pa.array([1.5, None, 700.0, 4.0, 5.0, 700.0, 7.0, 8.0, None, 10.0, 11.0]),
        "flag": pa.array([True, False, True, True, False, True, True, True, True, None, None]),
        "code": pa.array(["N1", "n2", "N3", None, "x", "x", "N7", "", "N9", "x", "y"]),
        "same": pa.array(["N1", "N2", "N3", None, "x", "x", "N7", "", None, "x", "z"]),
        "json": pa.array(['{"a": 1}', '{"a": "b"}', "{", None, *["[]"] * 7]),
        "when": pa.array(["2013-02-11", "yesterday", None, *["2013-02-12"] * 8]),
        "none": pa.array([None] * 11, pa.string()),
    }
)
PARSEABLE = TABLE.set_column(7, "json", pa.array(['{"a": 1}', '{"a": "b"}', None, *["{}"] * 8]))
SCHEMA = {"properties": {"a": {"type": "integer"}}}
LARGEST = PassThroughCondition(pass_through_filter="count == count.max()")
QUANTILES = {"quantiles": [0.5], "value_ranges": [[0, 1]]}
ROW_WISE: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "size", "column_B": "count"}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "code", "column_B": "same", "mostly": 0.8}),
    ("expect_column_pair_values_to_be_equal",
     {"column_A": "code", "column_B": "same", "ignore_row_if": "either_value_is_missing"}),
    ("expect_column_pair_values_to_be_in_set",
     {"column_A": "code", "column_B": "same", "value_pairs_set": [["x", "x"], ["N1", "N1"]]}),
    ("expect_column_value_lengths_to_be_between", {"column": "code", "min_value": 2}),
    ("expect_column_value_lengths_to_equal", {"column": "code", "value": 2}),
    ("expect_column_values_to_be_between", {"column": "count", "max_value": 100}),
    ("expect_column_values_to_be_between", {"column": "count", "max_value": 100, "mostly": 0.8}),
    ("expect_column_values_to_be_between", {"column": "count", "max_value": 100, "mostly": 0.81}),
    ("expect_column_values_to_be_between", {"column": "size", "max_value": 100}),
    ("expect_column_values_to_be_between", {"column": "none", "max_value": 100}),
    ("expect_column_values_to_be_between",
     {"column": "day", "min_value": {"$PARAMETER": "partition"}, "max_value": {"$PARAMETER": "next_day"}}),
    ("expect_column_values_to_be_between", {"column": "at", "max_value": {"$PARAMETER": "cutoff"}}),
    ("expect_column_values_to_be_dateutil_parseable", {"column": "when"}),
    ("expect_column_values_to_be_in_set", {"column": "flag", "value_set": [True]}),
    ("expect_column_values_to_be_in_set", {"column": "count", "value_set": [1, 2, 3]}),
    ("expect_column_values_to_be_in_set", {"column": "code", "value_set": {"$PARAMETER": "planes.tailnum"}}),
    ("expect_column_values_to_be_in_type_list", {"column": "code", "type_list": ["int", "str"]}),
    ("expect_column_values_to_be_in_type_list", {"column": "count", "type_list": ["int64"]}),
    ("expect_column_values_to_be_json_parseable", {"column": "json"}),
    ("expect_column_values_to_be_null", {"column": "size", "mostly": 0.1}),
    ("expect_column_values_to_be_of_type", {"column": "flag", "type_": "int"}),
    ("expect_column_values_to_be_of_type", {"column": "count", "type_": "float64"}),
    ("expect_column_values_to_match_json_schema", {"column": "json", "json_schema": SCHEMA}),
    ("expect_column_values_to_match_regex", {"column": "code", "regex": "^N", "mostly": 0.4}),
    ("expect_column_values_to_match_regex_list", {"column": "code", "regex_list": ["^N", "^y"]}),
    ("expect_column_values_to_match_strftime_format", {"column": "when", "strftime_format": "%Y-%m-%d"}),
    ("expect_column_values_to_not_be_in_set", {"column": "code", "value_set": ["x"]}),
    ("expect_column_values_to_not_be_null", {"column": "count", "mostly": 0.95}),
    ("expect_column_values_to_not_match_regex", {"column": "code", "regex": "^N"}),
    ("expect_column_values_to_not_match_regex_list", {"column": "code", "regex_list": ["^N"]}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["count", "size"], "sum_total": 8}),
    ("expect_multicolumn_values_to_be_equal", {"column_list": ["code", "same"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["code", "same"]}),
]  # fmt: skip
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_to_exist", {"column": "code"}),
    ("expect_table_column_count_to_be_between", {"min_value": 20}),
    ("expect_table_column_count_to_equal", {"value": 9}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["day"]}),
    ("expect_table_columns_to_match_set", {"column_set": ["day"]}),
    ("expect_table_row_count_to_be_between", {"min_value": 12}),
    ("expect_table_row_count_to_equal", {"value": 11}),
    ("expect_column_values_to_be_unique", {"column": "code"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["code", "same"]}),
    ("expect_column_values_to_be_increasing", {"column": "count"}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "size", "threshold": 1, "double_sided": True}),
    ("expect_column_values_to_not_be_outliers", {"column": "count", "method": "iqr", "multiplier": 1.5}),
    ("expect_column_max_to_be_between", {"column": "count", "max_value": 100}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "code", "value_set": {"$PARAMETER": "planes.tailnum"}}),
    ("expect_column_unique_value_count_to_be_between", {"column": "code", "min_value": 20}),
    ("expect_column_quantile_values_to_be_between", {"column": "size", "quantile_ranges": QUANTILES}),
    ("expect_column_values_to_be_between",
     {"column": "count", "max_value": 5, "row_condition": Column("size") < 9}),
    ("expect_column_values_to_be_between",
     {"column": "count", "max_value": 5, "row_condition": LARGEST}),
]  # fmt: skip


def examined(table: pa.Table, kind: str, kwargs: Mapping[str, Any], severity: Severity) -> expectations.Verdict:
    feed = Feed("weather", (), (), Path("unused.sql"), (), (Expectation(kind, kwargs, severity, "not as declared"),))
    planes = pa.array(["N1", "N3", "x"])
    parameter = suite_parameters(USE_CASE, PARTITION, lambda feed, column: planes)
    return expectations.examine(USE_CASE, feed, pq.ParquetFile(pa.BufferReader(parquet_bytes(table))), parameter)


@pytest.mark.parametrize("rows", [11, 3, 0])
@pytest.mark.parametrize(("kind", "kwargs"), [*ROW_WISE, *WHOLE])
def test_batches_give_what_the_whole_table_gives(
    monkeypatch: pytest.MonkeyPatch, kind: str, kwargs: dict[str, Any], rows: int
) -> None:
    table = (PARSEABLE if "json_schema" in kwargs else TABLE).slice(0, rows)
    whole = examined(table, kind, kwargs, "warning")
    monkeypatch.setattr(parquet_file, "BATCH_ROWS", 2)
    batched = examined(table, kind, kwargs, "warning")
    assert batched.json == whole.json
    assert batched.html == whole.html
    assert batched.reasons("warning") == whole.reasons("warning")
    assert batched.rows("warning") == whole.rows("warning") == len(whole.reasons("warning"))
    assert [str(one) for one in batched.findings] == [str(one) for one in whole.findings]


def test_every_expectation_that_is_evaluated_in_batches_is_compared() -> None:
    assert {kind for kind, _ in ROW_WISE} == _ROW_WISE
    assert {kind for kind, kwargs in WHOLE if in_batches(kind, kwargs)} == _ABOUT_NAMES


def test_an_expectation_about_rows_that_is_not_evaluated_in_batches_is_known() -> None:
    """One that a new version of Great Expectations brings shows up here: is it decided row by row?"""
    bases = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    classes = [one for one in vars(gxe).values() if isinstance(one, type) and issubclass(one, bases)]
    assert {one.expectation_type for one in classes} - _ROW_WISE - {""} == {
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_not_be_outliers",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_compound_columns_to_be_unique",
    }


def test_reasons_of_some_rows() -> None:
    verdict = examined(TABLE, "expect_column_values_to_be_between", {"column": "count", "max_value": 3}, "quarantine")
    assert list(verdict.reasons("quarantine")) == [3, 4, 5, 6, 7, 8, 9]
    assert list(verdict.reasons("quarantine", 5, 8)) == [5, 6, 7]
