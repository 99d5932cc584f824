"""A backtest as one HTML page, readable without any server."""

from __future__ import annotations

import io
from pathlib import Path

import jinja2
import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from nightshift.documents import BacktestResult

COLOURS = ("#1c2733", "#7b8ca0", "#d9480f", "#0b62c4", "#1d7a46", "#8a5a00")
SOFT, GRID = "#5a6b7d", "#dde3ea"


def render(result: BacktestResult, title: str) -> bytes:
    """The page. Equal inputs give an equal page within one version of matplotlib."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    months = [
        {"month": first.month, "cells": [one.months[position] for one in result.series]}
        for position, first in enumerate(result.series[0].months)
    ]
    page = environment.get_template("backtest.html.j2")
    return page.render(result=result, months=months, plot=_curve(result), title=f"{title}: backtest").encode()


def _curve(result: BacktestResult) -> str:
    """Log loss by month, a line for each series; dashed for the frozen ones."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
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
    axes.set_ylabel("log loss", color=SOFT, fontsize=9)
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(GRID)
    axes.legend(frameon=False, fontsize=8, ncols=3)
    sink = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nightshift", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = sink.getvalue()
    return text[text.index("<svg") :]
