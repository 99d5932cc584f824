"""Data Docs show delivered values as text, and load nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_delay.use_case import USE_CASE
from nightshift.declare.feeds import Expectation, Feed
from nightshift.io.artifact_store import parquet_bytes
from nightshift.io.expectation_arguments import suite_parameters
from nightshift.io.expectations import examine, render_data_docs
from support.markup import HOSTILE, Markup

EXPECTATIONS = [
    ("expect_column_values_to_match_regex", {"regex": "^N[1-9]<i>"}),
    ("expect_column_values_to_be_in_set", {"value_set": ["N1", "<script>known()</script>"]}),
    ("expect_column_value_lengths_to_be_between", {"max_value": 2}),
    ("expect_column_most_common_value_to_be_in_set", {"value_set": ["N1"]}),
    ("expect_column_values_to_not_be_null", {}),
]


@pytest.mark.parametrize(("kind", "kwargs"), EXPECTATIONS, ids=[kind for kind, _ in EXPECTATIONS])
def test_values_never_become_markup(kind: str, kwargs: dict[str, object]) -> None:
    column = "plane<img src=x onerror=alert(1)>"
    expectation = Expectation(kind, {"column": column, **kwargs}, "warning", "<u>reason</u>")
    feed = Feed("weather", (), (), Path("unused.sql"), (), (expectation,))
    table = pa.table({column: [*HOSTILE, None]})
    parameter = suite_parameters(USE_CASE, date(2013, 2, 12), lambda feed, column: pa.array([]))
    verdict = examine(USE_CASE, feed, pq.ParquetFile(pa.BufferReader(parquet_bytes(table))), parameter)
    pages = render_data_docs("<script>title()</script>", [verdict])
    for page in (Markup(body.decode()) for body in pages.values()):
        assert page.active == []
        assert {one for one in page.addresses if not one.startswith("#")} <= {"index.html", "weather.html"}
        assert "form-action 'none'" in page.policies[0]
    text = Markup(pages["weather.html"].decode()).text
    assert "onerror=alert(1)" in text
    if "regex" in kind or "set" in kwargs:
        assert all(cell in text for cell in HOSTILE)
