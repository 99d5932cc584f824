"""The overview of a use case as one page: did the newest night work, can it be trusted, and what needs a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nightshift.core.monitoring.overview import Night, Overview
from nightshift.reports.page import BLUE, GREY, ORANGE, dates, render_page, style, svg

DRIFTS_SHOWN = 12


def render(overview: Overview, links: Mapping[str, Mapping[str, str]], nights_url: str) -> bytes:
    """The page of one use case. `links`: addresses of the reports by partition (ISO date), then by title."""
    nights = overview.nights
    behind = 0 if overview.delivered is None or not nights else max((overview.delivered - nights[0].partition).days, 0)
    page = {
        "title": overview.use_case.title,
        "headline": headline(overview),
        "tone": "good" if nights and not overview.problems and not behind else "bad" if nights else "",
        "newest": nights[0] if nights else None,
        "behind": behind,
        "curve": _losses(nights),
        "measured": _measured(nights),
        "drifts": overview.drifts[:DRIFTS_SHOWN],
        "more_drifts": max(len(overview.drifts) - DRIFTS_SHOWN, 0),
        "links": links,
        "nights_url": nights_url,
    }
    return render_page("overview.html.j2", overview=overview, page=page)


def headline(overview: Overview) -> str:
    """One sentence: whether the newest delivered partition is published, and how many problems there are."""
    if not overview.nights:
        return "Nothing has been published yet"
    newest = overview.nights[0].partition
    count = len(overview.problems)
    problems = f"{count or 'no'} problem{'' if count == 1 else 's'}"
    if overview.delivered is not None and newest < overview.delivered:
        return f"{overview.delivered} is delivered and not published; {problems}"
    return f"{newest} is published; {problems}"


def _measured(nights: Sequence[Night]) -> dict[str, float] | None:
    """Mean log loss of the nights with labels: published, promised by the scores, of the fallback."""
    known = [one for one in nights if one.log_loss is not None]
    if not known:
        return None
    weights = [one.rows for one in known]

    def mean(values: Sequence[float | None]) -> float:
        pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
        return float(np.average([v for v, _ in pairs], weights=[w for _, w in pairs])) if pairs else float("nan")

    return {
        "nights": float(len(known)),
        "published": mean([one.log_loss for one in known]),
        "promised": mean([one.expected_log_loss for one in known]),
        "fallback": mean([one.fallback_log_loss for one in known]),
    }


def _losses(nights: Sequence[Night]) -> str:
    known = sorted((one for one in nights if one.log_loss is not None), key=lambda one: one.prediction_date)
    if not known:
        return "<p>No labels of published predictions are known yet.</p>"
    figure = Figure(figsize=(11, 3), layout="constrained")
    axes = figure.subplots()
    days = np.array([one.prediction_date for one in known], "datetime64[D]")
    series = (
        ("published", ORANGE, [one.log_loss for one in known]),
        ("promised by the scores", BLUE, [one.expected_log_loss for one in known]),
        ("fallback", GREY, [one.fallback_log_loss for one in known]),
    )
    for label, colour, values in series:
        numbers = np.array(values, dtype=np.float64)
        axes.plot(days, numbers, color=colour, linewidth=1.4, marker="o", markersize=2.5, label=label)
    axes.legend(frameon=False, fontsize=9, ncols=3)
    style(axes, y="log loss of a day")
    dates(axes)
    return svg(figure)
