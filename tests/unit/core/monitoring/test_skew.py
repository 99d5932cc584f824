"""Training/serving skew: equal bit for bit, or named."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.monitoring.drift import describe
from nightshift.core.monitoring.skew import UsedFeatures, skew
from nightshift.documents.check_drift import GroupDrift

KEY = ("day", "flight")
DAY = date(2013, 4, 5)
SOURCES = {"wind": "weather", "carrier": "form"}
WIND = [1.0, 0.1 + 0.2, float("nan"), -3.5]


def rows(flights: list[int] | None = None, **columns: Any) -> pa.Table:
    flights = [1, 2, 3, 4] if flights is None else flights
    table = {"day": pa.array([DAY] * len(flights), pa.date32()), "flight": pa.array(flights, pa.int64())}
    return pa.table(table | ({"wind": WIND, "carrier": ["AA", None, "DL", "UA"]} | columns))


def verdict(served: pa.Table | None, *, republished: bool = False, trained: pa.Table | None = None) -> GroupDrift:
    part = UsedFeatures(DAY, rows() if trained is None else trained, served, republished)
    return skew([part], KEY, SOURCES, "nothing")


def test_equal_bits_are_stable_in_any_order_of_rows() -> None:
    found = verdict(rows().take([2, 0, 3, 1]))
    assert (found.verdict, len(found.columns)) == ("stable", 2)
    assert {(one.name, one.statistic, one.value) for one in found.columns} == {
        ("weather.wind", "skew", 0.0), ("form.carrier", "skew", 0.0)
    }  # fmt: skip
    assert "4 rows compared" in found.reason


@pytest.mark.parametrize(
    "wind",
    [
        [1.0, 0.3, np.nan, -3.5],  # the last bit
        [1.0, 0.1 + 0.2, 0.0, -3.5],
        [1.0, np.nan, np.nan, -3.5],
    ],
)
def test_a_number_that_differs_in_one_row_is_drift(wind: list[float]) -> None:
    found = verdict(rows(wind=wind))
    assert [one.name for one in found.drifted] == ["weather.wind"]
    assert found.drifted[0].value == 0.25
    assert describe(found.drifted[0]) in found.reason


def test_negative_zero_is_another_number() -> None:
    assert verdict(rows(wind=[0.0] * 4), trained=rows(wind=[-0.0] * 4)).drifted[0].value == 1.0


@pytest.mark.parametrize("carrier", [["AA", None, "DL", "US"], ["AA", "DL", "DL", "UA"], [None, None, "DL", "UA"]])
def test_a_text_that_differs_is_drift(carrier: list[str | None]) -> None:
    found = verdict(rows(carrier=carrier))
    assert [(one.name, one.value) for one in found.drifted] == [("form.carrier", 0.25)]


def test_missing_numbers_are_equal_however_they_are_written() -> None:
    for missing in (None, -float("nan")):
        assert verdict(rows(wind=pa.array([1.0, 0.1 + 0.2, missing, -3.5], pa.float64()))).verdict == "stable"


def test_types_are_those_of_training() -> None:
    trained = rows(wind=[1.0, 2.0, 3.0, 4.0])
    assert verdict(rows(wind=pa.array([1, 2, 3, 4], pa.int32())), trained=trained).verdict == "stable"


def test_rows_and_features_without_a_match_are_counted_and_not_compared() -> None:
    served = rows([3, 4, 5, 6], wind=[np.nan, -3.5, 9.0, 9.0], carrier=["DL", "UA", "x", "x"])
    found = verdict(served.append_column("gust", pa.array([0.0] * 4)))
    assert (found.verdict, len(found.columns)) == ("stable", 2)
    assert "2 rows compared" in found.reason
    assert "2 rows have no prediction" in found.reason
    assert len(verdict(rows().drop_columns(["wind"])).columns) == 1


def test_features_that_were_published_again_are_named_and_not_judged() -> None:
    found = verdict(rows(wind=[9.0, 9.0, 9.0, 9.0]), republished=True)
    assert (found.verdict, found.columns) == ("not judged", ())
    assert f"the features of {DAY} were published again" in found.reason
    assert "wind differ" in found.reason
    both = [UsedFeatures(DAY, rows(), rows(wind=[9.0] * 4), True), UsedFeatures(DAY, rows(), rows())]
    assert skew(both, KEY, SOURCES, "nothing").verdict == "stable"


def test_without_rows_there_is_no_verdict() -> None:
    assert skew([], KEY, SOURCES, "no training rows").reason == "no training rows"
    found = verdict(None)
    assert (found.verdict, found.reason) == ("not judged", "4 rows have no prediction")
    assert verdict(rows([7, 8, 9, 10])).verdict == "not judged"
