"""The drift of one partition as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from nightshift.core.monitoring.drift import Reference
from nightshift.documents.check_drift import ColumnDrift, Drift, DriftKind
from nightshift.reports.page import GREY, INK, ORANGE, percent, render_page, style, svg

COLUMNS_SHOWN = 15
PLOTTED = 6
MARK_PERCENT = 50.0
LONGEST_LABEL = 16

NAMES: dict[DriftKind, str] = {
    "data": "Features (data drift)",
    "prediction": "Scores (prediction drift)",
    "label": "Outcomes (label drift)",
}


@dataclass(frozen=True)
class Row:
    """One column in the table: `ratio` of its index to its threshold, sort order, width of its bar in percent."""

    drift: ColumnDrift
    ratio: float | None
    order: float
    width: float


def render(drift: Drift, reference: Reference, *, title: str, sources: Sequence[tuple[str, str]]) -> bytes:
    """The page for one comparison.

    `reference` is the training reference that the partition was compared with. Equal inputs give
    equal bytes within one version of matplotlib.
    """
    groups = drift.groups
    rows = sorted(map(_row, groups["data"].columns), key=lambda row: (-row.order, row.drift.column))
    drifted = [name for name in NAMES if groups[name].verdict == "drifted"]
    evaluated = [name for name in NAMES if groups[name].verdict != "not judged"]
    page = {
        "title": title,
        "reference_days": len(reference.days),
        "reference_first": reference.days[0].isoformat(),
        "reference_last": reference.days[-1].isoformat(),
        "tones": {"drifted": "bad", "stable": "good", "not judged": ""},
        "headline": {"drifted": "Drifted", "stable": "Stable", "not judged": "Not judged"}[drift.verdict],
        "summary": _summary(drifted, evaluated, rows),
        "cards": [(text, groups[name]) for name, text in NAMES.items()],
        "rows": rows,
        "shown": max(COLUMNS_SHOWN, sum(row.drift.exceeds for row in rows)),
        "mark": MARK_PERCENT,
        "histograms": _histograms(drift, reference, [row.drift.column for row in rows[:PLOTTED]]),
        "scores_and_labels": _scores_and_labels(drift, reference),
        "sources": sources,
    }
    return render_page("drift.html.j2", drift=drift, page=page)


def _row(column: ColumnDrift) -> Row:
    ratio = column.psi / column.threshold if column.threshold else None
    order = ratio if ratio is not None else column.psi
    return Row(column, ratio, order, round(min(100.0, order * MARK_PERCENT), 1))


def _summary(drifted: Sequence[DriftKind], evaluated: Sequence[DriftKind], rows: Sequence[Row]) -> str:
    if not evaluated:
        return "The reference has too few days, or the partition too few rows, for an evaluation."
    exceeding = [row.drift.column for row in rows if row.drift.exceeds]
    listed = f"{', '.join(exceeding[:5])}{' and more' if len(exceeding) > 5 else ''}"
    if not drifted:
        ordinary = "The partition is within the variation of the training days."
        return f"{ordinary} Beyond the threshold: {listed}; training days show that, too." if exceeding else ordinary
    what: dict[DriftKind, str] = {"data": "features", "prediction": "scores", "label": "outcomes"}
    moved = f"The {' and the '.join(what[name] for name in drifted)} have drifted more than the training days vary."
    return f"{moved} Features beyond their thresholds: {listed}." if exceeding else moved


def _histograms(drift: Drift, reference: Reference, names: Sequence[str]) -> str:
    if not names:
        return "<p>No features were compared.</p>"
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(11, 3.1 * down), layout="constrained")
    for axes, name in zip(figure.subplots(down, across, squeeze=False).flat, names, strict=False):
        _bars(axes, reference, name, drift.counts[name])
        axes.set_title(name, fontsize=10, color=INK, loc="left", fontweight="bold")
    for axes in list(figure.axes)[len(names) :]:
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return svg(figure)


def _bars(axes: Axes, reference: Reference, name: str, counts_now: Sequence[int]) -> None:
    """Plot the share of rows per bin; bins that are empty in both histograms are left out."""
    usual = reference.history(name).sum(axis=0)
    now = np.asarray(counts_now)
    filled = np.flatnonzero((usual > 0) | (now > 0))
    labels = [reference.bins[name].labels[i] for i in filled]
    at = np.arange(len(filled))
    for counts, offset, colour, legend in ((usual, -0.2, GREY, "reference"), (now, 0.2, ORANGE, "this partition")):
        axes.bar(at + offset, counts[filled] / max(counts.sum(), 1), 0.4, color=colour, label=legend)
    axes.set_xticks(at, [label if len(label) <= LONGEST_LABEL else f"{label[:LONGEST_LABEL]}…" for label in labels])
    axes.tick_params(axis="x", labelrotation=45 if len(at) > 3 else 0, labelsize=7.5)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right" if len(at) > 3 else "center")
        tick.set_rotation_mode("anchor")
    style(axes)
    percent(axes.yaxis)


def _scores_and_labels(drift: Drift, reference: Reference) -> str:
    score, label = drift.score, drift.label
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    if score in reference.bins and score in drift.counts:
        _bars(left, reference, score, drift.counts[score])
        left.legend(frameon=False, fontsize=9)
    left.set_title(f"{score}: share of rows", fontsize=10, color=INK, loc="left", fontweight="bold")
    if label in reference.bins:
        _label_rates(right, reference, label, drift)
    right.set_title(f"{label}: share per day", fontsize=10, color=INK, loc="left", fontweight="bold")
    for axes in (left, right):
        style(axes)
        percent(axes.yaxis)
    return svg(figure)


def _label_rates(axes: Axes, reference: Reference, label: str, drift: Drift) -> None:
    has_labels = reference.counts[label][:, :-1].sum(axis=1) > 0
    days = np.asarray(reference.days, "datetime64[D]")[has_labels]
    rates = label_rates(reference, label)
    axes.plot(days, rates, color=GREY, linewidth=1.3, label="reference")
    if drift.label_rate is not None:
        matured = np.datetime64(drift.label_day)
        axes.plot([matured], [drift.label_rate], "o", color=ORANGE, markersize=8, label=f"outcomes of {matured}")
    axes.set_ylim(0, min(1.0, 1.3 * max([*rates, drift.label_rate or 0.0, 0.05])))
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.legend(frameon=False, fontsize=9)


def label_rates(reference: Reference, label: str) -> list[float]:
    """Share of rows with label 1 on each day of the reference that has labels."""
    above = np.array([text == "1" for text in reference.bins[label].labels])
    history = reference.counts[label][:, :-1]
    labelled = history[history.sum(axis=1) > 0]
    rates: list[float] = (labelled[:, above[:-1]].sum(axis=1) / labelled.sum(axis=1)).tolist()
    return rates
