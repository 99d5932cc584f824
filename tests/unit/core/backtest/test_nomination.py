"""Gates between a backtest and shadow."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.backtest.nomination import backtest_gates, drawn_partition, passed, scrambled
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import PromotionPolicy, SlicePolicy
from nightshift.documents.backtest import BacktestMonth, BacktestResult, BacktestSeries, BacktestSlice, PairedDifference
from nightshift.reports.backtest_page import render
from nightshift.reports.backtest_text import lines

CHAMPION, FALLBACK, NEW = (ModelSpec(name=name, estimators=("xgboost",)) for name in ("old", "fallback", "new"))
END = date(2020, 6, 30)
POLICY, SLICES = PromotionPolicy(), SlicePolicy(columns=("carrier",))


def series(spec: ModelSpec, role: str, *, gap: float = 0.02, partitions: int = 60, **more) -> BacktestSeries:
    month = BacktestMonth(month="2020-05", rows=100, log_loss=0.5, auc=0.7, calibration_gap=gap)
    return BacktestSeries(
        role=role, spec_id=spec.spec_id, baseline="", spec=spec, partitions=partitions, rows=100, log_loss=0.5,
        brier=0.2, auc=0.7, worst_calibration_gap=gap, months=(month,), **more,
    )  # fmt: skip


def result(*, high: float | None = -0.001, slice_low: float | None = 0.0, last: date = END, **new) -> BacktestResult:
    paired = PairedDifference(mean=-0.005, low=None if high is None else -0.01, high=high)
    behind = (
        None if slice_low is None else PairedDifference(mean=slice_low + 0.01, low=slice_low, high=slice_low + 0.02)
    )
    part = BacktestSlice(column="carrier", value="AA", rows=50, log_loss=0.5, difference=behind)
    differences = {"champion": paired, "fallback": paired}
    return BacktestResult(
        partition=END + timedelta(days=1), first=last - timedelta(days=59), last=last, refit_every=7, block_days=7,
        confidence=0.9, champion=CHAMPION.spec_id, fallback=FALLBACK.spec_id,
        series=(
            series(CHAMPION, "champion"), series(FALLBACK, "fallback"),
            series(NEW, "challenger", differences=differences, slices=(part,), **new),
        ),
    )  # fmt: skip


def failed(found: BacktestResult) -> set[str]:
    gates = backtest_gates(found, NEW.spec_id, POLICY, SLICES)
    assert passed(gates) == (not any(gate.verdict == "fail" for gate in gates))
    return {gate.code for gate in gates if gate.verdict == "fail"}


def test_a_better_spec_passes() -> None:
    assert failed(result()) == set()


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"high": 0.001}, {"no_worse_than_champion.margin", "no_worse_than_fallback.margin"}),
        ({"high": None}, {"no_worse_than_champion.no_interval", "no_worse_than_fallback.no_interval"}),
        ({"gap": -0.031}, {"calibration_relative_to_champion.gap"}),
        ({"slice_low": 0.031}, {"slices_no_worse_than_champion.margin"}),
        ({"partitions": 59}, {"backtest_partitions.few"}),
        ({"last": END - timedelta(days=90)}, {"backtest_partitions.few"}),
    ],
)
def test_each_gate_fails_for_its_own_reason(change, codes) -> None:
    assert failed(result(**change)) == codes


def test_slices_too_small_to_judge_do_not_count() -> None:
    gates = {gate.gate: gate for gate in backtest_gates(result(slice_low=None), NEW.spec_id, POLICY, SLICES)}
    slices = gates["slices_no_worse_than_champion"]
    assert (slices.verdict, slices.code) == ("not applicable", "slices_no_worse_than_champion.few_rows")


def test_a_drawn_partition_is_the_same_each_time() -> None:
    days = [END - timedelta(days=n) for n in range(60)]
    assert drawn_partition(days, "a") == drawn_partition(days[::-1], "a")
    assert len({drawn_partition(days, str(n)) for n in range(50)}) > 20


def test_every_column_type_is_scrambled() -> None:
    def table(offset: int) -> pa.Table:
        numbers = np.arange(50) + offset
        return pa.table(
            {
                "text": pa.array([str(n) for n in numbers]),
                "count": pa.array(numbers),
                "amount": pa.array(numbers / 3),
                "flag": pa.array(numbers % 2 == offset % 2),
                "day": pa.array(numbers, pa.int32()).cast(pa.date32()),
                "at": pa.array(numbers, pa.int64()).cast(pa.timestamp("us", "UTC")),
                "delivered_on": pa.array([date(2020, 1, 1 + offset // 100)] * 50),
            }
        )

    known, later = table(0), table(100)
    changed = scrambled(later, known, ["delivered_on"], 1)
    assert changed.schema == later.schema
    assert changed["delivered_on"].equals(later["delivered_on"])
    for name in later.column_names[:-1]:
        assert not changed[name].equals(later[name])
        assert set(changed[name].to_pylist()) <= set(known[name].to_pylist())
    assert scrambled(later, known.slice(0, 0), [], 1).num_rows == 0


def test_a_backtest_is_shown_as_page_and_text() -> None:
    found = result()
    assert render(found, "Toys") == render(found, "Toys")
    page = render(found, "Toys").decode()
    assert NEW.spec_id in page
    assert "carrier AA" in page
    text = "\n".join(lines(found))
    assert "-0.0050 [-0.0100, -0.0010]" in text
    assert "2020-05" in text
    assert BacktestResult.from_bytes(found.to_files()["backtest.json"]) == found
