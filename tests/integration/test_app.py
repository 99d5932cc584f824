"""The app on a real store and warehouse: numbers of every page, who sees what, headers, hostile values."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from psycopg import sql

from nightshift.app import application
from nightshift.app.application import create_app
from nightshift.app.page import PAGES
from nightshift.artifact import Decision
from nightshift.declare.use_case import UseCase
from nightshift.io.warehouse import schema
from support.desk import BOOKINGS, Desk, begin, days_after
from support.drift_rows import record_drift

NIGHTS = 3
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def client_for(desk: Desk) -> Iterator[Callable[[Sequence[UseCase]], TestClient]]:
    """A browser of a user who may read the given use cases, below /nightshift."""
    application._store.cache_clear()

    def client(use_cases: Sequence[UseCase]) -> TestClient:
        return TestClient(create_app(lambda: use_cases, mounted_at="/nightshift"), root_path="/nightshift")

    yield client
    application._store.cache_clear()


@pytest.fixture
def app(desk: Desk, client_for: Callable[[Sequence[UseCase]], TestClient]) -> TestClient:
    """The app after three nights, of which the newest has no labels."""
    begin(desk)
    for number in range(NIGHTS):
        desk.night(days_after(number))
        desk.check_drift(days_after(number))
    return client_for([desk.use_case])


def address(desk: Desk, *parts: str) -> str:
    return "/" + "/".join((desk.use_case.name, *parts))


def charts(html: str) -> list[dict]:
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html)]


def test_every_page_is_shown(desk: Desk, app: TestClient) -> None:
    pages = [name for name, _ in PAGES if name]
    for parts in [(), *((name,) for name in pages), ("night", str(days_after(1)))]:
        answer = app.get(address(desk, *parts))
        assert answer.status_code == 200, answer.text
        assert f'href="/nightshift/{desk.use_case.name}/drift"' in answer.text
    assert desk.use_case.title in app.get("/").text


def test_losses_are_those_of_the_warehouse(desk: Desk, app: TestClient) -> None:
    rows = [row for row in desk.rows("performance_daily") if row["slice_column"] == ""]
    recorded = {(row["prediction_date"], row["role"]): row["log_loss"] for row in rows}
    (chart,) = charts(app.get(address(desk)).text)
    days = [str(day) for day in sorted({day for day, _ in recorded})]
    assert chart["days"] == [*days, str(days_after(NIGHTS))]
    by_name = {one["name"]: one["values"] for one in chart["series"]}
    for name in ("published", "fallback"):
        losses = [recorded[day, name] for day in sorted({day for day, _ in recorded})]
        assert by_name[name] == [*(round(one, 6) for one in losses), None]
    # The newest night has no labels: what its scores promise is all there is.
    assert by_name["estimated from the scores"][-1] == pytest.approx(entropy(desk, NIGHTS), abs=1e-6)


def entropy(desk: Desk, number: int) -> float:
    import numpy as np

    day = days_after(number)
    scores = np.array([row["p_late"] for row in desk.rows("predictions") if row["booking_date"] == day])
    return float(-np.mean(scores * np.log(scores) + (1 - scores) * np.log(1 - scores)))


def test_calibration_is_of_all_rows_with_labels(desk: Desk, app: TestClient) -> None:
    found = charts(app.get(address(desk, "performance")).text)
    (curve,) = [one for one in found if one["kind"] == "scatter"]
    counts = [point["note"][2] for point in curve["series"][0]["points"]]
    assert sum(int(text.split()[0]) for text in counts) == (NIGHTS - 1) * BOOKINGS
    (maturity,) = [one for one in found if one["percent"] and one["kind"] == "lines"]
    assert maturity["series"][0]["values"] == [1.0] * (NIGHTS - 1) + [0.0]


def test_drift_is_ranked_and_leads_to_the_column(desk: Desk, app: TestClient) -> None:
    with schema.connect(desk.settings) as connection:
        connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(desk.use_case.name, "drift_daily")))
    for number, excess in enumerate((0.2, 1.5, -2.5)):
        record_drift(desk, days_after(number), excess, "bookings", HOSTILE)
        record_drift(desk, days_after(number), 9.0 if number == 0 else 0.1, "returns", "once")
        record_drift(desk, days_after(number), 0.0, "returns", "")
    html = app.get(address(desk, "drift")).text
    (chart,) = charts(html)
    assert chart["rows"] == [f"bookings.{HOSTILE}", "returns.once", "returns (rows)"]
    assert [cell[2] for cell in chart["cells"] if cell[1] == 0] == [0.2, 1.5, -2.5]
    assert "<strong>1</strong> of 3 compared columns" in html
    assert HOSTILE not in html
    column = app.get(chart["links"][0].removeprefix("/nightshift"))
    assert column.status_code == 200
    assert f"drifted since {days_after(2)}" in column.text
    assert HOSTILE not in column.text
    excess_chart, values_chart = charts(column.text)
    assert excess_chart["series"][0]["values"] == [0.2, 1.5, -2.5]
    assert values_chart["bands"][0]["low"] == [0.4] * 3
    overview = app.get(address(desk)).text
    assert chart["links"][0].replace("&", "&amp;") in overview
    assert app.get(address(desk, "drift", "data", "no_such")).status_code == 404


LATER_TABLES = """
CREATE TABLE {s}.pipeline_daily (partition date, stage text, step text, variant text, status text,
    started_at timestamptz, seconds float8, tries int, rows bigint, bytes bigint, dag_id text, run_id text);
INSERT INTO {s}.pipeline_daily VALUES
    ({day}, 'predict', 'score', '', 'published', now(), 7.25, 2, 40, 900, 'late.predict', 'manual__x y'),
    ({day}, 'train', 'fit', 'a', 'published', now(), 20, 1, 40, 900, 'late.train', 'r'),
    ({day}, 'train', 'fit', 'b', 'published', now(), 30, 1, 40, 900, 'late.train', 'r'),
    ({day}, 'train', 'verify', 'b', 'rejected', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE {s}.rules_daily (partition date, rule text, action text, fired boolean, matched int, of_last int,
    effect text);
INSERT INTO {s}.rules_daily VALUES ({day}, 'losses', 'hold', true, 3, 5, {hostile});
CREATE TABLE {s}.review_queue (partition date, booking_date date, booking bigint, score float8, certainty float8,
    reason text, answer smallint, answered_by text);
INSERT INTO {s}.review_queue VALUES ({day}, {day}, 5, .5, .25, 'uncertain', NULL, NULL)
"""


def test_tables_of_later_versions_are_shown_where_they_are(desk: Desk, app: TestClient) -> None:
    for page in ("runs", f"night/{days_after(1)}"):
        assert app.get(address(desk, page)).status_code == 200
    names = {
        "s": sql.Identifier(desk.use_case.name),
        "day": sql.Literal(days_after(1)),
        "hostile": sql.Literal(HOSTILE),
    }
    with schema.connect(desk.settings) as connection:
        for text in ("pipeline_daily", "rules_daily", "review_queue"):
            table = sql.Identifier(desk.use_case.name, text)
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    assert ">Runs</a>" not in app.get(address(desk)).text
    with schema.connect(desk.settings) as connection:
        connection.execute(sql.SQL(LATER_TABLES).format(**names))
    html = app.get(address(desk, "runs")).text
    assert ">Runs</a>" in html
    (chart,) = charts(html)
    seconds = {one["name"]: one["values"] for one in chart["series"]}
    assert seconds == {"train": [50.0], "predict": [7.25]}
    assert 'href="/dags/late.predict/runs/manual__x%20y"' in html
    night = app.get(address(desk, "night", str(days_after(1)))).text
    assert "3 of 5" in night
    assert "25.0 %" in night
    assert HOSTILE not in night


def test_data_has_the_rows_of_each_feed(desk: Desk, app: TestClient) -> None:
    rejected = Decision(status="rejected", ref=None, reason=HOSTILE)
    desk.store.decide(desk.use_case.name, "publish", days_after(NIGHTS), rejected)
    html = app.get(address(desk, "data")).text
    assert html.count("rejected</span>") == 2
    assert HOSTILE not in html
    assert "&lt;script&gt;alert" in html


def test_data_has_the_labels_that_a_partition_changed(desk: Desk, app: TestClient) -> None:
    day = days_after(NIGHTS)
    metrics = {"rows": {}, "label_corrections": {"labels": 900, "repeated": 30, "flipped": 21, "withdrawn": 2}}
    desk.store.commit(
        use_case=desk.use_case.name, step="publish", partition=day, kind="curated", files={}, metrics=metrics
    )
    row = app.get(address(desk, "data")).text.rpartition(f"{day}</a>")[2].partition("</tr>")[0]
    assert re.findall(r'"number">(.*?)</td>', row) == ["-", "-", "0", "23"]


def test_lineage_leads_from_a_prediction_to_its_file(desk: Desk, app: TestClient) -> None:
    key = {"booking_date": str(days_after(1)), "booking": "7"}
    html = app.get(address(desk, "lineage"), params=key).text
    (row,) = [r for r in desk.rows("predictions") if (str(r["booking_date"]), r["booking"]) == (key["booking_date"], 7)]
    assert f"{row['p_late']:.4f}" in html
    assert f"landing/{desk.use_case.name}/bookings/dt={days_after(0)}/bookings.csv" in html
    assert row["model_version"] in html
    # One effect a line, the largest first.
    of_features = html.split("What moved the score")[1].split("</table>")[0]
    effects = [abs(float(one)) for one in re.findall(r"([+-]\d\.\d{3})</td></tr>", of_features)]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 0
    for wrong in ({"booking_date": "x"}, {"booking": HOSTILE}, {"booking": "7777"}):
        answer = app.get(address(desk, "lineage"), params=key | wrong)
        assert answer.status_code == 200
        assert "There is no prediction for" in answer.text
        assert HOSTILE not in answer.text


def test_pages_run_no_script_but_the_apps_own(desk: Desk, app: TestClient) -> None:
    for page in ("", "drift", "lineage"):
        answer = app.get(address(desk, *([page] if page else [])))
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        inline = re.findall(r"<script(?![^>]*(?:src=|application/json))[^>]*>", answer.text)
        assert inline == []
        assert not re.search(r"\s(?:style|on\w+)=", answer.text)
    report = app.get(f"/files/{desk.use_case.name}/report_drift/{days_after(0)}/report.html")
    assert report.status_code == 200
    assert "script-src 'none'" in report.headers["content-security-policy"]


def test_a_user_sees_the_use_cases_that_they_may_read(
    desk: Desk, app: TestClient, client_for: Callable[[Sequence[UseCase]], TestClient]
) -> None:
    other = dataclasses.replace(desk.use_case, name="late_other", title="Another one")
    stranger = client_for([other])
    for path in (
        address(desk),
        address(desk, "drift"),
        address(desk, "night", str(days_after(0))),
        f"/files/{desk.use_case.name}/report_drift/{days_after(0)}/report.html",
    ):
        assert app.get(path).status_code == 200
        assert stranger.get(path).status_code == 404
        assert desk.use_case.name not in stranger.get("/").text
    # A use case without a warehouse schema yet.
    assert "Nothing has been published yet" in stranger.get("/late_other").text


def test_without_a_user_there_is_no_page(desk: Desk) -> None:
    def nobody() -> Sequence[UseCase]:
        raise HTTPException(401)

    client = TestClient(create_app(nobody))
    for path in ("/", address(desk), address(desk, "data"), "/files/a/b/2020-03-20/c"):
        assert client.get(path).status_code == 401
    assert client.get("/static/app.css").status_code == 200


def test_addresses_that_lead_nowhere(desk: Desk, app: TestClient) -> None:
    for path in (
        address(desk, "no_such"),
        address(desk, "night", "yesterday"),
        "/static/../application.py",
        "/static/templates/frame.html.j2",
        "/no_such_use_case",
    ):
        assert app.get(path).status_code == 404, path


def test_the_app_cannot_write(desk: Desk) -> None:
    from psycopg import errors

    from nightshift.io.warehouse.reader import reading

    desk.warehouse.migrate()
    with pytest.raises(errors.ReadOnlySqlTransaction), reading(desk.settings, desk.use_case) as reader:
        reader.rows("DELETE FROM {publications} RETURNING 1")
