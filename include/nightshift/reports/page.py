"""The frame and plot style of all pages: self-contained HTML with inline SVG plots."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import jinja2
import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

INK, SOFT, GRID = "#1c2733", "#5a6b7d", "#dde3ea"
ORANGE, GREY, BLUE, GREEN = "#d9480f", "#7b8ca0", "#1864ab", "#1d7a46"


def render_page(template: str, **context: Any) -> bytes:
    """The page of a template in this folder. Equal contexts give equal bytes within one version of matplotlib."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "fixed": fixed}
    return environment.get_template(template).render(**context).encode()


def number(value: float | None) -> str:
    """Four digits; thousands get separators and lose their decimals."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or (value == int(value) and abs(value) >= 10) else f"{value:.4g}"


def fixed(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """The value with `digits` decimals and separators of thousands; "-" for None."""
    return "-" if value is None else f"{value:{'+' if sign else ''},.{digits}f}"


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure (inches) with one plot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def style(axes: Axes, x: str = "", y: str = "", *, grid: Literal["x", "y", "both"] = "y") -> None:
    """Set axis labels, colours and a light grid."""
    axes.set_xlabel(x, color=SOFT, fontsize=9)
    axes.set_ylabel(y, color=SOFT, fontsize=9)
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(GRID)


def percent(axis: Axis) -> None:
    """Show the ticks of an axis of shares as percentages."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(matplotlib.ticker.PercentFormatter(xmax=1, decimals=0))


def dates(axes: Axes) -> None:
    """Show the ticks of the x axis as dates, few and short."""
    locator = AutoDateLocator(minticks=2, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def svg(figure: Figure) -> str:
    """The figure as an <svg> element; equal figures give equal text."""
    sink = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nightshift", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = sink.getvalue()
    return text[text.index("<svg") :]
