"""Data Docs of a delivery with hostile cells, as the app serves them."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from fastapi.testclient import TestClient

from flight_delay import replay
from flight_delay.use_case import USE_CASE
from nightshift.app import application
from nightshift.app.application import create_app
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from support.markup import HOSTILE, Markup
from support.nights import Nights

NIGHT = date(2013, 2, 12)


def with_hostile_cells(feed: str, body: bytes) -> bytes:
    """A delivery whose first rows have hostile tail numbers."""
    if feed != "flights":
        return body
    names, *rows = csv.reader(io.StringIO(body.decode()))
    for row, cell in zip(rows, HOSTILE, strict=False):
        row[names.index("tailnum")] = cell
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([names, *rows])
    return written.getvalue().encode()


@pytest.fixture
def pages(settings: Settings, store: ArtifactStore) -> dict[str, Markup]:
    """The pages that the app serves after a night with hostile cells was ingested."""
    nights = Nights(USE_CASE, settings, store)
    nights.deliver([replay.FIRST])
    nights.deliver([NIGHT], with_hostile_cells)
    nights.ingest(NIGHT)
    application._store.cache_clear()
    client = TestClient(create_app(lambda: [USE_CASE]))
    answers = {
        name: client.get(f"/files/{USE_CASE.name}/validate/{NIGHT}/data_docs/{name}.html")
        for name in ("index", *(feed.name for feed in USE_CASE.feeds))
    }
    application._store.cache_clear()
    for answer in answers.values():
        assert answer.status_code == 200
        policy = {rule.split()[0]: rule.split()[1:] for rule in answer.headers["content-security-policy"].split(";")}
        # Neither scripts nor forms, nor a refresh of the page.
        assert policy.pop("sandbox") == ["allow-same-origin"]
        assert policy.pop("style-src") == ["'unsafe-inline'"]
        assert policy.pop("img-src") == ["data:"]
        assert policy.pop("frame-ancestors") == ["'self'"]
        assert policy == {rule: ["'none'"] for rule in ("default-src", "script-src", "form-action", "base-uri")}
    return {name: Markup(answer.text) for name, answer in answers.items()}


def test_hostile_cells_are_text(pages: dict[str, Markup]) -> None:
    assert all(cell in pages["flights"].text for cell in HOSTILE)
    for page in pages.values():
        assert page.active == []
        assert page.policies == ["default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"]


def test_pages_load_nothing_and_lead_to_each_other_only(pages: dict[str, Markup]) -> None:
    local = {f"{name}.html" for name in pages}
    for page in pages.values():
        assert {one for one in page.addresses if not one.startswith("#")} <= local
    assert set(pages["index"].addresses) == local - {"index.html"}
