"""A hyperparameter search as one HTML page, readable without any server."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("search_report.html.j2")
TRIAL, BEST, INK, SOFT, GRID = "#7b8ca0", "#d9480f", "#1c2733", "#5a6b7d", "#dde3ea"


def render(found: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The page for one search.

    `found` is what `search_hyperparameters` commits as best.json, `trials` the rows of its
    trials.csv. Equal inputs give an equal page within one version of matplotlib.
    """
    sections = []
    for name, outcome in found["estimators"].items():
        own = [trial for trial in trials if trial["estimator"] == name]
        names = sorted({*outcome["in_use"], *outcome["best"]})
        sections.append(
            {
                "name": name,
                **outcome,
                "rows": [(key, _said(outcome["in_use"].get(key)), _said(outcome["best"].get(key))) for key in names],
                "pruned": sum(1 for trial in own if trial["state"] == "pruned"),
                "plot": _history(own, outcome["in_use_log_loss"]),
                "shares": sorted(outcome["importance"].items(), key=lambda item: -item[1]),
            }
        )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(found=found, sections=sections, title=title)


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _history(trials: Sequence[Mapping[str, Any]], in_use: float) -> str:
    """Mean log loss of each finished trial, the best so far, and that of the settings in use."""
    finished = [(number, trial["log_loss"]) for number, trial in enumerate(trials, 1) if trial["log_loss"] is not None]
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    numbers = [number for number, _ in finished]
    losses = [loss for _, loss in finished]
    best = [min(losses[: count + 1]) for count in range(len(losses))]
    axes.plot(numbers, losses, "o", color=TRIAL, markersize=4, label="a trial")
    axes.step(numbers, best, color=BEST, linewidth=1.5, where="post", label="best so far")
    axes.axhline(in_use, color=INK, linewidth=1, linestyle="--", label="settings in use")
    axes.set_xlabel("trial", color=SOFT, fontsize=9)
    axes.set_ylabel("mean log loss of the folds", color=SOFT, fontsize=9)
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(GRID)
    axes.legend(frameon=False, fontsize=9)
    sink = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nightshift", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = sink.getvalue()
    return text[text.index("<svg") :]
