"""A search as one self-contained HTML page: the compared specs, the Pareto front, the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.ticker import FuncFormatter

from nightshift.declare.policies import CompressionBudget
from nightshift.documents.search import Candidates, ComparedSpec, Comparison, StudyOfEstimator, StudyResult
from nightshift.reports.page import BLUE, GREEN, GREY, INK, SOFT, new_axes, render_page, style, svg

PAGE, TABLE = "search.html", "search.csv"


def render(
    comparison: Comparison, candidates: Candidates, study: StudyResult, budget: CompressionBudget, *, title: str
) -> dict[str, bytes]:
    """The report as files: `search.html` and `search.csv`. Equal inputs give equal bytes."""
    failed = {one.spec.spec_id: one.failed for one in candidates.specs}
    rows = [_row(one, comparison, failed) for one in sorted(comparison.specs, key=_order)]
    page = {
        "title": title,
        "partition": candidates.partition,
        "comparison": comparison,
        "chosen": next(row for row in rows if row["spec_id"] == comparison.chosen),
        "budget": budget,
        "plot": _plot(comparison),
        "rows": rows,
        "study": study,
        "sections": [_section(name, one) for name, one in study.estimators.items()],
    }
    return {
        PAGE: render_page("search.html.j2", page=page),
        TABLE: pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n").encode(),
    }


def _order(one: ComparedSpec) -> tuple[bool, float, str]:
    return one.log_loss is None, one.log_loss or 0.0, one.spec.spec_id


def _row(one: ComparedSpec, comparison: Comparison, failed: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The table row of one spec; unknown numbers are None."""
    speed, native = one.rows_per_second, comparison.native
    low, high = one.interval or (None, None)
    return {
        "name": one.spec.name,
        "spec_id": one.spec.spec_id,
        "log_loss": one.log_loss,
        "difference": one.difference,
        "lower": low,
        "upper": high,
        "auc": one.auc,
        "bytes": one.bytes,
        "rows_per_second": speed,
        "times_faster": speed / native["native_rows_per_second"] if native and speed else None,
        "times_smaller": native["native_bytes"] / one.bytes if native and one.bytes else None,
        "contends": one.contends,
        "on_front": one.on_front,
        "chosen": one.spec.spec_id == comparison.chosen,
        "champion": one.spec.spec_id == comparison.baseline,
        "reason": one.reason,
        "failed": "; ".join(failed.get(one.spec.spec_id, ())),
        "verified": one.spec.spec_id in failed,
        "made": " + ".join(one.spec.estimators) + "".join(f" > {name}" for name in one.spec.compression),
    }


def _section(name: str, one: StudyOfEstimator) -> dict[str, object]:
    return {
        "name": name,
        "settings": [
            (key, _setting(one.in_use.get(key)), _setting(one.best.get(key)))
            for key in sorted({*one.in_use, *one.best})
        ],
        "study": one,
        "pruned": sum(loss is None for loss in one.trials),
        "plot": _history(one),
        "shares": sorted(one.importance.items(), key=lambda item: -item[1]),
    }


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plot(comparison: Comparison) -> str:
    """Log loss against rows per second, with the size of each model as the area of its mark."""
    shown = [one for one in comparison.specs if one.rows_per_second and one.bytes and one.difference is not None]
    if not shown:
        return "<p>No spec was measured.</p>"
    figure, axes = new_axes(11, 5.6)
    largest = max(one.bytes or 0 for one in shown)
    for one in sorted(shown, key=lambda one: -(one.bytes or 0)):
        colour = GREEN if one.spec.spec_id == comparison.chosen else BLUE if one.on_front else GREY
        x, y, (low, high) = one.rows_per_second or 0.0, one.difference or 0.0, one.interval or (0.0, 0.0)
        axes.plot([x, x], [low, high], color=colour, linewidth=1, alpha=0.6)
        axes.scatter([x], [y], s=30 + 900 * (one.bytes or 0) / largest, color=colour, alpha=0.75)
        axes.annotate(one.spec.name, (x, y), xytext=(6, 3), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.axhline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e6 else f"{x / 1e3:g} k"))
    style(axes, "rows per second of one core", "log loss, difference from the best", grid="both")
    return svg(figure)


def _history(one: StudyOfEstimator) -> str:
    """Mean log loss of each finished trial, the best so far, and that of the settings in use."""
    finished = [(number, loss) for number, loss in enumerate(one.trials, 1) if loss is not None]
    figure, axes = new_axes(9, 2.6)
    losses = [loss for _, loss in finished]
    axes.plot([number for number, _ in finished], losses, "o", color=GREY, markersize=4, label="a trial")
    best = [min(losses[: count + 1]) for count in range(len(losses))]
    axes.step([number for number, _ in finished], best, color=BLUE, where="post", label="best so far")
    axes.axhline(one.in_use_log_loss, color=INK, linewidth=1, linestyle="--", label="settings in use")
    axes.legend(frameon=False, fontsize=9)
    style(axes, "trial", "mean log loss of the folds", grid="both")
    return svg(figure)
