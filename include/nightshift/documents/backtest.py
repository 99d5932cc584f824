"""Documents of backtests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar, Literal

from pydantic import Field

from nightshift.artifact import Document, Value
from nightshift.declare.models import ModelSpec
from nightshift.deployment import GateResult
from nightshift.errors import ArtifactCorrupt


class PairedDifference(Value):
    """Mean log loss minus another's on the same rows, in nats; negative is better.

    `low` and `high` bound a two-sided interval; None if there are too few days for one.
    """

    mean: float
    low: float | None
    high: float | None


class BacktestMonth(Value):
    """One calendar month of predictions. `calibration_gap`: mean score minus share of positives."""

    month: str
    rows: int
    log_loss: float
    auc: float | None
    calibration_gap: float


class BacktestSlice(Value):
    """One slice compared with the champion; the interval holds for all slices at once. None: too few rows."""

    column: str
    value: str
    rows: int
    log_loss: float
    difference: PairedDifference | None


class BacktestSeries(Value):
    """Figures of one spec in a backtest. `differences`: from champion, fallback and its own frozen first version.

    `baseline` is empty, or `frozen` (the first version, never refitted nor calibrated), or `frozen_calibrated`.
    `graph_difference`: the largest difference of a score between the fitted pipeline and its ONNX graph.
    """

    role: Literal["champion", "fallback", "challenger"]
    spec_id: str
    baseline: str
    spec: ModelSpec
    partitions: int
    rows: int
    log_loss: float
    brier: float
    auc: float | None
    worst_calibration_gap: float
    months: tuple[BacktestMonth, ...]
    slices: tuple[BacktestSlice, ...] = ()
    differences: Mapping[str, PairedDifference] = Field(default_factory=dict)
    graph_difference: float | None = None


class BacktestResult(Document):
    """A walk-forward over the partitions first to last, with the labels known by `partition`."""

    FILE: ClassVar[str] = "backtest.json"

    partition: date
    first: date
    last: date
    refit_every: int
    block_days: int
    confidence: float
    champion: str
    fallback: str
    missing: Mapping[str, str] = Field(default_factory=dict)
    series: tuple[BacktestSeries, ...]

    def one(self, spec_id: str, baseline: str = "") -> BacktestSeries:
        """The series of a spec. Raises ArtifactCorrupt if there is none."""
        for series in self.series:
            if (series.spec_id, series.baseline) == (spec_id, baseline):
                return series
        raise ArtifactCorrupt(
            "NS-STORE-009", f"The backtest has no series {spec_id} {baseline}; run it again with that spec."
        )


class Nomination(Document):
    """The outcome of a backtest by spec id (shadow, backtest_failed or left: nothing recorded), why, and the gates."""

    FILE: ClassVar[str] = "nomination.json"

    partition: date
    outcomes: Mapping[str, str]
    why: Mapping[str, str]
    gates: Mapping[str, tuple[GateResult, ...]]
