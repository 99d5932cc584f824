"""Pure parts of pages: months, gains, gates, specs, durations."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from nightshift.app.model import gate_matrix, roles_of
from nightshift.app.overview import loss_chart
from nightshift.app.page import PAGES, age
from nightshift.app.performance import by_month, rolling_gain
from nightshift.app.runs import steps
from nightshift.core.lifecycle.state import Challenge, State


def losses(role: str, first: date, values: list[float], rows: int = 10) -> list[dict[str, object]]:
    return [
        {
            "day": first + timedelta(days=n),
            "role": role,
            "rows": rows,
            "log_loss": value,
            "mean_score": 0.3,
            "label_rate": 0.25,
        }
        for n, value in enumerate(values)
    ]


def test_a_month_is_the_mean_of_its_rows() -> None:
    daily = losses("published", date(2020, 2, 29), [0.4]) + losses("published", date(2020, 3, 1), [0.5], rows=30)
    daily += losses("published", date(2020, 3, 2), [0.1]) + losses("fallback", date(2020, 3, 1), [0.7])
    months = by_month(daily)
    assert list(months) == ["2020-02", "2020-03"]
    assert months["2020-03"]["published"]["log_loss"] == pytest.approx(0.4)
    assert months["2020-03"]["published"]["rows"] == 40
    assert months["2020-03"]["fallback"]["log_loss"] == pytest.approx(0.7)
    assert months["2020-03"]["published"]["gap"] == pytest.approx(0.05)


def test_a_gain_is_over_days_that_both_have_in_the_window() -> None:
    first = date(2020, 3, 1)
    daily = losses("published", first, [0.5] * 6) + losses("fallback", first, [0.6, 0.6, 0.6, 0.6, 0.9])
    gains = rolling_gain(daily, "fallback", 4)
    assert list(gains) == [first + timedelta(days=n) for n in range(1, 5)]
    assert gains[first + timedelta(days=3)] == pytest.approx(0.1)
    assert gains[first + timedelta(days=4)] == pytest.approx(0.175)
    assert rolling_gain(daily, "former", 4) == {}


@pytest.mark.parametrize(("nights", "bands"), [(10, 0), (11, 1)])
def test_the_caption_speaks_of_a_band_only_where_one_is_drawn(nights: int, bands: int) -> None:
    first = date(2020, 3, 1)
    found = [
        SimpleNamespace(
            partition=first + timedelta(days=n),
            prediction_date=first + timedelta(days=n + 1),
            log_loss=0.5,
            fallback_log_loss=0.6,
            expected_log_loss=0.4,
        )
        for n in range(nights)
    ]
    context = SimpleNamespace(reader=SimpleNamespace(rows=lambda *_: []), address=lambda *parts: "/".join(parts))
    chart = loss_chart(context, found)  # type: ignore[arg-type]
    assert len(chart.spec["bands"]) == bands
    assert ("The band is what" in chart.note) == bool(bands)
    assert ("follows after 10 nights" in chart.note) == (not bands)


def test_gates_are_a_matrix_of_versions_newest_first() -> None:
    row = {"partition": date(2020, 3, 2), "candidate": "spec-1", "model_version": "v2", "gate": "parity"}
    rows = [
        row | {"verdict": "fail", "reason": "too far"},
        row | {"gate": "change", "verdict": "not applicable", "reason": "the first version"},
        row | {"partition": date(2020, 3, 1), "model_version": "v1", "verdict": "pass", "reason": ""},
    ]
    gates, matrix = gate_matrix(rows)
    assert gates == ["parity", "change"]
    assert [line["model_version"] for line in matrix] == ["v2", "v1"]
    assert matrix[0]["results"]["parity"]["text"] == "fail"
    assert [one["reason"] for one in matrix[0]["failed"]] == ["too far"]
    assert matrix[0]["results"]["change"]["text"] == "n.a."
    assert "change" not in matrix[1]["results"]


def test_the_role_of_a_spec_is_what_it_is_now() -> None:
    state = State(
        champion="a",
        fallback="f",
        challenge=Challenge("c", "canary", date(2020, 3, 1)),
        former=("b",),
        watched_since=date(2020, 3, 1),
        retired=frozenset({"r"}),
    )
    assert roles_of(state) == {
        "a": "champion",
        "f": "fallback",
        "c": "challenger (canary)",
        "b": "former champion, watched",
        "r": "retired",
    }


def test_steps_are_in_the_order_of_the_stages() -> None:
    day = date(2020, 3, 1)
    rows = [
        {"partition": day, "step": "score", "seconds": 4.0, "tries": 1},
        {"partition": day, "step": "land", "seconds": 1.0, "tries": 2},
        {"partition": day + timedelta(days=1), "step": "land", "seconds": 3.0, "tries": 1},
    ]
    found = steps(rows)
    assert [one["step"] for one in found] == ["land", "score"]
    assert found[0] | {"stage": "ingest", "longest": 3.0, "newest": 3.0, "retried": 1, "nights": 2} == found[0]


def test_an_age_is_in_its_largest_unit() -> None:
    assert [age(s) for s in (5, 60, 7200, 90_000, 200_000)] == [
        "less than a minute",
        "1 minute",
        "2 hours",
        "1 day",
        "2 days",
    ]


def test_every_page_has_a_module_and_a_template() -> None:
    from importlib import import_module

    from nightshift.app.page import FOLDER

    for name in [name or "overview" for name, _ in PAGES]:
        assert callable(import_module(f"nightshift.app.{name}").view)
        assert (FOLDER / "templates" / f"{name}.html.j2").exists()
