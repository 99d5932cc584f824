"""Charts as data: what charts.js gets, and the same numbers as a table."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from nightshift.app.charts import Band, Link, Series, by_day, calibration_curve, fixed, heat_map, signed

DAYS = [date(2020, 3, 1) + timedelta(days=n) for n in range(3)]


def test_a_chart_has_its_numbers_as_a_table_newest_first() -> None:
    chart = by_day(
        "losses",
        DAYS,
        [Series("published", [0.5, None, 0.25], 0)],
        bands=[Band("range", [0.4, None, 0.2], [0.6, None, 0.3])],
        links=["/a", "/b", "/c"],
    )
    assert chart.head == ["Day", "published", "range"]
    assert chart.rows == [
        [Link("2020-03-03", "/c"), "0.2500", "0.2000 to 0.3000"],
        [Link("2020-03-02", "/b"), "-", "-"],
        [Link("2020-03-01", "/a"), "0.5000", "0.4000 to 0.6000"],
    ]
    spec = json.loads(chart.json)
    assert spec["days"] == ["2020-03-01", "2020-03-02", "2020-03-03"]
    assert spec["series"][0]["values"] == [0.5, None, 0.25]
    assert spec["legend"]


def test_no_text_can_end_the_element_that_holds_the_chart() -> None:
    hostile = "</script><script>alert(1)</script>&"
    chart = heat_map(
        hostile, [hostile], DAYS, [(hostile, DAYS[0], 9.0, hostile)], links=["/"], most=3, texts=("a", "b")
    )
    assert not set("<>&") & set(chart.json)
    spec = json.loads(chart.json)
    assert spec["rows"] == [hostile]
    assert spec["cells"] == [[0, 0, 3, hostile]]  # clipped


def test_json_has_no_number_that_javascript_cannot_read() -> None:
    chart = by_day("losses", DAYS, [Series("published", [0.5, float("nan"), 0.25], 0)])
    with pytest.raises(ValueError, match="Out of range"):
        assert chart.json


def test_a_calibration_curve_has_a_point_per_bin() -> None:
    chart = calibration_curve("calibration", [(0.1, 0.12, 40), (0.5, 0.4, 41)])
    assert chart.rows == [["10.0 %", "12.0 %", "40"], ["50.0 %", "40.0 %", "41"]]
    assert [(p["x"], p["y"]) for p in json.loads(chart.json)["series"][0]["points"]] == [(0.1, 0.12), (0.5, 0.4)]


def test_no_zero_is_negative() -> None:
    assert (fixed(-0.00001), signed(-0.0001), signed(0.0126), fixed(None)) == ("0.0000", "+0.000", "+0.013", "-")
