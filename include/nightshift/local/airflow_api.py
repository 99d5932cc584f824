"""A small client of Airflow's REST API (v2): what `nightshift demo` and tests need to drive DAGs and watch them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from nightshift.errors import ConfigurationError, NightshiftError, TransientError

PAGE = 100
TRIES = 5
FINISHED = ("success", "failed")

NIGHTLY = ("ingest", "materialize", "train", "promote", "predict", "check_drift")
"""Stages whose DAGs make up a night, in their order."""


class AirflowUnavailable(TransientError):
    """Airflow's API did not answer."""


class RequestRefused(NightshiftError):
    """Airflow's API answered with an error. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class DagRun:
    """A DAG run. `seconds` is None until it has ended."""

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    started_at: datetime | None
    seconds: float | None
    conf: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """True if it succeeded or failed."""
        return self.state in FINISHED


@dataclass(frozen=True)
class TaskRun:
    """The newest try of one task of a DAG run. `name` is the task id, with the map index' name if it is mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    name: str
    state: str | None
    try_number: int


class AirflowApi:
    """The API at `url` (scheme, host, port) as one user. Every method raises AirflowUnavailable or RequestRefused."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._login = {"username": user, "password": password}
        self._token = ""
        # No proxy: the API is on this machine, whatever the user's environment says.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """One request below /api/v2, its JSON answer. Logs in when needed and again when the token has run out."""
        address = f"{self.url}/api/v2{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        if not self._token:
            self._log_in()
        try:
            return self._send(method, address, body)
        except RequestRefused as error:
            if error.status != 401:
                raise
            self._log_in()
            return self._send(method, address, body)

    def _log_in(self) -> None:
        self._token = ""
        try:
            self._token = self._send("POST", f"{self.url}/auth/token", self._login)["access_token"]
        except RequestRefused as error:
            raise ConfigurationError(
                f"Airflow at {self.url} refused the login of {self._login['username']!r}; is it this project's? "
                f"Run `make status`."
            ) from error

    def _send(self, method: str, address: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(address, method=method)
        request.add_header("Accept", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        for attempt in range(1, TRIES + 1):
            try:
                with self._opener.open(request, timeout=30) as response:
                    text = response.read()
                    return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                with error:
                    detail = error.read().decode(errors="replace")[:500]
                # Asking again is safe for reads only; a write may have been done.
                if error.code < 500 or method != "GET" or attempt == TRIES:
                    raise RequestRefused(
                        f"{method} {address} was answered with {error.code}: {detail}", error.code
                    ) from None
            except OSError as error:
                if method != "GET" or attempt == TRIES:
                    raise AirflowUnavailable(
                        f"Airflow at {self.url} does not answer ({error}): see `make status`."
                    ) from error
            time.sleep(attempt)
        raise AssertionError("unreachable")

    # DAGs

    def dag_ids(self) -> set[str]:
        """Ids of all DAGs that were parsed."""
        return {dag["dag_id"] for dag in self._all("/dags", "dags")}

    def import_errors(self) -> dict[str, str]:
        """File name -> traceback of every DAG file that does not parse."""
        return {e["filename"]: e["stack_trace"] for e in self._all("/importErrors", "import_errors")}

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False}, update_mask="is_paused")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, partition_key: str | None = None) -> DagRun:
        """Start a run by hand."""
        body = {"logical_date": None, "conf": dict(conf or {}), "partition_key": partition_key}
        return _dag_run(self.call("POST", f"/dags/{dag_id}/dagRuns", body))

    def backfill(self, dag_id: str, first: date, last: date, *, max_active_runs: int, reprocess: str) -> int | None:
        """Create runs for the partitions first..last; returns the backfill's id, or None if another one is under way.

        `reprocess`: "none", "failed" or "completed", what to do with partitions that have a run.
        """
        body = {
            "dag_id": dag_id,
            # Bounds are read as wall clock in the DAG's time zone; a partition's tick is at its cutoff time of day.
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T23:59:59Z",
            "max_active_runs": max_active_runs,
            "reprocess_behavior": reprocess,
        }
        try:
            return int(self.call("POST", "/backfills", body)["id"])
        except RequestRefused as error:
            if error.status == 409:
                return None
            raise

    # Runs

    def runs(self, dag_id: str) -> list[DagRun]:
        """All runs of a DAG, oldest first."""
        return [_dag_run(run) for run in self._all(f"/dags/{dag_id}/dagRuns", "dag_runs", order_by="id")]

    def newest_runs(self, dag_id: str) -> dict[str, DagRun]:
        """Partition key -> its run that counts: the newest that succeeded, else the newest."""
        newest: dict[str, DagRun] = {}
        for run in self.runs(dag_id):
            if run.partition_key is None:
                continue
            before = newest.get(run.partition_key)
            if before is None or before.state != "success" or run.state == "success":
                newest[run.partition_key] = run
        return newest

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """One run."""
        return _dag_run(self.call("GET", f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"))

    def clear_failed(self, run: DagRun) -> None:
        """Run the failed tasks of a run, and what follows them, again."""
        self.call("POST", f"{_path(run)}/clear", {"dry_run": False, "only_failed": True})

    def tasks(self, run: DagRun) -> list[TaskRun]:
        """The tasks of a run."""
        return [
            TaskRun(
                dag_id=task["dag_id"],
                run_id=task["dag_run_id"],
                task_id=task["task_id"],
                map_index=task["map_index"],
                name=task["task_id"] + (f" [{_map_name(task)}]" if task["map_index"] >= 0 else ""),
                state=task["state"],
                try_number=task["try_number"],
            )
            for task in self._all(f"{_path(run)}/taskInstances", "task_instances")
        ]

    def log_lines(self, task: TaskRun) -> list[str]:
        """The log of a task's newest try, one line an event; what Airflow says about the log's source is left out."""
        run = urllib.parse.quote(task.run_id, safe="")
        answer = self.call(
            "GET",
            f"/dags/{task.dag_id}/dagRuns/{run}/taskInstances/{task.task_id}/logs/{task.try_number}",
            map_index=task.map_index,
            full_content="true",
        )
        lines = []
        for event in answer["content"]:
            if isinstance(event, str):
                lines.append(event)
            elif not event["event"].startswith("::"):
                lines.append(event["event"])
                # The first is the exception that was raised last; the others are what it came from.
                lines += [f"{e['exc_type']}: {e['exc_value']}" for e in (event.get("error_detail") or [])[:1]]
        return lines

    def _all(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            answer = self.call("GET", path, limit=PAGE, offset=offset, **query)
            yield from answer[key]
            offset += PAGE
            if len(answer[key]) < PAGE or offset >= (answer.get("total_entries") or 0):
                return


def _path(run: DagRun) -> str:
    return f"/dags/{run.dag_id}/dagRuns/{urllib.parse.quote(run.run_id, safe='')}"


def _map_name(task: Mapping[str, Any]) -> str:
    return str(task.get("rendered_map_index") or task["map_index"])


def _dag_run(run: Mapping[str, Any]) -> DagRun:
    start, end = (datetime.fromisoformat(run[k]) if run[k] else None for k in ("start_date", "end_date"))
    return DagRun(
        dag_id=run["dag_id"],
        run_id=run["dag_run_id"],
        state=run["state"],
        partition_key=run["partition_key"],
        started_at=start,
        conf=run["conf"] or {},
        seconds=(end - start).total_seconds() if start and end else None,
    )
