"""The app: addresses, headers and errors. Who may see which use case is decided by whoever mounts it."""

import logging
import mimetypes
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from nightshift.app import data, drift, drift_column, lineage, model, night, overview, performance, reports, runs
from nightshift.app.page import PAGES, STATIC, PageContext, Site, render
from nightshift.app.use_cases import lines
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, NightshiftError, UnknownUseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.reader import reading
from nightshift.settings import load_settings

VIEWS: dict[str, Callable[..., dict[str, Any]]] = {
    module.__name__.rpartition(".")[2]: module.view
    for module in (data, drift, drift_column, lineage, model, night, overview, performance, reports, runs)
}
"""The view of each page, by the name of its module and template."""

LOG = logging.getLogger(__name__)

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Reports show delivered values, which must neither act with the user's session nor send anything elsewhere. In this
# sandbox there are no scripts, forms, pop-ups or refresh of the page; its origin stays, because a browser would not
# send the session with links from one report to the next in Airflow's frame otherwise.
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox allow-same-origin; default-src 'none'; script-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
NEEDED_TABLES = {"runs": "pipeline_daily"}
"""Tables without which a page is left out; the others need those of the first migrations."""

PAGE_OF = {"overview": "", "night": "", "drift_column": "drift"}
"""The address in the navigation of modules that are not called like it."""

STATIC_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def create_app(
    readable: Callable[..., Sequence[UseCase]], mounted_at: str = "", scraped: Callable[..., Any] | None = None
) -> FastAPI:
    """The app. `readable` is a FastAPI dependency: the use cases that the user of a request may read.

    It raises HTTPException 401 for a request without a user. `mounted_at`: the path below Airflow's own.
    `scraped`: a dependency like `readable`, for the gauges at /metrics; None: there are none.
    """
    app = FastAPI(title="Nightshift", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.mounted_at = mounted_at
    app.add_exception_handler(NightshiftError, _failed)
    Readable = Annotated[Sequence[UseCase], Depends(readable)]

    @app.get("/static/{path:path}")
    def static(path: str) -> Response:
        if path not in _static_files():
            raise HTTPException(404, f"There is no {path}.")
        return FileResponse(STATIC / path, headers=STATIC_HEADERS)

    if scraped is not None:
        _add_metrics(app, scraped)

    @app.get("/")
    def index(request: Request, use_cases: Readable) -> Response:
        shown = lines(_store(), use_cases, datetime.now(UTC)) if use_cases else []
        return _html(render("use_cases.html.j2", _site(request), title="Use cases", lines=shown))

    @app.get("/files/{use_case}/{step}/{partition}/{path:path}")
    def report(use_case: str, step: str, partition: str, path: str, use_cases: Readable) -> Response:
        return _report(use_cases, use_case, step, partition, path)

    @app.get("/{use_case}/night/{partition}")
    def partition_page(request: Request, use_case: str, partition: str, use_cases: Readable) -> Response:
        return _page(request, use_cases, use_case, "night", _day(partition))

    @app.get("/{use_case}/drift/{drift}/{source}")
    def column_page(request: Request, use_case: str, drift: str, source: str, use_cases: Readable) -> Response:
        return _page(request, use_cases, use_case, "drift_column", drift, source)

    @app.get("/{use_case}")
    def first_page(request: Request, use_case: str, use_cases: Readable) -> Response:
        return _page(request, use_cases, use_case, "overview")

    @app.get("/{use_case}/{page}")
    def page(request: Request, use_case: str, page: str, use_cases: Readable) -> Response:
        if page not in {name for name, _ in PAGES if name}:
            raise HTTPException(404, f"There is no page {page!r}.")
        return _page(request, use_cases, use_case, page)

    return app


def _add_metrics(app: FastAPI, scraped: Callable[..., Any]) -> None:
    """The gauges of the use cases in Prometheus's text format."""

    @app.get("/metrics")
    def metrics(request: Request, use_cases: Annotated[Sequence[UseCase], Depends(scraped)]) -> Response:
        from nightshift.services.metrics import metrics_text

        accept, now = request.headers.get("Accept", ""), datetime.now(UTC)
        body, media_type = metrics_text(use_cases, load_settings(), _store(), now, accept)
        return Response(body, media_type=media_type)


def _site(request: Request) -> Site:
    base = request.scope.get("root_path", "").rstrip("/")
    return Site(base, base.removesuffix(request.app.state.mounted_at))


def _html(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=PAGE_HEADERS)


def _failed(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, UnknownUseCase) else 503
    LOG.warning("%s: %s", request.url.path, error)
    return _html(render("error.html.j2", _site(request), title="This page cannot be shown", error=str(error)), status)


def _page(request: Request, use_cases: Sequence[UseCase], use_case: str, page: str, *path: str) -> Response:
    """A page of a use case: the view of its module, in its template."""
    declared = next((one for one in use_cases if one.name == use_case), None)
    if declared is None:
        raise HTTPException(404, f"There is no use case {use_case!r} that you may read.")
    site = _site(request)
    frame: dict[str, Any] = {
        "use_case": declared,
        "others": [one for one in use_cases if one.name != use_case],
        "page": PAGE_OF.get(page, page),
    }
    with reading(load_settings(), declared) as reader:
        frame["pages"] = [one for one in PAGES if reader.has(NEEDED_TABLES.get(one[0], "drift_daily"))]
        if not frame["pages"]:
            return _html(render("nothing.html.j2", site, title=declared.title, **frame))
        context = PageContext(declared, reader, _store(), site, dict(request.query_params), datetime.now(UTC))
        view = VIEWS[page](context, *path)
    return _html(render(f"{page}.html.j2", site, **(frame | view)))


def _report(use_cases: Sequence[UseCase], use_case: str, step: str, partition: str, path: str) -> Response:
    """A file of a report from the bucket."""
    from nightshift.services.report_pages import report_file

    try:
        file = report_file(_store(), list(use_cases), use_case, step, partition, path)
    except (UnknownUseCase, ConfigurationError) as error:
        raise HTTPException(404, str(error)) from error
    if file is None:
        raise HTTPException(404, f"There is no {path} of {step} for {partition}.")
    body, media_type = file
    return Response(body, media_type=media_type, headers=REPORT_HEADERS)


@cache
def _store() -> ArtifactStore:
    return ArtifactStore(load_settings())


@cache
def _static_files() -> frozenset[str]:
    mimetypes.add_type("text/javascript", ".js")
    return frozenset(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())


def _day(text: str) -> str:
    """An ISO date. Raises HTTPException 404 for any other text."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise HTTPException(404, f"{text!r} is not a partition; write YYYY-MM-DD.") from None


def development_app() -> Any:
    """The app without access control, for work on the pages: `uvicorn --factory` of this function."""
    from nightshift.declare.discovery import all_use_cases

    return create_app(all_use_cases)
