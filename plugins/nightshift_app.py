"""Adds the app and MLflow to Airflow's menu, and to task instances a link to the app's page about their partition.

Only registration and access control: the pages are `nightshift.app`. Airflow does not authenticate a plugin's
endpoints, so each page requires a signed-in user, and shows the use cases whose DAGs that user may read.
"""

import os
from functools import cache
from typing import Any

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


def may_read(user: Any, use_case: str) -> bool:
    """Whether a user may read the DAGs of a use case."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    return bool(
        get_auth_manager().is_authorized_dag(method="GET", details=DagDetails(id=f"{use_case}.ingest"), user=user)
    )


@cache
def _app() -> Any:
    from airflow.api_fastapi.core_api.security import GetUserDep

    from nightshift.app.application import create_app
    from nightshift.declare.discovery import all_use_cases

    # GetUserDep raises 401 for a request without a user.
    def readable(user: GetUserDep) -> list[Any]:
        return [use_case for use_case in all_use_cases() if may_read(user, use_case.name)]

    return create_app(readable, mounted_at=f"/{MENU}")


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    """The app as an ASGI application, built on the first request: every Airflow process loads plugins, but only the
    API server needs a web framework."""
    await _app()(scope, receive, send)


def _menu() -> list[dict[str, str]]:
    place = {"destination": "nav", "category": "browse"}
    views = [{"name": "Nightshift", "href": f"/{MENU}/", "url_route": ROUTE, **place}]
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith("http"):
        views.append({"name": "MLflow", "href": tracking, **place})
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
    from urllib.parse import urlsplit

    from airflow.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


class NightshiftApp(AirflowPlugin):
    """Registers the app, the menu entries and the links."""

    name = "nightshift_app"
    external_views = _menu()
    fastapi_apps = [{"app": _serve, "url_prefix": f"/{MENU}", "name": "Nightshift"}]
    global_operator_extra_links = [EvidenceLink()]
