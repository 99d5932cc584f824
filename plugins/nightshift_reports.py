"""Adds the report pages and MLflow to Airflow's menu.

Only registration and access control: the files come from `nightshift.services.report_pages`. Airflow does not
authenticate a plugin's endpoints, so each of these requires a signed-in user who may read the use case's DAGs.
"""

import hmac
import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

MENU = "nightshift"


def readable(user: Any) -> list[Any]:
    """The use cases whose DAGs a user may read."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    from nightshift.declare.discovery import all_use_cases

    manager = get_auth_manager()
    return [
        use_case
        for use_case in all_use_cases()
        if manager.is_authorized_dag(method="GET", details=DagDetails(id=f"{use_case.name}.ingest"), user=user)
    ]


async def scraped(request: Any, bearer: Any) -> list[Any]:
    """The use cases whose metrics a request may read: all with the token of the settings, else those of its user.

    `bearer`: the credentials of its Authorization header, or None. Raises HTTPException 401 or 403.
    """
    from airflow.api_fastapi.core_api.security import get_user

    from nightshift.declare.discovery import all_use_cases
    from nightshift.settings import load_settings

    token = load_settings().metrics_token
    expected = token.get_secret_value().encode() if token else b""
    if expected and bearer is not None and hmac.compare_digest(bearer.credentials.encode(), expected):
        return list(all_use_cases())
    return readable(await get_user(request, None, bearer))


def store() -> Any:
    """The object store of the settings."""
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.settings import load_settings

    return ArtifactStore(load_settings())


@cache
def _reports_app() -> Any:
    from airflow.api_fastapi.core_api.security import GetUserDep, bearer_scheme
    from fastapi import Depends, FastAPI, HTTPException, Request, Response
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import HTMLResponse

    app = FastAPI(title="Nightshift reports", docs_url=None, redoc_url=None, openapi_url=None)
    # Reports show delivered values; a script in one of them must not run with the user's session.
    headers = {"Content-Security-Policy": "script-src 'none'; object-src 'none'", "X-Content-Type-Options": "nosniff"}

    @app.get("/")
    def index(user: GetUserDep) -> HTMLResponse:
        from nightshift.reports.page import render_page
        from nightshift.services.report_pages import NIGHTLY, ON_DEMAND, addresses

        bucket = store()
        page = render_page(
            "index.html.j2",
            title="Nightshift reports",
            nightly_reports=NIGHTLY,
            on_demand_reports=ON_DEMAND,
            use_cases=[
                (one.title, f"overview/{one.name}", addresses(bucket, one, NIGHTLY), addresses(bucket, one, ON_DEMAND))
                for one in readable(user)
            ],
        )
        return HTMLResponse(page, headers=headers)

    @app.get("/overview/{use_case}")
    def use_case_overview(use_case: str, user: GetUserDep) -> HTMLResponse:
        from nightshift.io.warehouse.warehouse import Warehouse
        from nightshift.reports.overview import render
        from nightshift.services.overview import overview
        from nightshift.services.report_pages import NIGHTLY, addresses
        from nightshift.settings import load_settings

        declared = next((one for one in readable(user) if one.name == use_case), None)
        if declared is None:
            raise HTTPException(404, f"There is no use case {use_case!r} that you may read.")
        bucket = store()
        links = {
            partition: {report.title: f"../{page}" for report, page in zip(NIGHTLY, pages, strict=True) if page}
            for partition, pages in addresses(bucket, declared, NIGHTLY).items()
        }
        found = overview(bucket, Warehouse(load_settings(), declared), declared)
        return HTMLResponse(render(found, links, "../"), headers=headers)

    @app.get("/metrics")
    async def metrics(request: Request, bearer: Any = Depends(bearer_scheme)) -> Response:  # noqa: B008 - FastAPI's way
        from nightshift.services.metrics import metrics_text
        from nightshift.settings import load_settings

        use_cases = await scraped(request, bearer)
        accept, now = request.headers.get("Accept", ""), datetime.now(UTC)
        body, media_type = await run_in_threadpool(metrics_text, use_cases, load_settings(), store(), now, accept)
        return Response(body, media_type=media_type)

    @app.get("/files/{use_case}/{step}/{partition}/{path:path}")
    def report(use_case: str, step: str, partition: str, path: str, user: GetUserDep) -> Response:
        from nightshift.errors import ConfigurationError, UnknownUseCase
        from nightshift.services.report_pages import report_file

        try:
            file = report_file(store(), readable(user), use_case, step, partition, path)
        except (UnknownUseCase, ConfigurationError) as error:
            raise HTTPException(404, str(error)) from error
        if file is None:
            raise HTTPException(404, f"There is no {path} of {step} for {partition}.")
        body, media_type = file
        return Response(body, media_type=media_type, headers=headers)

    return app


def _menu() -> list[dict[str, str]]:
    place = {"destination": "nav", "category": "browse"}
    views = [{"name": "Night reports", "href": f"/{MENU}/", "url_route": "night-reports", **place}]
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith("http"):
        views.append({"name": "MLflow", "href": tracking, **place})
    return views


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    """The pages as an ASGI application, built on the first request: every Airflow process loads plugins,
    but only the API server needs a web framework."""
    await _reports_app()(scope, receive, send)


class NightshiftReports(AirflowPlugin):
    """Registers the reports' pages and the menu entries."""

    name = "nightshift_reports"
    external_views = _menu()
    fastapi_apps = [{"app": _serve, "url_prefix": f"/{MENU}", "name": "Nightshift reports"}]
