"""The summary's table, from the records of partitions on hand-made versions."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from nightshift.local import summary
from nightshift.settings import Settings
from nightshift.steps.check_drift.record_drift import DRIFT_SCHEMA
from support.desk import BOOKINGS, D, Desk, begin, days_after


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, settings: Settings, desk: Desk) -> Desk:
    monkeypatch.setattr(summary, "load_settings", lambda: settings)
    monkeypatch.setattr(summary, "_seconds", lambda use_case: {"2020-01-01": "9"})
    return desk


def cells(text: str) -> dict[date, dict[str, str]]:
    """Cells by partition and heading."""
    lines = text.splitlines()[2:]
    ends, at = [], 0
    for rule in lines[1].split():
        ends.append((at, at + len(rule)))
        at += len(rule) + 2
    heads = [lines[0][a:b].strip() for a, b in ends]
    rows = [dict(zip(heads, (line[a:b].strip() for a, b in ends), strict=True)) for line in lines[2:]]
    return {date.fromisoformat(row["partition"]): row for row in rows}


def test_a_row_has_the_records_of_its_partition(desk: Desk) -> None:
    begin(desk)
    desk.live(0, 1)
    desk.check_drift(days_after(1))
    rows = cells(summary.summarise(desk.use_case))
    assert list(rows) == [D, days_after(1)]
    first, second = rows.values()
    assert (first["published"], first["spec"]) == (str(BOOKINGS), desk.use_case.champion.spec_id)
    assert first["log loss"] == f"{float(first['log loss']):.4f}"
    assert (second["log loss"], first["drift"], second["drift"]) == ("-", "-", "-")
    drift = {"drift": "data", "source": "bookings", "column_name": "hours", "statistic": "level", "days": 1,
             "value": 0.5, "low": 0.4, "high": 0.6, "excess": 0.0, "drifted": False, "since": None,
             "comparison_uri": "s3://b/c/"}  # fmt: skip
    moved = drift | {"column_name": "branch", "drifted": True, "excess": 2.0, "since": D}
    for day, found in ((D, [drift]), (days_after(1), [drift, moved])):
        desk.warehouse.replace_partition("drift_daily", day, pa.Table.from_pylist(found, schema=DRIFT_SCHEMA))
    assert [row["drift"] for row in cells(summary.summarise(desk.use_case)).values()] == ["stable", "drifted: data (1)"]
    assert list(cells(summary.summarise(desk.use_case, days_after(1)))) == [days_after(1)]
    text = summary.summarise(desk.use_case, last=D - (days_after(1) - D))
    assert "has been published" in text
