"""A small client of Airflow's REST API (v2): the calls that the demo and the summary need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

import requests
from pydantic import BaseModel, JsonValue
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from nightshift.errors import ConfigurationError, NightshiftError, TransientError

PAGE = 100
RETRIES = Retry(4, backoff_factor=1, status_forcelist=range(500, 600), allowed_methods={"GET"}, raise_on_status=False)
"""Only reads are retried: a write may have succeeded."""
FINISHED = ("success", "failed")


class AirflowUnavailable(TransientError):
    """Airflow's API did not answer."""


class RequestFailed(NightshiftError):
    """Airflow's API answered with an error. `status` is the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(code, message)
        self.status = status


class DagRun(BaseModel):
    """A DAG run, with the API's names. `duration` (seconds) is None until it has ended."""

    dag_id: str
    dag_run_id: str
    state: str
    partition_key: str | None = None
    start_date: datetime | None = None
    duration: float | None = None
    conf: dict[str, JsonValue] | None = None


class TaskRun(BaseModel):
    """The newest try of one task of a DAG run, with the API's names."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    rendered_map_index: str | None = None
    state: str | None = None
    try_number: int

    @property
    def name(self) -> str:
        """The task id, with the name of the map index if the task is mapped."""
        return self.task_id + (f" [{self.rendered_map_index or self.map_index}]" if self.map_index >= 0 else "")


class AirflowApi:
    """Airflow's API, at the address and with the login of `make env`.

    Every method raises AirflowUnavailable if it does not answer, and RequestFailed if it answers with an error.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.url = environment["AIRFLOW_API_URL"].replace("localhost", "127.0.0.1")
        self._user, self._password = environment["NIGHTSHIFT_UI_USER"], environment["NIGHTSHIFT_UI_PASSWORD"]
        self._session = requests.Session()
        # No proxy: the API is on this machine.
        self._session.trust_env = False
        self._session.mount(f"{self.url}/api/", HTTPAdapter(max_retries=RETRIES))

    def call(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None, **query: Any) -> Any:
        """One request below /api/v2 and its JSON response. Logs in if there is no valid token."""
        try:
            return self._send(method, f"/api/v2{path}", json=body, params=query)
        except RequestFailed as error:
            if error.status != 401:
                raise
        self._log_in()
        return self._send(method, f"/api/v2{path}", json=body, params=query)

    def _log_in(self) -> None:
        try:
            token = self._send("POST", "/auth/token", json={"username": self._user, "password": self._password})
        except RequestFailed as error:
            raise ConfigurationError(
                "NS-LOCAL-001",
                f"Airflow at {self.url} did not accept the login of {self._user!r}: see its address in `make status`.",
            ) from error
        self._session.headers["Authorization"] = f"Bearer {token['access_token']}"

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._session.request(method, self.url + path, timeout=30, **arguments)
        except requests.RequestException as error:
            raise AirflowUnavailable(
                "NS-LOCAL-002", f"Airflow at {self.url} does not answer ({error}): see `make status`."
            ) from error
        if not response.ok:
            message = f"{method} {response.url} returned {response.status_code}: {response.text[:500]}"
            raise RequestFailed("NS-LOCAL-003", message, response.status_code)
        return response.json() if response.content else None

    # DAGs

    def dag_ids(self) -> set[str]:
        """Ids of all DAGs that were parsed."""
        return {dag["dag_id"] for dag in self._all("/dags", "dags")}

    def import_errors(self) -> dict[str, str]:
        """File name -> traceback of every DAG file that does not parse."""
        return {one["filename"]: one["stack_trace"] for one in self._all("/importErrors", "import_errors")}

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False}, update_mask="is_paused")

    def trigger(self, dag_id: str, conf: Mapping[str, JsonValue]) -> DagRun:
        """Start a run by hand."""
        return DagRun(**self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf)}))

    def backfill(self, dag_id: str, first: date, last: date, *, max_active_runs: int, reprocess: str) -> int | None:
        """Create runs for the partitions first..last; returns the backfill's id, or None if another one is under way.

        `reprocess`: "none", "failed" or "completed", what to do with partitions that have a run.
        """
        body: dict[str, JsonValue] = {
            "dag_id": dag_id,
            # Bounds are read as wall clock in the DAG's time zone; a partition's tick is at its cutoff time of day.
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T23:59:59Z",
            "max_active_runs": max_active_runs,
            "reprocess_behavior": reprocess,
        }
        try:
            return int(self.call("POST", "/backfills", body)["id"])
        except RequestFailed as error:
            if error.status == 409:
                return None
            raise

    # Runs

    def runs(self, dag_id: str) -> list[DagRun]:
        """All runs of a DAG, oldest first."""
        return [DagRun(**run) for run in self._all(f"/dags/{dag_id}/dagRuns", "dag_runs", order_by="id")]

    def newest_runs(self, dag_id: str) -> dict[str, DagRun]:
        """Partition key -> its newest successful run, else its newest run."""
        runs = sorted(self.runs(dag_id), key=lambda run: run.state == "success")
        return {run.partition_key: run for run in runs if run.partition_key is not None}

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """One run."""
        return DagRun(**self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"))

    def clear_failed(self, run: DagRun) -> None:
        """Clear the failed tasks of a run and their downstream tasks, so that they run again."""
        self.call("POST", f"{_path(run)}/clear", {"dry_run": False, "only_failed": True})

    def tasks(self, run: DagRun) -> list[TaskRun]:
        """The tasks of a run."""
        return [TaskRun(**task) for task in self._all(f"{_path(run)}/taskInstances", "task_instances")]

    def log_lines(self, task: TaskRun) -> list[str]:
        """The log of a task's newest try, one line per event, without Airflow's lines about its source."""
        path = f"{_path(task)}/taskInstances/{task.task_id}/logs/{task.try_number}"
        lines = []
        for event in self.call("GET", path, map_index=task.map_index, full_content="true")["content"]:
            if isinstance(event, str):
                lines.append(event)
            elif not event["event"].startswith("::"):
                lines.append(event["event"])
                # The first is the exception that was raised last; the others are its causes.
                lines += [f"{e['exc_type']}: {e['exc_value']}" for e in (event.get("error_detail") or [])[:1]]
        return lines

    def _all(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        offset, total = 0, 1
        while offset < total:
            page = self.call("GET", path, limit=PAGE, offset=offset, **query)
            yield from page[key]
            offset, total = offset + PAGE, page["total_entries"]


def _path(run: DagRun | TaskRun) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}"
