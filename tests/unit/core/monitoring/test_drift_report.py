"""The drift report's page."""

from __future__ import annotations

import re
from datetime import date, timedelta
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from nightshift.core.monitoring.drift import Reference, build_reference, compare, overall_verdict
from nightshift.declare.policies import DriftPolicy
from nightshift.documents.check_drift import Drift, DriftKind
from nightshift.reports.drift import label_rates, render

POLICY = DriftPolicy(quantile=0.95)
FEATURES = ("departure_minute", "wind_speed_mph", "distance_miles", *(f"feature_{i}" for i in range(16)))
DAYS, FLIGHTS = 60, 80


def rows(days: int, seed: int, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = days * FLIGHTS
    columns: dict[str, object] = {name: rng.normal(size=n) + shift for name in FEATURES}
    columns["carrier"] = rng.choice(["UA", "B6", "<script>alert(1)</script>"], n)
    columns["p_late"] = rng.beta(2, 6, n)
    columns["is_late"] = (rng.uniform(size=n) < 0.25).astype(int)
    columns["day"] = pa.array([date(2013, 3, 1) + timedelta(days=i // FLIGHTS) for i in range(n)], pa.date32())
    return pa.table(columns)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return build_reference(
        rows(DAYS, 0), numeric=(*FEATURES, "p_late", "is_late"), categorical=("carrier",), day_column="day"
    )


def compared(reference: Reference, night: pa.Table, policy: DriftPolicy = POLICY) -> Drift:
    counts = reference.count(night)
    columns: dict[DriftKind, list[str]] = {
        "data": [*FEATURES, "carrier"],
        "prediction": ["p_late"],
        "label": ["is_late"],
    }
    groups = {name: compare(reference, counts, chosen, policy, 1) for name, chosen in columns.items()}
    return Drift(
        use_case="late",
        partition=date(2013, 5, 1),
        model_version="2013-04-30-0123abcd",
        verdict=overall_verdict(list(groups.values())),
        groups=groups,
        counts={name: tuple(counted.tolist()) for name, counted in counts.items()},
        quantile=policy.quantile,
        score="p_late",
        label="is_late",
        label_day=date(2013, 5, 1),
        label_rate=0.31,
    )


def page(reference: Reference, drift: Drift) -> str:
    return render(drift, reference, title="Late & later", sources=[("Scores", "s3://bucket/scores/")]).decode()


class _Checker(HTMLParser):
    """Counts what a browser would fetch or run, and elements that are never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta"}:
            self.open.append(tag)
        if tag == "script" or any(name in {"src", "srcset"} for name, _ in attributes):
            self.fetched.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(reference: Reference) -> None:
    checker = _Checker()
    checker.feed(page(reference, compared(reference, rows(1, 1))))
    assert checker.open == []
    assert checker.fetched == []


def test_the_verdict_comes_first_and_names_what_moved(reference: Reference) -> None:
    drift = compared(reference, rows(1, 1, shift=2.0))
    text = page(reference, drift)
    assert drift.verdict == "drifted"
    assert text.index("<strong>Drifted</strong>") < text.index("<svg")
    assert len(re.findall('<tr class="exceeds">', text)) >= len(FEATURES)


def test_columns_are_sorted_by_ratio(reference: Reference) -> None:
    night = rows(1, 1)
    night = night.set_column(0, "departure_minute", pa.array(np.full(FLIGHTS, 9.0)))
    names = re.findall(r"<tr[^>]*>\n<td>([^<]+)</td>", page(reference, compared(reference, night)))
    assert names[0] == "departure_minute"
    assert sorted(names) == sorted([*FEATURES, "carrier"])


def test_a_stable_night_says_so(reference: Reference) -> None:
    drift = compared(reference, rows(1, 3))
    assert drift.verdict == "stable"
    assert "<strong>Stable</strong>" in page(reference, drift)


def test_night_without_enough_rows_says_so(reference: Reference) -> None:
    drift = compared(reference, rows(1, 3), DriftPolicy(minimum_reference_days=999))
    assert "<strong>Not judged</strong>" in page(reference, drift)


def test_without_outcomes_the_page_still_comes(reference: Reference) -> None:
    drift = compared(reference, rows(1, 3)).model_copy(update={"label_rate": None, "label_day": None})
    assert "<svg" in page(reference, drift)


def test_text_from_data_is_escaped(reference: Reference) -> None:
    drift = compared(reference, rows(1, 3)).model_copy(update={"model_version": "<b>"})
    text = page(reference, drift)
    assert "<b>" not in text
    assert "<script" not in text


def test_equal_inputs_give_equal_bytes(reference: Reference) -> None:
    drift = compared(reference, rows(1, 3))
    assert page(reference, drift) == page(reference, drift)


def test_label_rates_are_those_of_the_days() -> None:
    table = rows(3, 0)
    built = build_reference(table, numeric=("is_late",), categorical=(), day_column="day")
    wanted = table["is_late"].to_numpy().reshape(3, FLIGHTS).mean(axis=1)
    assert label_rates(built, "is_late") == pytest.approx(wanted.tolist())
