"""The drift of one partition as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from nightshift.core.monitoring.drift import describe
from nightshift.core.monitoring.outcome_drift import SliceDay
from nightshift.documents.check_drift import ColumnDrift, Curve, Drift, DriftKind
from nightshift.reports.page import BLUE, GREY, INK, ORANGE, dates, percent, render_page, style, svg

COLUMNS_SHOWN = 15
MARK_PERCENT = 50.0

NAMES: dict[DriftKind, str] = {
    "data": "Deliveries and features",
    "prediction": "Scores",
    "label": "Outcomes",
    "concept": "Outcomes against scores",
    "skew": "Scoring against training",
}

STATISTICS = (
    ("rows", "n / (n + usual n): 0.5 is the usual number of rows, 0.33 half of it, 0.67 twice as many"),
    ("nulls", "share of null cells"),
    ("new", "share of texts that the reference does not have"),
    ("gone", "share of the reference's texts that do not occur"),
    ("shape", "share of values that would have to differ for the distribution to be the reference's"),
    ("commonest", "share of the most frequent value; 1 if a column is constant"),
    ("unseen", "share of numbers between the reference's smallest and largest that it does not have: another unit"),
    ("outside", "share of numbers beyond the reference's range by more than half of its width"),
    ("level", "probability that a number is larger than one of the reference; 0.5 without change"),
    ("spread", "0.5 without change, more if numbers are farther from the middle of the reference"),
    ("repeated", "share of days with the numbers of the day before"),
    ("rate", "share of positive labels"),
    ("residual, loss, ranking", "cumulative sums, in standard deviations, of label rate minus mean score, of log loss "
     "minus the loss that the scores promise, and of lost AUC"),
    ("skew", "share of rows that were scored with another value of a feature than training has for them: any is drift"),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One column in the table, with the width of its bar in percent."""

    kind: str
    drift: ColumnDrift
    width: float


def render(
    drift: Drift,
    *,
    outcomes: Sequence[SliceDay],
    label: str,
    title: str,
    sources: Sequence[tuple[str, str]],
) -> bytes:
    """The page for one comparison. Equal inputs give equal bytes within one version of matplotlib.

    `outcomes`: days with known labels, ascending.
    """
    groups = drift.groups
    rows = [
        Row(NAMES[kind], one, round(min(100.0, abs(one.excess) * MARK_PERCENT), 1))
        for kind, found in groups.items()
        for one in found.columns
    ]
    rows.sort(key=lambda row: (-abs(row.drift.excess), row.drift.name))
    drifted = [row.drift for row in rows if row.drift.drifted]
    page = {
        "title": title,
        "tones": {"drifted": "bad", "stable": "good", "not judged": ""},
        "headline": {"drifted": "Drifted", "stable": "Stable", "not judged": "Not judged"}[drift.verdict],
        "summary": _summary(drift, drifted),
        "cards": [(text, groups[name]) for name, text in NAMES.items() if name in groups],
        "rows": rows,
        "shown": max(COLUMNS_SHOWN, len(drifted)),
        "mark": MARK_PERCENT,
        "curves": _curves(drift.curves),
        "outcomes": _outcomes(outcomes, label),
        "statistics": STATISTICS,
        "sources": sources,
    }
    return render_page("drift.html.j2", drift=drift, page=page)


def _summary(drift: Drift, drifted: Sequence[ColumnDrift]) -> str:
    if drift.verdict == "not judged":
        return "There are too few earlier partitions to compare with."
    if not drifted:
        return "Every column is within what the partitions before it show."
    more = f", and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    return "; ".join(map(describe, drifted[:3])) + more + "."


def _curves(curves: Sequence[Curve]) -> str:
    if not curves:
        return "<p>No column was compared.</p>"
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure = Figure(figsize=(11, 2.7 * down), layout="constrained")
    for axes, curve in zip(figure.subplots(down, across, squeeze=False).flat, curves, strict=False):
        one = curve.drift
        axes.axhspan(one.low, one.high, color=GREY, alpha=0.18, linewidth=0)
        days = np.array(curve.days, "datetime64[D]")
        axes.plot(days, curve.values, color=GREY, linewidth=1.1)
        axes.plot(days[-1:], curve.values[-1:], "o", color=ORANGE if one.drifted else BLUE, markersize=6)
        window = "1 day" if one.days == 1 else f"{one.days} days"
        axes.set_title(one.column or one.source, fontsize=8.5, color=INK, loc="left", fontweight="bold")
        style(axes, y=f"{one.statistic}, {window}")
        dates(axes)
    for axes in list(figure.axes)[len(curves) :]:
        axes.set_axis_off()
    return svg(figure)


def _outcomes(days: Sequence[SliceDay], label: str) -> str:
    if not days:
        return "<p>No labels of published predictions are known yet.</p>"
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    axes = figure.subplots()
    at = np.array([one.partition for one in days], "datetime64[D]")
    rates = np.array([one.label_rate for one in days])
    axes.plot(at, rates, color=GREY, linewidth=1.3, marker="o", markersize=3, label=f"{label}, share")
    scores = rates - np.array([one.residual for one in days])
    axes.plot(at, scores, color=BLUE, linewidth=1.3, label="mean published score")
    axes.set_ylim(0, min(1.0, 1.3 * float(max(rates.max(), scores.max(), 0.05))))
    axes.legend(frameon=False, fontsize=9)
    style(axes)
    percent(axes.yaxis)
    dates(axes)
    return svg(figure)
