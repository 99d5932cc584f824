"""The local stack of the second use case, with a real scheduler, spoken to as a user would: by commands and the API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import psycopg
import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.local.airflow_api import AirflowApi, DagRun
from nightshift.local.layout import DATABASES, Layout
from nightshift.settings import load_settings
from support.second_use_case import ROOT

USE_CASE = "late_returns"
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 900.0
"""For one command, and for one thing that is waited for, on a machine that others use as well."""
PASSWORD = "database-s3cr3t"
NIGHTSHIFT = f"""
import sys
from nightshift.cli import main
from nightshift.local.postgres import PostgresPlace
url = PostgresPlace.url
PostgresPlace.url = lambda place, name, driver="": url(place, name, driver).replace(":@", f":{PASSWORD}-{{name}}@")
sys.exit(main())
"""
"""The command `nightshift`, with a password in the URL of each database. PostgreSQL, which trusts whoever reaches its
socket, does not ask for it: it is there to be searched for."""


class LocalStack:
    """A stack in a folder and on ports of its own."""

    def __init__(self, folder: Path) -> None:
        ports = {f"NIGHTSHIFT_{name}_PORT": "0" for name in ("UI", "MLFLOW", "S3")}
        foreign = ("AIRFLOW", "AWS_", "MLFLOW_", "NIGHTSHIFT_", "PYTEST")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            **ports,
            "NIGHTSHIFT_LOCAL_DIR": str(folder),
            "NIGHTSHIFT_USE_CASE_ROOTS": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    # Commands

    def nightshift(self, *words: str) -> str:
        return self._run([sys.executable, "-c", NIGHTSHIFT, *words])

    def airflow(self, *words: str) -> str:
        return self._run([sys.executable, "-m", "airflow", *words])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def start(self) -> None:
        self.nightshift("up")
        for line in self.nightshift("env").splitlines():
            name, value = line.removeprefix("export ").split("=", 1)
            self.environment[name] = value.strip("'")
        self.api = AirflowApi(self.environment)

    @property
    def layout(self) -> Layout:
        return Layout(Path(self.environment["NIGHTSHIFT_LOCAL_DIR"]))

    def secrets(self) -> dict[str, str]:
        """What the stack keeps secret, by what it opens."""
        folder = self.layout.folder / "s3"
        signing = tomllib.loads((folder / "security.toml").read_text())["jwt"]["signing"]
        return {
            **self.layout.credentials().model_dump(),
            **{f"database {name}": f"{PASSWORD}-{name}" for name in DATABASES},
            "signing key of the store, to write": signing["key"],
            "signing key of the store, to read": signing["read"]["key"],
            "key of the store's certificate": (folder / "grpc.key").read_text().splitlines()[1],
        }

    @contextmanager
    def in_this_process(self) -> Iterator[None]:
        """The settings of this process are those of the stack."""
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in self.environment.items():
                    if name.startswith(("AWS_", "NIGHTSHIFT_")) and name != "NIGHTSHIFT_LOCAL_DIR":
                        patch.setenv(name, value)
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)
                load_settings.cache_clear()
                yield
        finally:
            load_settings.cache_clear()

    def page(self, path: str, *, signed_in: bool = True, token: str = "") -> bytes:
        """A page of the API server; with `token` in place of signing in."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if signed_in and not token:
            user, password = (self.environment[f"NIGHTSHIFT_UI_{name}"] for name in ("USER", "PASSWORD"))
            login = json.dumps({"username": user, "password": password}).encode()
            with self._open("auth/token", login, {"Content-Type": "application/json"}) as answer:
                headers["Authorization"] = f"Bearer {json.loads(answer.read())['access_token']}"
        with self._open(path, None, headers) as answer:
            return answer.read()

    def _open(self, path: str, data: bytes | None, headers: dict[str, str]) -> Any:
        return urllib.request.urlopen(
            urllib.request.Request(f"{self.environment['AIRFLOW_API_URL']}/{path}", data, headers)
        )

    # Runs

    def runs(self, stage: str = "~") -> list[DagRun]:
        """The runs of a stage, or of all stages, oldest first."""
        return self.api.runs("~" if stage == "~" else f"{USE_CASE}.{stage}")

    def run_of(self, stage: str, partition: str) -> DagRun | None:
        """The newest run of a partition, or of the range that ends with it."""
        return next((run for run in reversed(self.runs(stage)) if _partition(run) == partition), None)

    def wait(self, stages: Iterable[str], partitions: Sequence[str], *, runs: int = 1) -> None:
        """Wait until every stage has had that many runs of each partition, all successful."""
        wanted = {(f"{USE_CASE}.{stage}", partition) for stage in stages for partition in partitions}

        def states() -> dict[tuple[str, str], list[str]]:
            found: dict[tuple[str, str], list[str]] = {one: [] for one in wanted}
            for run in self.runs():
                found.get((run.dag_id, str(_partition(run))), []).append(run.state)
            failed = [dag_id for (dag_id, _), all_states in found.items() if "failed" in all_states]
            assert not failed, f"failed: {failed}\n{self.why(failed[0])}"
            return found

        self._wait(states, lambda found: all(one == ["success"] * runs for one in found.values()))

    def wait_for_task(self, stage: str, partition: str, task_id: str, states: Sequence[str]) -> DagRun:
        """Wait until a task of the newest run of a partition has one of the states. Returns the run."""

        def state() -> tuple[DagRun, str | None] | None:
            if (run := self.run_of(stage, partition)) is None:
                return None
            found = next((task.state for task in self.api.tasks(run) if task.task_id == task_id), None)
            assert found != "failed", self.why(run.dag_id)
            return run, found

        found = self._wait(state, lambda both: both is not None and both[1] in states)
        assert found is not None
        return found[0]

    def _wait(self, look: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done(found := look()):
            assert time.monotonic() < deadline, f"not finished: {found}\n{self.unfinished()}"
            time.sleep(POLL_SECONDS)
        return found

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait until `done` returns true."""
        self._wait(done, bool)

    def backfill(self, first: date, last: date, *, reprocess: str = "none") -> None:
        """Backfill partitions, two at a time, as soon as no other backfill is under way."""

        def created() -> int | None:
            return self.api.backfill(f"{USE_CASE}.ingest", first, last, max_active_runs=2, reprocess=reprocess)

        self._wait(created, lambda number: number is not None)

    def run(self, stage: str, partition: str) -> None:
        """Start a stage for one partition, as the UI's form does it."""
        path = f"/dags/{USE_CASE}.{stage}/dagRuns"
        self.api.call("POST", path, {"logical_date": None, "partition_key": partition})

    def fall_due(self, partition: date) -> None:
        """Let the scheduler find a partition of the past due, and create its scheduled run, which no command does.

        The row that it reads gets the values that it had on that day. Airflow clears them when it has created the run,
        and when it reads the DAG file, which says that the replay is over: then they are set again.
        """
        with self.in_this_process():
            use_case = load_use_case(USE_CASE)
        values = {
            "dag_id": f"{USE_CASE}.ingest",
            "key": str(partition),
            "date": use_case.cutoff(partition - timedelta(days=1)),
            "cutoff": use_case.cutoff(partition),
        }
        runs = "SELECT FROM dag_run WHERE dag_id = %(dag_id)s AND partition_key = %(key)s AND run_type = 'scheduled'"

        def created() -> bool:
            with psycopg.connect(self.layout.postgres.url("airflow")) as metadata:
                metadata.execute(
                    "UPDATE dag SET next_dagrun_partition_key = %(key)s, next_dagrun_partition_date = %(date)s, "
                    "next_dagrun_create_after = %(cutoff)s WHERE dag_id = %(dag_id)s "
                    f"AND next_dagrun_create_after IS NULL AND NOT EXISTS ({runs})",
                    values,
                )
                return metadata.execute(runs, values).rowcount > 0

        self.wait_until(created)

    def answer(self, run: DagRun, option: str) -> None:
        """Answer the question that a run asks a person, and not in the same moment.

        Airflow 3.3 takes a task that goes on before the scheduler has read how its first process ended for one that was
        killed: it is tried again, and a second answer is waited for.
        """
        ended = f"Received executor event with state success for task instance TaskInstanceKey(dag_id={run.dag_id!r}, "
        of_run = f"task_id='approve', run_id={run.dag_run_id!r}"
        self.wait_until(lambda: any(ended + of_run in line for line in self._scheduler_log()))
        path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances/approve/-1/hitlDetails"
        self.api.call("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def by_hand(self, stage: str, conf: dict[str, Any]) -> None:
        """Trigger a DAG as a person does, and wait until it has succeeded."""
        run = self.api.trigger(f"{USE_CASE}.{stage}", conf)

        def state() -> str:
            found = self.api.run(run.dag_id, run.dag_run_id).state
            assert found != "failed", self.why(run.dag_id)
            return found

        self._wait(state, lambda found: found == "success")

    def why(self, dag_id: str) -> str:
        """The logs of the failed tasks of a DAG."""
        runs = [run for run in self.api.runs(dag_id) if run.state != "success"]
        tasks = [task for run in runs for task in self.api.tasks(run) if task.state == "failed"]
        return "\n".join("\n".join([task.name, *self.api.log_lines(task)[-40:]]) for task in tasks[:5])

    def unfinished(self) -> str:
        """The tasks of the running runs that have not succeeded, with the ends of their logs, and the scheduler's."""
        runs = [run for run in self.runs() if run.state == "running"]
        tasks = [task for run in runs for task in self.api.tasks(run) if task.state not in ("success", "skipped")]
        lines = [f"{task.dag_id} {task.name}: {task.state}, try {task.try_number}" for task in tasks]
        for task in tasks[:5]:
            if task.state is not None:
                lines += ["", task.name, *self.api.log_lines(task)[-20:]]
        return "\n".join([*lines, "", *self._scheduler_log()[-60:]])

    def _scheduler_log(self) -> list[str]:
        return self.layout.log("scheduler").read_text().splitlines()

    # The stores

    def put(self, key: str, body: bytes) -> None:
        """Put an object into the bucket."""
        url, name, secret = (
            self.environment[f"AWS_{one}"] for one in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
        )
        keys = {"aws_access_key_id": name, "aws_secret_access_key": secret}
        s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        s3.put_object(Bucket=self.environment["NIGHTSHIFT_BUCKET"], Key=key, Body=body)

    def rows(self, query: str) -> list[tuple]:
        """Rows of the warehouse."""
        with psycopg.connect(self.environment["NIGHTSHIFT_WAREHOUSE_URL"]) as connection:
            return connection.execute(query).fetchall()

    def metadata(self, query: str) -> list[tuple]:
        """Rows of Airflow's metadata database."""
        with psycopg.connect(self.layout.postgres.url("airflow")) as connection:
            return connection.execute(query).fetchall()


def _partition(run: DagRun) -> str | None:
    """The partition of a run; for a run over a range, the last one."""
    last = (run.conf or {}).get("last")
    return run.partition_key or (str(last) if last else None)
