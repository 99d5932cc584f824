"""The drift report's page."""

from __future__ import annotations

from datetime import date, timedelta
from html.parser import HTMLParser

import numpy as np
import pytest

from nightshift.core.monitoring.drift import group, overall_verdict
from nightshift.core.monitoring.outcome_drift import SliceDay
from nightshift.documents.check_drift import ColumnDrift, Curve, Drift
from nightshift.reports.drift import render

DAYS = [date(2013, 3, 1) + timedelta(days=i) for i in range(40)]
VALUES = tuple(np.linspace(0.4, 0.8, len(DAYS)).tolist())
OUTCOMES = [SliceDay(partition=day, rows=9, label_rate=0.2, residual=0.01, excess_loss=0.0, auc=0.7) for day in DAYS]


def column(name: str, excess: float, source: str = "weather") -> ColumnDrift:
    return ColumnDrift(
        source=source, column=name, statistic="level", days=7, value=0.87654, low=0.4, high=0.6, excess=excess
    )


def drift_of(*columns: ColumnDrift) -> Drift:
    groups = {"data": group(columns, "too few"), "prediction": group([column("raw_score", 0.1, "scores")], ""),
              "label": group([], "too few"), "concept": group([], "too few")}  # fmt: skip
    return Drift(
        use_case="late",
        partition=DAYS[-1],
        model_version="2013-04-08-0123abcd",
        verdict=overall_verdict(list(groups.values())),
        groups=groups,
        curves=tuple(Curve(drift=one, days=tuple(DAYS), values=VALUES) for one in columns),
    )


def page_of(drift: Drift) -> str:
    body = render(drift, outcomes=OUTCOMES, label="is_late", title="Late", sources=[("Scores", "s3://b/")])
    return body.decode()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br", "img", "input"):
            self.open.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_names_what_moved_first() -> None:
    page = page_of(
        drift_of(column("calm", 0.1), column("wind_speed_mph", 2.5), *[column(f"c{i}", 0.0) for i in range(20)])
    )
    assert "Drifted" in page
    assert page.index("weather.wind_speed_mph") < page.index("weather.calm")
    assert "0.877" in page  # the value, in the table
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []


def test_delivered_names_are_escaped() -> None:
    page = page_of(drift_of(column("<script>alert(1)</script>", 3.0)))
    assert "<script>alert" not in page


def test_equal_inputs_give_equal_bytes() -> None:
    drift = drift_of(column("wind", 1.2))
    assert page_of(drift) == page_of(drift)


@pytest.mark.parametrize("columns", [(), (column("wind", 0.0),)])
def test_a_page_without_drift_or_judgement_is_complete(columns: tuple[ColumnDrift, ...]) -> None:
    page = page_of(drift_of(*columns))
    assert "Drifted" not in page
    assert "too few" in page
