"""The app in a running Airflow, in a browser: signed in through Airflow's form, read, clicked through, and checked."""

from __future__ import annotations

import shutil
import tempfile
import urllib.error
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from playwright.sync_api import Browser, FrameLocator, Page

from nightshift.artifact import Attempt
from nightshift.declare.discovery import load_use_case
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.settings import load_settings
from nightshift.steps.predict import score
from support.browser import chromium, signed_in, violations
from support.desk import Desk, begin, days_after, hours_without_feast
from support.drift_rows import record_drift
from support.local_stack import LocalStack

NIGHTS = 4
RUN = "manual__2020-03-24"
PLUGIN = "/plugin/nightshift/nightshift"
PAGES = ("", "/model", "/drift", "/performance", "/data", "/lineage", "/reports")

WIDE = """
[...document.querySelectorAll("main *")]
    .filter((one) => one.getBoundingClientRect().right > 391 && !one.parentElement.closest(".scroll"))
    .map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 40)}`)
"""
"""Elements that make a page wider than a phone."""

pytestmark = pytest.mark.timeout(1200)


@dataclass
class App:
    """A running Airflow, some nights, a browser."""

    stack: LocalStack
    desk: Desk
    browser: Browser

    def page(self, path: str, **context: object) -> Page:
        """A page of the app outside of Airflow's frame, in a new context of a signed-in user."""
        page = signed_in(self.browser, self.stack, **context)
        page.goto(path)
        return page

    def one(self, query: str) -> object:
        """The one value of a query."""
        ((value,),) = self.stack.rows(query)
        return value


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    # Not pytest's tmp_path: it is closed to other users, and root has to run PostgreSQL as another user.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-app-"))
    folder.chmod(0o755)
    stack = LocalStack(folder / "local")
    with chromium() as browser, pytest.MonkeyPatch.context() as patch:
        try:
            stack.start()
            patch.setattr(score, "historical_features", hours_without_feast)
            with stack.in_this_process():
                yield App(stack, nights(), browser)
        finally:
            stack.nightshift("down")
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def closed_pages(app: App) -> Iterator[None]:
    """No page stays open after its test: those of Airflow poll and draw as long as they are open."""
    yield
    for context in app.browser.contexts:
        context.close()


def nights() -> Desk:
    """Published nights of the second use case, without training and Feast; the newest one has no labels."""
    use_case = load_use_case("late_returns")
    store = ArtifactStore(load_settings())
    store.ensure_bucket()
    desk = Desk(use_case, load_settings(), store)
    desk.warehouse.migrate()
    begin(desk)
    token = CURRENT_ATTEMPT.set(Attempt(dag_id="late_returns.predict", run_id=RUN, task_id="score"))
    for number in range(NIGHTS):
        desk.night(days_after(number))
        desk.check_drift(days_after(number))
        record_drift(desk, days_after(number), number - 1.5, "returns", "branch")
        record_drift(desk, days_after(number), 0.1, "bookings", "")
    CURRENT_ATTEMPT.reset(token)
    return desk


def in_frame(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


def test_the_stack_listens_on_loopback_only(app: App) -> None:
    folder, addresses = app.stack.environment["NIGHTSHIFT_LOCAL_DIR"], set()
    for process in psutil.process_iter():
        # A process may end meanwhile.
        with suppress(psutil.Error):
            if process.environ().get("NIGHTSHIFT_LOCAL_DIR") == folder:
                connections = process.net_connections("inet")
                addresses |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def test_a_person_finds_the_night_and_its_run_from_the_menu(app: App) -> None:
    page = signed_in(app.browser, app.stack, viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    page.on("console", lambda one: faults.append(one.text) if "Content Security Policy" in one.text else None)
    page.on("pageerror", lambda one: faults.append(str(one)))
    page.goto("/plugin/nightshift")
    frame = in_frame(page)
    frame.get_by_role("link", name=app.desk.use_case.title).click()
    newest = days_after(NIGHTS - 1)
    frame.get_by_text(f"{newest} is published").wait_for()
    # Airflow's address follows, so that the page can be sent to somebody.
    page.wait_for_url(f"**{PLUGIN}/late_returns")

    loss = app.one(
        "SELECT sum(rows * log_loss) / sum(rows) FROM late_returns.performance_daily "
        "WHERE role = 'published' AND slice_column = ''"
    )
    assert f"{loss:.4f}" in frame.get_by_text("Log loss, 3 nights").locator("..").inner_text()
    assert frame.locator("figure.chart svg path").count() > 5

    frame.get_by_role("rowheader", name=str(newest)).get_by_role("link").click()
    run = frame.get_by_role("link", name="late_returns.predict")
    assert run.get_attribute("target") == "_top"
    run.click()
    page.wait_for_url(f"**/dags/late_returns.predict/runs/{RUN}**")
    assert faults == []


def test_mlflow_opens_from_the_menu(app: App) -> None:
    page = app.page("/")
    page.get_by_role("button", name="Browse").click()
    entry = page.get_by_role("menuitem", name="MLflow")
    address = entry.get_attribute("href") or ""
    assert address.startswith("http://127.0.0.1:")
    assert "@" not in address
    with page.context.expect_page() as opened:
        entry.click()
    opened.value.get_by_text("Experiments").first.wait_for()


@pytest.mark.parametrize(
    ("tab", "query"),
    [
        ("Model", "SELECT model_version FROM late_returns.deployments WHERE role = 'champion' AND model IS NOT NULL"),
        ("Drift", "SELECT 'As of ' || max(partition) || ', ' || 1 || ' of 2' FROM late_returns.drift_daily"),
        (
            "Performance",
            "SELECT to_char(sum(rows * log_loss) / sum(rows), '0.9999') FROM late_returns.performance_daily "
            "WHERE role = 'fallback' AND slice_column = ''",
        ),
        ("Data", "SELECT max(partition)::text FROM late_returns.publications"),
        ("Reports", "SELECT min(partition)::text FROM late_returns.drift_daily"),
    ],
)
def test_a_page_shows_what_the_warehouse_has(app: App, tab: str, query: str) -> None:
    page = signed_in(app.browser, app.stack)
    page.goto(f"{PLUGIN}/late_returns")
    frame = in_frame(page)
    frame.get_by_role("navigation", name="Pages").get_by_role("link", name=tab).click()
    frame.get_by_role("heading", name=tab, level=1).wait_for()
    assert str(app.one(query)).strip() in frame.locator("main").inner_text()


def test_an_alarm_is_two_clicks_from_its_curve(app: App) -> None:
    page = signed_in(app.browser, app.stack)
    page.goto(f"{PLUGIN}/late_returns")
    frame = in_frame(page)
    frame.get_by_role("link", name="returns.branch").click()
    frame.get_by_text(f"drifted since {days_after(NIGHTS - 1)}").wait_for()
    assert frame.locator("figure.chart svg path").count() > 5
    frame.get_by_role("link", name="drift report of").first.click()
    page.wait_for_url(f"**/files/late_returns/report_drift/{days_after(NIGHTS - 1)}/report.html")


def test_a_task_leads_to_its_evidence(app: App) -> None:
    """A real run of ingest, whose task `publish` links to the page about data."""
    partition = "2020-03-10"
    app.stack.nightshift("land", "late_returns", "--from", "2020-03-01", "--to", partition)
    app.stack.airflow("dags", "unpause", "--yes", "late_returns.ingest")
    app.stack.run("ingest", partition)
    app.stack.wait(("ingest",), (partition,))
    run = app.stack.run_of("ingest", partition)
    assert run is not None
    page = signed_in(app.browser, app.stack)
    task = f"dags/late_returns.ingest/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances"
    links = [app.stack.api.call("GET", f"/{task}/{name}/links")["extra_links"] for name in ("publish", "land")]
    assert links == [{"Evidence": f"{PLUGIN}/late_returns/data"}, {"Evidence": None}]
    page.goto(f"/dags/late_returns.ingest/runs/{run.dag_run_id}/tasks/publish/details")
    page.get_by_role("link", name="Evidence").click()
    page.wait_for_url(f"**{PLUGIN}/late_returns/data")
    in_frame(page).get_by_role("heading", name="Data", level=1).wait_for()


def test_the_lineage_of_a_prediction_leads_to_its_files(app: App) -> None:
    page = signed_in(app.browser, app.stack)
    page.goto(f"{PLUGIN}/late_returns/lineage")
    frame = in_frame(page)
    for name, value in zip(app.desk.use_case.key_columns, (str(days_after(1)), "7"), strict=True):
        frame.get_by_label(name, exact=True).fill(value)
    frame.get_by_role("button", name="Trace").click()
    frame.get_by_role("heading", name="The prediction").wait_for()
    text = frame.locator("main").inner_text()
    found = app.one(
        f"SELECT p_late FROM late_returns.predictions WHERE booking_date = '{days_after(1)}' AND booking = 7"
    )
    assert f"{found:.4f}" in text
    assert f"landing/late_returns/bookings/dt={days_after(0)}/bookings.csv" in text
    assert app.one("SELECT scores_uri FROM late_returns.publications ORDER BY partition LIMIT 1") in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(app: App, theme: str) -> None:
    page = app.page("/nightshift/", color_scheme=theme)
    newest: date = days_after(NIGHTS - 1)
    column = "/drift/data/returns?column=branch"
    for path in ["/", *(f"/late_returns{one}" for one in (*PAGES, column, f"/night/{newest}"))]:
        answer = page.goto(f"/nightshift{path}")
        assert answer is not None
        assert answer.status == 200, path
        assert theme in str(page.locator("html").get_attribute("class"))
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert violations(page) == [], path


def test_the_theme_is_airflows(app: App) -> None:
    page = signed_in(app.browser, app.stack, color_scheme="light")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.goto(f"{PLUGIN}/late_returns")
    html = in_frame(page).locator("html.dark")
    html.wait_for(state="attached")
    page.evaluate("document.documentElement.classList.replace('dark', 'light')")
    in_frame(page).locator("html.light").wait_for(state="attached")


def test_no_page_is_wider_than_a_phone(app: App) -> None:
    page = app.page("/nightshift/", viewport={"width": 390, "height": 844})
    for path in ["", *(f"late_returns{one}" for one in (*PAGES, f"/night/{days_after(0)}"))]:
        page.goto(f"/nightshift/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, (path, page.evaluate(WIDE))


def test_the_keyboard_reaches_the_pages(app: App) -> None:
    page = app.page("/nightshift/late_returns")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
    assert {"Use cases", "Overview", "Drift"} <= reached


def test_nobody_sees_a_page_without_signing_in(app: App) -> None:
    for path in ("nightshift/", "nightshift/late_returns", "nightshift/late_returns/drift"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            app.stack.page(path, signed_in=False)
    assert app.stack.page("nightshift/static/app.css", signed_in=False)
    for path in ("nightshift/no_such", "nightshift/late_returns/no_such", "nightshift/static/../application.py"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            app.stack.page(path)
