"""A backtest as one self-contained HTML page."""

from __future__ import annotations

from nightshift.documents.backtest import BacktestResult
from nightshift.reports.page import INK, new_axes, render_page, style, svg

COLOURS = (INK, "#7b8ca0", "#d9480f", "#0b62c4", "#1d7a46", "#8a5a00")


def render(result: BacktestResult, title: str) -> bytes:
    """The page as HTML bytes. Equal inputs give equal bytes within one version of matplotlib."""
    months = [
        {"month": first.month, "cells": [one.months[position] for one in result.series]}
        for position, first in enumerate(result.series[0].months)
    ]
    plot = _curve(result)
    return render_page("backtest.html.j2", result=result, months=months, plot=plot, title=f"{title}: backtest")


def _curve(result: BacktestResult) -> str:
    """Log loss by month, a line for each series; dashed for the frozen ones."""
    figure, axes = new_axes(9, 3.4)
    specs = list(dict.fromkeys(one.spec_id for one in result.series))
    for one in result.series:
        if one.baseline in ("", "frozen"):
            axes.plot(
                [month.month for month in one.months],
                [month.log_loss for month in one.months],
                marker="o",
                markersize=3,
                linewidth=1.4,
                linestyle="--" if one.baseline else "-",
                color=COLOURS[specs.index(one.spec_id) % len(COLOURS)],
                label=f"{one.spec.name} {one.baseline}".strip(),
            )
    style(axes, y="log loss")
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return svg(figure)
