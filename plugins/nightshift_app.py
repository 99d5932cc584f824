"""Adds the app and MLflow to Airflow's menu, and to task instances a link to the app's page about their partition.

Only registration and access control: the pages are `nightshift.app`. Airflow does not authenticate a plugin's
endpoints, so each page requires a signed-in user, and shows the use cases whose DAGs that user may read.
"""

import hmac
import os
from functools import cache
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

MENU = "nightshift"
ROUTE = "nightshift"

EVIDENCE = {
    "publish": "data",
    "publish_predictions": "night/{partition}",
    "compare_drift": "drift",
    "report_drift": "drift",
    "record_performance": "performance",
    "register": "model",
    "report_training": "model",
}
"""The page of the app, below the use case, that shows what a step has done; other steps have no link."""


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


def readable(user: Any) -> list[Any]:
    """The use cases whose DAGs a user may read."""
    from nightshift.declare.discovery import all_use_cases

    return [use_case for use_case in all_use_cases() if may_read(user, use_case.name)]


def may_read(user: Any, use_case: str) -> bool:
    """Whether a user may read the DAGs of a use case."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    return bool(
        get_auth_manager().is_authorized_dag(method="GET", details=DagDetails(id=f"{use_case}.ingest"), user=user)
    )


@cache
def _app() -> Any:
    from airflow.api_fastapi.core_api.security import GetUserDep, bearer_scheme
    from fastapi import Depends, Request

    from nightshift.app.application import create_app

    # GetUserDep raises 401 for a request without a user.
    def of_user(user: GetUserDep) -> list[Any]:
        return readable(user)

    async def of_scrape(request: Request, bearer: Any = Depends(bearer_scheme)) -> list[Any]:  # noqa: B008 - FastAPI's way
        return await scraped(request, bearer)

    return create_app(of_user, f"/{MENU}", of_scrape)


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    """The app as an ASGI application, built on the first request: every Airflow process loads plugins, but only the
    API server needs a web framework."""
    await _app()(scope, receive, send)


class ImportsTheApp:
    """A middleware of the API server that imports the app in a thread when the server starts, and does nothing else.

    So the first view does not wait for it, nor does any other Airflow process import it.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        Thread(target=_app, daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on a request."""
        await self._app(scope, receive, send)


def _menu() -> list[dict[str, str]]:
    place = {"destination": "nav", "category": "browse"}
    views = [{"name": "Nightshift", "href": f"/{MENU}/", "url_route": ROUTE, **place}]
    tracking = urlsplit(os.environ.get("NIGHTSHIFT_MLFLOW_UI_URL") or os.environ.get("MLFLOW_TRACKING_URI", ""))
    if tracking.scheme in ("http", "https"):
        # Everybody sees the menu: without user and password.
        shown = tracking._replace(netloc=tracking.netloc.rpartition("@")[2])
        views.append({"name": "MLflow", "href": shown.geturl(), **place})
    return views


class EvidenceLink(BaseOperatorLink):
    """From a task instance to the app's page about what it did, inside Airflow's frame."""

    name = "Evidence"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        """The address, or "" for a step without a page. Called by the API server."""
        use_case, _, _ = ti_key.dag_id.rpartition(".")
        page = EVIDENCE.get(ti_key.task_id)
        if not use_case or page is None:
            return ""
        if "{partition}" in page:
            partition = _partition(ti_key.dag_id, ti_key.run_id)
            page = page.format(partition=partition) if partition else ""
        base = _base_path()
        return f"{base}/plugin/{ROUTE}/{MENU}/{use_case}/{page}".rstrip("/")


def _partition(dag_id: str, run_id: str) -> str | None:
    """The partition key of a run, or None."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(DagRun.partition_key).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        return session.scalar(query)


def _base_path() -> str:
    """The path of Airflow's own pages: "" unless it is served below one."""
    from airflow.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


class NightshiftApp(AirflowPlugin):
    """Registers the app, the menu entries and the links."""

    name = "nightshift_app"
    external_views = _menu()
    fastapi_apps = [{"app": _serve, "url_prefix": f"/{MENU}", "name": "Nightshift"}]
    fastapi_root_middlewares = [{"middleware": ImportsTheApp, "name": "Nightshift: import the app"}]
    global_operator_extra_links = [EvidenceLink()]
