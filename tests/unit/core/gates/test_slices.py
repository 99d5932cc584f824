"""Metrics by slice, their intervals by days, and the worst slice."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.arrays import Floats
from nightshift.core.evaluation import area_under_curve, log_loss
from nightshift.core.gates.slices import slice_metrics, worst_slice
from nightshift.declare.policies import SlicePolicy
from nightshift.errors import ConfigurationError
from support.errors import raises_code

POLICY = SlicePolicy(columns=("carrier",), least_rows=100, margin_log_loss=0.03)
DAYS, ROWS_A_DAY = 14, 300
CARRIERS = ("AA", "BB", "ZZ", "rare", None)


def _rows(seed: int = 0, day_effect: float = 0.0) -> tuple[pa.Table, np.ndarray, Floats, np.ndarray]:
    """Table, labels, the true probabilities and days; `day_effect` moves all log odds of a day together."""
    rng = np.random.default_rng(seed)
    rows = DAYS * ROWS_A_DAY
    day = np.repeat(np.arange(DAYS), ROWS_A_DAY)
    carrier = rng.choice(np.array(CARRIERS, dtype=object), rows, p=[0.4, 0.3, 0.19, 0.01, 0.1])
    odds = rng.normal(-0.5, 1.0, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-odds - day_effect * rng.normal(size=DAYS)[day]))).astype(np.int64)
    days = np.array([date(2020, 1, 1) + timedelta(days=int(d)) for d in day], "datetime64[D]")
    return pa.table({"carrier": pa.array(carrier, pa.string())}), labels, 1 / (1 + np.exp(-odds)), days


TABLE, LABELS, SCORES, BY_DAY = _rows()


def _in(value: str | None) -> np.ndarray:
    return np.array([carrier == value for carrier in TABLE["carrier"].to_pylist()])


def test_each_value_is_a_slice_with_its_own_metrics() -> None:
    slices = slice_metrics(TABLE, LABELS, SCORES, POLICY, BY_DAY)
    assert [one.value for one in slices] == ["(missing)", "AA", "BB", "ZZ", "rare"]
    assert sum(one.rows for one in slices) == TABLE.num_rows
    zz = next(one for one in slices if one.value == "ZZ")
    members = _in("ZZ")
    assert zz.log_loss == pytest.approx(log_loss(LABELS[members], SCORES[members]))
    assert zz.auc == area_under_curve(LABELS[members], SCORES[members])
    assert zz.log_loss_low < zz.log_loss < zz.log_loss_high
    assert zz.column == "carrier"
    assert zz.verdict == "judged"
    assert all(np.isfinite([one.log_loss, one.log_loss_low, one.log_loss_high]).all() for one in slices)
    assert slices == slice_metrics(TABLE, LABELS, SCORES, POLICY, BY_DAY)


def test_small_slices_are_not_evaluated() -> None:
    slices = {one.value: one for one in slice_metrics(TABLE, LABELS, SCORES, POLICY, BY_DAY)}
    assert slices["rare"].verdict == "too small"
    assert {one.verdict for value, one in slices.items() if value != "rare"} == {"judged"}
    # Many rows of few days are no better.
    few = np.datetime64("2020-01-05") > BY_DAY
    few_days = slice_metrics(TABLE.filter(pa.array(few)), LABELS[few], SCORES[few], POLICY, BY_DAY[few])
    assert {one.verdict for one in few_days} == {"too small"}


def test_a_slice_of_one_class_on_one_day_has_no_auc_and_no_gaps() -> None:
    table = pa.table({"carrier": ["AA"] * 99 + ["ZZ"]})
    labels = np.array([0, 1] * 49 + [0, 0])
    days = np.arange(100) // 10
    found = slice_metrics(table, labels, np.full(100, 0.3), POLICY, days)
    assert found[1].value == "ZZ"
    assert found[1].auc is None
    assert all(np.isfinite([one.log_loss, one.log_loss_low, one.log_loss_high]).all() for one in found)


def test_intervals_are_by_days_not_by_rows() -> None:
    """Where all rows of a day go wrong together, there is less to know than there are rows."""

    def width(days: np.ndarray) -> float:
        one = slice_metrics(table, labels, scores, SlicePolicy(("all",)), days)[0]
        return one.log_loss_high - one.log_loss_low

    _, labels, scores, days = _rows(day_effect=2.0)
    table = pa.table({"all": ["yes"] * len(labels)})
    assert width(days) > 3 * width(np.arange(len(labels)) % 1000)


def test_worst_slice_is_an_evaluated_one() -> None:
    scores = np.where(_in("rare"), 1 - LABELS.astype(float), np.where(_in("BB"), 0.99, SCORES))
    slices = slice_metrics(TABLE, LABELS, scores, POLICY, BY_DAY)
    found = worst_slice(slices)
    assert found is not None
    assert (found.column, found.value) == ("carrier", "BB")
    assert worst_slice([one for one in slices if one.verdict == "too small"]) is None


def test_a_column_that_is_not_there_is_named() -> None:
    with raises_code(ConfigurationError, "NS-GATE-003", "moon_phase"):
        slice_metrics(TABLE, LABELS, SCORES, SlicePolicy(("moon_phase",)), BY_DAY)
