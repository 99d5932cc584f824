"""A project of docker-compose.yaml on a container engine, and its users."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from nightshift.io.object_store import s3_client
from nightshift.local.airflow_api import AirflowApi

ROOT = Path(__file__).resolve().parents[2]
USE_CASE = "flight_delay"
BUCKET = "nightshift"
ADMIN = "nightshift"
DATABASE_USERS = {
    ADMIN: ("warehouse", "POSTGRES_PASSWORD"),
    "airflow": ("airflow", "AIRFLOW_DB_PASSWORD"),
    "mlflow": ("mlflow", "MLFLOW_DB_PASSWORD"),
    "pipeline": ("warehouse", "WAREHOUSE_PASSWORD"),
    "pages": ("warehouse", "PAGES_PASSWORD"),
    "analyst": ("warehouse", "PAGES_PASSWORD"),
}
"""The database of each user, and its password in .env. The tests make `analyst`, a reader of docs/security.md."""


@dataclass(frozen=True)
class Compose:
    """One project of Compose. `env`: its .env; `variables`: what is in it."""

    command: tuple[str, ...]
    env: Path
    variables: dict[str, str]

    def __call__(self, *arguments: str, seconds: float = 300) -> str:
        """Run `docker compose` with arguments; returns its standard output."""
        done = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def up(self) -> None:
        try:
            self("up", "--detach", "--build", "--wait", "--scale", "worker=2", seconds=1800)
        except AssertionError as error:
            error.add_note(self("logs", "--no-color", "--tail", "50"))
            raise

    def query(self, sql: str) -> list[str]:
        """The rows of a query on the warehouse, columns separated by `|`."""
        psql = ("psql", "--username", "nightshift", "--dbname", "warehouse", "--no-align", "--tuples-only")
        return self("exec", "--no-TTY", "postgres", *psql, "--command", sql).splitlines()

    def renew(self, name: str) -> str:
        """Put another secret into .env, for the next `up`. Returns the one before."""
        before, self.variables[name] = self.variables[name], secrets.token_hex(32)
        lines = (f"{name}={value}\n" for name, value in self.variables.items())
        self.env.write_text("".join(lines), encoding="utf-8")
        return before

    def store(self, user: str, secret: str) -> Any:
        """A client of the object store, at its published port."""
        keys = {"aws_access_key_id": user, "aws_secret_access_key": secret}
        address = f"http://127.0.0.1:{self.variables['NIGHTSHIFT_S3_PORT']}"
        return s3_client(address, "us-east-1", keys, proxies={}, retries={"max_attempts": 1})

    def connect(self, user: str, database: str = "", **more: Any) -> psycopg.Connection:
        """A connection of one of DATABASE_USERS, at PostgreSQL's published port, to its own database by default."""
        own, secret = DATABASE_USERS[user]
        return psycopg.connect(
            host="127.0.0.1",
            port=self.variables["NIGHTSHIFT_POSTGRES_PORT"],
            user=user,
            dbname=database or own,
            **{"password": self.variables[secret], "connect_timeout": 30} | more,
        )

    def api(self) -> AirflowApi:
        return AirflowApi(
            {
                "AIRFLOW_API_URL": f"http://127.0.0.1:{self.variables['NIGHTSHIFT_UI_PORT']}",
                "NIGHTSHIFT_UI_USER": "admin",
                "NIGHTSHIFT_UI_PASSWORD": self.variables["AIRFLOW_ADMIN_PASSWORD"],
            }
        )
