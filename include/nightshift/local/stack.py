"""Starts, stops and watches the local stack: SeaweedFS, PostgreSQL, MLflow and Airflow, without Docker."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nightshift.declare.discovery import ROOTS_VARIABLE
from nightshift.errors import ConfigurationError
from nightshift.local import layout as layouts
from nightshift.local import postgres, processes, services
from nightshift.local.layout import Layout, State
from nightshift.local.processes import ProcessRecord

SERVICES = ("s3", "postgres", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer")
"""In the order in which they start; they stop in the opposite order."""
STORES = ("s3", "postgres")
PORT_OF_SERVICE = {"s3": "s3", "mlflow": "mlflow", "api-server": "ui"}
AIRFLOW_MODULES = {
    "api-server": ("airflow", "api-server"),
    "scheduler": ("nightshift.local.preloaded", "scheduler", "--skip-serve-logs"),
    "dag-processor": ("airflow", "dag-processor"),
    "triggerer": ("airflow", "triggerer", "--skip-serve-logs"),
}
LAST_SERVICE = "triggerer"
"""The start does not wait for it, because no step needs it."""
LEAST_FREE_BYTES = 2 * 1024**3
START_SECONDS = 180.0
STOP_SECONDS = 30.0

Say = Callable[[str], None]


class ServiceStatus(NamedTuple):
    """One row of `status`: `state` is "running", "stopped" or "dead" (ended unexpectedly)."""

    service: str
    state: str
    pid: int | None
    address: str


class Stack:
    """The local stack below one folder. `say` gets lines of progress."""

    def __init__(self, layout: Layout | None = None, say: Say = print) -> None:
        self.layout = layout or Layout.default()
        self.say = say

    # Start

    def up(self) -> None:
        """Start the services that are not running, and wait until all respond. Idempotent.

        Raises ConfigurationError for a busy port, a full disk, other roots, or a service that does not start.
        """
        self._up(SERVICES, self._start_missing)

    def up_stores(self) -> None:
        """Start the stores alone, to restore a backup. Idempotent. Raises as `up` does."""
        self._up(STORES, self._start_stores)

    def _up(self, names: Sequence[str], start: Callable[[State, set[str]], None]) -> None:
        started = time.monotonic()
        self.layout.folder.mkdir(parents=True, exist_ok=True)
        self._check_disk()
        with self._only_one():
            state = self.layout.state()
            # A scheduler that was killed leaves its workers behind: they finish their tasks, `down` stops them.
            state.dead = [record for record in self._dead(state) if processes.session(record)]
            state.processes = self._alive(state)
            running = set(state.processes)
            roots = os.environ.get(ROOTS_VARIABLE, state.roots)
            if running and roots != state.roots:
                raise ConfigurationError(
                    "NS-LOCAL-023",
                    f"The local stack runs with {ROOTS_VARIABLE}={state.roots!r}, this shell has {roots!r}: "
                    "run `make down` first.",
                )
            state.roots = roots
            what = "The local stack is" if names == SERVICES else "The stores of the local stack are"
            if running >= set(names):
                self.say(f"{what} up already ({self._address(state, 'api-server')}).")
                return
            in_use = running | {PORT_OF_SERVICE[name] for name in running & set(PORT_OF_SERVICE)}
            state.ports = layouts.choose_ports(state.ports, in_use)
            self.layout.save(state)
            try:
                start(state, running)
            finally:
                # After an error `down` must find the services that were started.
                self.layout.save(state)
            took = time.monotonic() - started
            self.say(f"{what} up after {took:.0f} s ({self._address(state, 'api-server')}).")

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.layout.folder).free
        if free < LEAST_FREE_BYTES:
            raise ConfigurationError(
                "NS-LOCAL-024",
                f"{self.layout.folder} has {free / 1024**3:.1f} GiB of free disk and the local stack needs "
                f"{LEAST_FREE_BYTES / 1024**3:.0f}: free some, or set {layouts.FOLDER_VARIABLE} to another disk.",
            )

    def _start_missing(self, state: State, running: set[str]) -> None:
        layouts.write_passwords(self.layout)
        public = layouts.public_environment(self.layout, state)
        environment = layouts.service_environment(public)
        self._start_stores(state, running)
        if "mlflow" not in running:
            self.say(f"Starting MLflow on port {state.ports['mlflow']}.")
            database = self.layout.postgres.url("mlflow", "+psycopg2")
            command = services.mlflow_command(state.ports["mlflow"], database, f"s3://{layouts.BUCKET}/mlflow")
            self._spawn(state, "mlflow", command, environment)
        self._migrate_airflow(state, environment)
        missing = [name for name in AIRFLOW_MODULES if name not in running]
        for name in missing:
            if name != LAST_SERVICE:
                self.say(f"Starting Airflow's {name}.")
                self._spawn(state, name, [sys.executable, "-m", *AIRFLOW_MODULES[name]], environment)
        self._wait(state, "mlflow", lambda: _body(f"{public['MLFLOW_TRACKING_URI']}/health") is not None)
        self._wait(state, "api-server", lambda: self._airflow_health(state) is not None)
        for name in ("scheduler", "dag-processor"):
            self._wait(state, name, partial(self._is_healthy, state, name))
        if LAST_SERVICE in missing:
            self.say(f"Starting Airflow's {LAST_SERVICE}.")
            self._spawn(state, LAST_SERVICE, [sys.executable, "-m", *AIRFLOW_MODULES[LAST_SERVICE]], environment)

    def _start_stores(self, state: State, running: set[str]) -> None:
        with ThreadPoolExecutor(2) as pool:
            stores = [
                pool.submit(start, state)
                for name, start in (("s3", self._start_s3), ("postgres", self._start_postgres))
                if name not in running
            ]
            for store in stores:
                store.result()
        self.layout.save(state)

    def _start_s3(self, state: State) -> None:
        self.say(f"Starting SeaweedFS (S3) on port {state.ports['s3']}.")
        credentials = self.layout.credentials()
        server = services.start_s3(
            self.layout.folder / "s3",
            state.ports,
            access_key=layouts.S3_ACCESS_KEY,
            secret_key=credentials.s3_secret_key,
            landing=services.LandingKey(layouts.BUCKET, credentials.landing_secret_key),
            log=self.layout.log("s3"),
        )
        state.processes["s3"] = server.process
        services.ensure_bucket(server, layouts.BUCKET)

    def _start_postgres(self, state: State) -> None:
        outside = self.layout.postgres.outside
        self.say(f"Starting PostgreSQL{f' (in {outside}, which its user can enter)' if outside else ''}.")
        folder, log = self.layout.folder / "postgres", self.layout.log("postgres")
        state.processes["postgres"] = postgres.start_postgres(folder, databases=layouts.DATABASES, log=log).process

    def _migrate_airflow(self, state: State, environment: dict[str, str]) -> None:
        version = importlib.metadata.version("apache-airflow")
        if state.migrated_for == version:
            return
        self.say("Preparing Airflow's database.")
        log = self.layout.log("migrate")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            process = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.layout.folder,
                check=False,
            )
        if process.returncode:
            raise ConfigurationError(
                "NS-LOCAL-025", f"Airflow's database could not be prepared. The end of {log}:\n{processes.tail(log)}"
            )
        state.migrated_for = version
        self.layout.save(state)

    def _spawn(self, state: State, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        state.processes[name] = processes.spawn(
            command, log=self.layout.log(name), env=environment, cwd=self.layout.folder
        )
        self.layout.save(state)

    def _wait(self, state: State, name: str, ready: Callable[[], bool]) -> None:
        processes.wait_until(
            ready, record=state.processes[name], name=name, log=self.layout.log(name), timeout=START_SECONDS, poll=0.25
        )

    def _airflow_health(self, state: State) -> dict[str, dict[str, str]] | None:
        body = _body(f"http://127.0.0.1:{state.ports['ui']}/api/v2/monitor/health")
        return json.loads(body) if body else None

    def _is_healthy(self, state: State, name: str) -> bool:
        """True if the component reported a heartbeat since its start; older heartbeats are of an earlier process."""
        component = name.replace("-", "_")
        health = (self._airflow_health(state) or {}).get(component) or {}
        reported = health.get(f"latest_{component}_heartbeat")
        started = state.processes[name].created
        return bool(reported) and datetime.fromisoformat(str(reported)).timestamp() > started

    # Stop

    def down(self) -> None:
        """Stop every service of this stack, last started first. Idempotent."""
        if not self.layout.folder.exists():
            self.say("There is no local stack.")
            return
        with self._only_one():
            state = self.layout.state()
            alive = self._alive(state)
            running = [name for name in reversed(SERVICES) if name in alive]
            if not running:
                self.say("The local stack is down already." if not state.processes else "Nothing was running any more.")
            if [record for record in self._dead(state) if processes.stop(record)]:
                self.say("Stopped processes that services left behind when they died.")
            # Airflow and MLflow write to the stores while they stop.
            for are_stores in (False, True):
                group = [name for name in running if (name in STORES) == are_stores]
                with ThreadPoolExecutor(len(SERVICES)) as pool:
                    list(pool.map(partial(self._stop, state), group))
            state.processes, state.dead = {}, []
            self.layout.save(state)
        if running:
            self.say("The local stack is down.")

    def _stop(self, state: State, name: str) -> None:
        # SIGINT is PostgreSQL's fast shutdown: it ends sessions instead of waiting for them.
        processes.stop(state.processes[name], timeout=STOP_SECONDS, interrupt=name == "postgres")
        self.say(f"Stopped {name}.")

    def clean(self) -> None:
        """Stop everything and remove the stack's folder with all its data."""
        folder = self.layout.folder
        if not folder.exists():
            self.say(f"There is nothing to clean: {folder} does not exist.")
            return
        self.down()
        for path in filter(None, (folder, self.layout.postgres.outside)):
            if path.exists():
                shutil.rmtree(path)
                self.say(f"Removed {path}.")

    # Look

    def status(self) -> list[ServiceStatus]:
        """One row per service."""
        state = self.layout.state()
        alive = self._alive(state)
        return [
            ServiceStatus(
                service=name,
                state="running" if name in alive else "dead" if name in state.processes else "stopped",
                pid=alive[name].pid if name in alive else None,
                address=self._address(state, name),
            )
            for name in SERVICES
        ]

    def environment(self) -> dict[str, str]:
        """What `env` prints. Raises ConfigurationError if the stack was never started."""
        return layouts.public_environment(self.layout, self.layout.state())

    def log_files(self, service: str | None) -> list[Path]:
        """Log files of one service, or of all. Raises ConfigurationError for an unknown service."""
        if service is not None and service not in SERVICES:
            raise ConfigurationError(
                "NS-LOCAL-026", f"No service is called {service!r}; they are {', '.join(SERVICES)}."
            )
        return [path for name in ([service] if service else SERVICES) if (path := self.layout.log(name)).exists()]

    def login(self) -> str:
        """Addresses for users: UI with its login, MLflow, tables, bucket."""
        environment = self.environment()
        psql = self.layout.postgres.installation / "bin" / "psql"
        return "\n".join(
            [
                f"Airflow  {environment['AIRFLOW_API_URL']}  (user {environment['NIGHTSHIFT_UI_USER']}, "
                f"password {environment['NIGHTSHIFT_UI_PASSWORD']})",
                f"MLflow   {environment['MLFLOW_TRACKING_URI'].replace('127.0.0.1', 'localhost')}",
                f"Tables   {psql} '{environment['NIGHTSHIFT_WAREHOUSE_URL']}'",
                f"Bucket   s3://{environment['NIGHTSHIFT_BUCKET']} at {environment['AWS_ENDPOINT_URL']}; "
                'any S3 client after: eval "$(make -s env)"',
            ]
        )

    def _address(self, state: State, name: str) -> str:
        """Address of a service: a URL or a folder; empty for services that only Airflow uses."""
        if name == "postgres":
            return str(self.layout.postgres.sockets) if state.ports else ""
        port = state.ports.get(PORT_OF_SERVICE.get(name, ""))
        return f"http://localhost:{port}" if port else ""

    def _alive(self, state: State) -> dict[str, ProcessRecord]:
        return {name: record for name, record in state.processes.items() if processes.find(record) is not None}

    def _dead(self, state: State) -> list[ProcessRecord]:
        ended = [record for record in state.processes.values() if processes.find(record) is None]
        return [*state.dead, *ended]

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        path = self.layout.folder / "lock"
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    "NS-LOCAL-027",
                    f"Another command is starting or stopping the local stack in {self.layout.folder}: wait for it.",
                ) from None
            yield


def _body(url: str) -> bytes | None:
    """Body of a response with status 200, or None."""
    response = processes.http_get(url)
    return response[1] if response is not None and response[0] == 200 else None
