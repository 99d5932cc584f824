"""Charts as plain data: what charts.js draws, and the same numbers as a table for readers without it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from markupsafe import Markup

Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """One line: a value for each day. `colour`: number of the palette in app.css, from 0."""

    name: str
    values: Values
    colour: int
    dashed: bool = False
    points: bool = False
    stack: str | None = None


@dataclass(frozen=True)
class Band:
    """A range for each day."""

    name: str
    low: Values
    high: Values


@dataclass(frozen=True)
class Link:
    """Text with an address, in a table."""

    text: str
    address: str


@dataclass(frozen=True)
class Chart:
    """`spec` is what charts.js reads; `head` and `rows` are the table. `label` says in a sentence what is drawn."""

    label: str
    spec: Mapping[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    note: str = ""
    numbers_from: int = field(default=1)

    @property
    def json(self) -> Markup:
        """The specification for a <script type="application/json">: no text in it can end that element."""
        text = json.dumps({"label": self.label, **self.spec}, allow_nan=False, separators=(",", ":"))
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def by_day(
    label: str,
    days: Sequence[date | str],
    series: Sequence[Series],
    *,
    bands: Sequence[Band] = (),
    marks: Mapping[str, float] | None = None,
    links: Sequence[str] | None = None,
    kind: str = "lines",
    digits: int = 4,
    percent: bool = False,
    zero: bool = False,
    height: int = 260,
    note: str = "",
    day_name: str = "Day",
) -> Chart:
    """Lines or bars (`kind`) over days, the oldest first. `marks`: names and values of horizontal lines.

    `links`: an address for each day, for a click in the chart and in the table. `percent`: values are shares.
    """
    texts = [str(day) for day in days]
    spec = {
        "kind": kind,
        "days": texts,
        "series": [_without_none(one) for one in series],
        "bands": [{"name": one.name, "low": _rounded(one.low), "high": _rounded(one.high)} for one in bands],
        "marks": [{"name": name, "y": value} for name, value in (marks or {}).items()],
        "legend": len(series) + len(bands) > 1,
        "digits": digits,
        "percent": percent,
        "zero": zero,
        "height": height,
        "links": links,
    }
    shown = percentage if percent else (lambda value: fixed(value, digits))
    rows = []
    for at in reversed(range(len(texts))):
        ranges = [_range(band, at, shown) for band in bands]
        first: str | Link = Link(texts[at], links[at]) if links and links[at] else texts[at]
        rows.append([first, *(shown(one.values[at]) for one in series), *ranges])
    head = [day_name, *(one.name for one in series), *(one.name for one in bands)]
    return Chart(label, spec, head, rows, note)


def calibration_curve(label: str, bins: Iterable[tuple[float, float, int]], *, height: int = 300) -> Chart:
    """Share of positive labels against the mean score, a point per (mean score, share, rows)."""
    points = list(bins)
    most = max((max(score, share) for score, share, _ in points), default=1.0)
    spec = {
        "kind": "scatter",
        "x": "mean score",
        "least": 0,
        "most": min(1.0, round(most + 0.05, 1)),
        "percent": True,
        "digits": 1,
        "height": height,
        "legend": True,
        "series": [
            {
                "name": "published",
                "colour": 0,
                "points": [
                    {
                        "x": round(score, 4),
                        "y": round(share, 4),
                        "note": [f"score {percentage(score)}", f"positive {percentage(share)}", f"{rows:,} rows"],
                    }
                    for score, share, rows in points
                ],
            }
        ],
    }
    rows = [[percentage(score), percentage(share), f"{rows:,}"] for score, share, rows in points]
    return Chart(label, spec, ["Mean score", "Positive labels", "Rows"], rows, numbers_from=0)


def heat_map(
    label: str,
    rows: Sequence[str],
    days: Sequence[date],
    cells: Iterable[tuple[str, date, float, str]],
    *,
    links: Sequence[str],
    most: float,
    texts: tuple[str, str],
) -> Chart:
    """One cell per (row, day, value, note); values are clipped to +-`most`. `texts`: of the two ends of the scale.

    The table is left to the page: it has a cell per row and day.
    """
    row_at = {name: number for number, name in enumerate(rows)}
    day_at = {day: number for number, day in enumerate(days)}
    spec = {
        "kind": "heat",
        "rows": list(rows),
        "days": [str(day) for day in days],
        "cells": [
            [day_at[day], row_at[name], round(max(-most, min(most, value)), 3), note]
            # Drawn last, so that their outlines are whole.
            for name, day, value, note in sorted(cells, key=lambda cell: abs(cell[2]) > 1)
        ],
        "most": most,
        "lowText": texts[0],
        "highText": texts[1],
        "links": list(links),
        "height": 70 + 20 * max(len(rows), 3),
    }
    return Chart(label, spec, [], [])


def fixed(value: float | None, digits: int = 4) -> str:
    """The value with `digits` decimals and separators of thousands; "-" for None. No zero is negative."""
    return "-" if value is None else f"{round(value, digits) + 0.0:,.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """The value with its sign and `digits` decimals; "-" for None. No zero is negative."""
    return "-" if value is None else f"{round(value, digits) + 0.0:+,.{digits}f}"


def percentage(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; "-" for None."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _range(band: Band, at: int, shown: Any) -> str:
    low, high = band.low[at], band.high[at]
    return "-" if low is None or high is None else f"{shown(low)} to {shown(high)}"


def _rounded(values: Values) -> list[float | None]:
    return [None if value is None else round(value, 6) for value in values]


def _without_none(one: Series) -> dict[str, Any]:
    spec = {"name": one.name, "values": _rounded(one.values), "colour": one.colour, "stack": one.stack}
    return spec | {name: True for name in ("dashed", "points") if getattr(one, name)}
