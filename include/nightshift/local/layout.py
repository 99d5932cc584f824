"""Folders, ports and credentials of the local stack, and the environment variables derived from them.

Everything is below one folder, `.local/` of the project (NIGHTSHIFT_LOCAL_DIR):

    state.json          ports, process ids
    credentials.json    generated once; only its owner may read it
    logs/               one file per service
    s3/ postgres/ airflow/
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightshift.artifact import Value
from nightshift.declare.discovery import PROJECT_ROOT, ROOTS_VARIABLE
from nightshift.errors import ConfigurationError
from nightshift.local import postgres, processes, services
from nightshift.local.postgres import PostgresPlace
from nightshift.local.processes import ProcessRecord

FOLDER_VARIABLE = "NIGHTSHIFT_LOCAL_DIR"
BUCKET = "nightshift"
S3_ACCESS_KEY = "nightshift"
UI_USER = "admin"
DATABASES = ("airflow", "mlflow", "warehouse")
PARALLEL_TASKS = 4

DEFAULT_PORTS = {"ui": 8080, "mlflow": 5500, "s3": 8333}
"""Ports for users; each can be changed by PORT_VARIABLES. All other ports are chosen at start."""
PORT_VARIABLES = {"ui": "NIGHTSHIFT_UI_PORT", "mlflow": "NIGHTSHIFT_MLFLOW_PORT", "s3": "NIGHTSHIFT_S3_PORT"}

INNER_PORTS = {
    **{name: "s3" for name in services.PORTS if name not in DEFAULT_PORTS},
    "task_logs": "scheduler",
    "trigger_logs": "triggerer",
}
"""Ports that only the services use among themselves, and the service that holds each."""


class Credentials(Value):
    """Secrets of one local stack, generated at its first start."""

    s3_secret_key: str = Field(default_factory=lambda: secrets.token_urlsafe(30))
    landing_secret_key: str = Field(default_factory=lambda: secrets.token_urlsafe(30))
    ui_password: str = Field(default_factory=lambda: secrets.token_urlsafe(12))
    fernet_key: str = Field(default_factory=lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    api_secret_key: str = Field(default_factory=lambda: secrets.token_urlsafe(30))
    jwt_secret: str = Field(default_factory=lambda: secrets.token_urlsafe(48))


class State(BaseModel):
    """State of the last start: ports by name, processes by service, dead services that left processes behind, the
    Airflow version that the database was migrated for, and NIGHTSHIFT_USE_CASE_ROOTS."""

    model_config = ConfigDict(extra="forbid")

    ports: dict[str, int] = Field(default_factory=dict)
    processes: dict[str, ProcessRecord] = Field(default_factory=dict)
    dead: list[ProcessRecord] = Field(default_factory=list)
    migrated_for: str = ""
    roots: str = ""


@dataclass(frozen=True)
class Layout:
    """Paths below the stack's folder."""

    folder: Path

    @classmethod
    def default(cls) -> Layout:
        """The folder NIGHTSHIFT_LOCAL_DIR names, or `.local` of the project."""
        return cls(Path(os.environ.get(FOLDER_VARIABLE) or PROJECT_ROOT / ".local").resolve())

    @property
    def postgres(self) -> PostgresPlace:
        """Where PostgreSQL keeps its data and its socket."""
        return postgres.postgres_place(self.folder / "postgres")

    @property
    def passwords(self) -> Path:
        """The file Airflow's SimpleAuthManager reads passwords from."""
        return self.folder / "airflow" / "passwords.json"

    def log(self, service: str) -> Path:
        """A service's log file."""
        return self.folder / "logs" / f"{service}.log"

    def state(self) -> State:
        """The stored state; an empty one before the first start. Raises ConfigurationError if it is unreadable."""
        path = self.folder / "state.json"
        if not path.exists():
            return State()
        try:
            return State.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise ConfigurationError(
                "NS-LOCAL-010", f"{path} is not readable as state of the local stack: run `make clean`."
            ) from error

    def save(self, state: State) -> None:
        """Store the state atomically."""
        path = self.folder / "state.json"
        unfinished = path.with_suffix(".part")
        unfinished.write_text(state.model_dump_json(indent=1) + "\n", encoding="utf-8")
        unfinished.rename(path)

    def credentials(self) -> Credentials:
        """The stored credentials; what is not stored yet is generated and stored."""
        path = self.folder / "credentials.json"
        credentials = Credentials.model_validate_json(path.read_text(encoding="utf-8") if path.exists() else "{}")
        if credentials.model_fields_set != Credentials.model_fields.keys():
            processes.write_secret(path, credentials.model_dump_json(indent=1) + "\n")
        return credentials


def requested_ports() -> dict[str, int]:
    """Ports that environment variables name; 0 means any free one. Raises ConfigurationError."""
    requested = {}
    for name, variable in PORT_VARIABLES.items():
        text = os.environ.get(variable)
        if text is None:
            continue
        if not text.isdigit() or int(text) > 65535 - services.GRPC_OFFSET:
            raise ConfigurationError(
                "NS-LOCAL-011", f"{variable} is {text!r}; give a port below 55536, or 0 for any free one."
            )
        requested[name] = int(text)
    return requested


def choose_ports(stored: Mapping[str, int], in_use: Set[str] = frozenset()) -> dict[str, int]:
    """Ports for the next start: as requested, else as last time, else the defaults; inner ports as last time if free.

    `in_use` names ports, and services, of this stack that keep running. Raises ConfigurationError
    that names a busy port, its holder, and the variable to change.
    """
    requested = requested_ports()
    chosen: dict[str, int] = {}
    for name, default in DEFAULT_PORTS.items():
        preferred = requested.get(name, stored.get(name, default))
        if name in in_use:
            if requested.get(name, 0) not in (0, stored[name]):
                raise ConfigurationError(
                    "NS-LOCAL-012",
                    f"The local stack is running with port {stored[name]} for {name}; "
                    f"run `make down` before you change {PORT_VARIABLES[name]} to {requested[name]}.",
                )
            chosen[name] = stored[name]
            continue
        if preferred == 0:
            preferred = stored.get(name) or processes.free_ports(1, also=services.GRPC_OFFSET)[0]
        for port in _all_of(name, preferred):
            if not processes.port_is_free(port):
                raise ConfigurationError(
                    "NS-LOCAL-013",
                    f"Port {port} ({name}) is taken by {processes.port_holder(port)}: "
                    f"stop that, or choose another with {PORT_VARIABLES[name]}=<port>, for example "
                    f"{PORT_VARIABLES[name]}={preferred + 1} make up.",
                )
        chosen[name] = preferred
    spare = iter(processes.free_ports(6, also=services.GRPC_OFFSET))
    for name, service in INNER_PORTS.items():
        last = stored.get(name, 0)
        usable = service in in_use or all(map(processes.port_is_free, _all_of(name, last)))
        chosen[name] = last if last and usable else next(spare)
    return chosen


def _all_of(name: str, port: int) -> tuple[int, ...]:
    """All ports that the service of that name listens on."""
    return (port, port + services.GRPC_OFFSET) if name in services.PORTS else (port,)


def public_environment(layout: Layout, state: State) -> dict[str, str]:
    """Environment variables with the addresses of the stack, for clients, tasks and the `airflow` command.

    Raises ConfigurationError if it was never started.
    """
    if not state.ports:
        raise ConfigurationError("NS-LOCAL-014", "There is no local stack yet: run `make up` first.")
    ports, credentials = state.ports, layout.credentials()
    database_url = layout.postgres.url
    ui = f"http://localhost:{ports['ui']}"
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": S3_ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": credentials.s3_secret_key,
        "AWS_DEFAULT_REGION": services.REGION,
        "NIGHTSHIFT_LANDING_ACCESS_KEY_ID": services.LANDING_ACCESS_KEY,
        "NIGHTSHIFT_LANDING_SECRET_ACCESS_KEY": credentials.landing_secret_key,
        **({ROOTS_VARIABLE: state.roots} if state.roots else {}),
        "NIGHTSHIFT_ENVIRONMENT": "dev",
        "NIGHTSHIFT_BUCKET": BUCKET,
        "NIGHTSHIFT_WAREHOUSE_URL": database_url("warehouse"),
        "NIGHTSHIFT_UI_USER": UI_USER,
        "NIGHTSHIFT_UI_PASSWORD": credentials.ui_password,
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "AIRFLOW_API_URL": ui,
        **airflow_environment(layout, ports, credentials),
    }


def airflow_environment(layout: Layout, ports: Mapping[str, int], credentials: Credentials) -> dict[str, str]:
    """AIRFLOW_HOME and every AIRFLOW__SECTION__KEY that differs from Airflow's defaults."""
    manager = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    values = {
        "CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": str(PARALLEL_TASKS),
        "CORE__FERNET_KEY": credentials.fernet_key,
        "CORE__AUTH_MANAGER": manager,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{UI_USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(layout.passwords),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ports['ui']}/execution/",
        # The default does a DNS lookup, which can hang on a machine without a network.
        "CORE__HOSTNAME_CALLABLE": f"{__name__}.this_host",
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
        "DATABASE__SQL_ALCHEMY_CONN": layout.postgres.url("airflow", "+psycopg2"),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(ports["ui"]),
        "API__BASE_URL": f"http://localhost:{ports['ui']}",
        "API__SECRET_KEY": credentials.api_secret_key,
        "API__INSTANCE_NAME": "Nightshift",
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": credentials.jwt_secret,
        # A file that was edited is read at once; the others are read again for changes to what they import, which
        # takes as much processor time as a night.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        # Callbacks of failed runs, which send alerts, run within it.
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # Tasks that were stopped with their scheduler (`make down`) are retried soon after the next start.
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        # Airflow examines 20 running runs in a loop, those of backfills last: 20 that wait for a late delivery would
        # keep every backfill from starting.
        "SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "500",
        "LOGGING__WORKER_LOG_SERVER_PORT": str(ports["task_logs"]),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["trigger_logs"]),
    }
    return {"AIRFLOW_HOME": str(layout.passwords.parent)} | {
        f"AIRFLOW__{name}": value for name, value in values.items()
    }


def this_host() -> str:
    """The host name of Airflow's services, which all run on this machine."""
    return "127.0.0.1"


def service_environment(public: Mapping[str, str]) -> dict[str, str]:
    """The environment of the services: that of this process, updated with the public one, telemetry off.

    Of this process's settings of Airflow only those of its metrics are kept.
    """
    base = processes.base_environment()
    metrics = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW__METRICS__")}
    return {
        **base,
        **metrics,
        **public,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{base.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        # Waiting OpenMP threads must not spin: tasks share few cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "DO_NOT_TRACK": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "FEAST_USAGE": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # MLflow's job runner starts several processes that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def export_lines(variables: Mapping[str, str]) -> str:
    """The variables as shell `export` lines."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def write_passwords(layout: Layout) -> None:
    """Write the password file of Airflow's SimpleAuthManager, with one user."""
    processes.write_secret(layout.passwords, json.dumps({UI_USER: layout.credentials().ui_password}) + "\n")
