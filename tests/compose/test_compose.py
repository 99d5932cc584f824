"""docker-compose.yaml on a container engine: history and a night on Celery, a worker killed, the stack down and up, and
what each service may do in the object store and in the databases."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import botocore.exceptions
import psycopg
import pytest
import requests
from psycopg import errors, sql

from nightshift.app.page import PAGES
from nightshift.io.object_store import s3_client
from nightshift.local.airflow_api import AirflowApi, DagRun
from nightshift.local.processes import free_ports
from nightshift.pipeline import NIGHTLY
from support.privileges import CHANGES_DECISIONS

ROOT = Path(__file__).resolve().parents[2]
USE_CASE = "flight_delay"
FIRST, LAST, NIGHT = date(2013, 1, 1), date(2013, 1, 30), date(2013, 1, 31)
PORTS = ("UI", "S3", "S3_CONSOLE", "MLFLOW", "POSTGRES")
BUCKET = "nightshift"

# The first test waits for the stack, too.
pytestmark = pytest.mark.timeout(3600)


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


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    folder = tmp_path_factory.mktemp("compose")
    script = folder / "config" / "compose" / "make_env.py"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "config" / "compose" / "make_env.py", script)
    subprocess.run([sys.executable, script], check=True, capture_output=True)
    env = folder / ".env"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    with env.open("a", encoding="utf-8") as file:
        file.writelines(f"NIGHTSHIFT_{name}_PORT={port}\n" for name, port in ports.items())
        file.write("NIGHTSHIFT_TASK_SLOTS=4\n")
    override = folder / "override.yaml"
    # An engine without a bridge to the outside builds on the host's network.
    override.write_text("services: {migrate: {build: {network: host}}}\n", encoding="utf-8")
    name = f"nightshift-test-{secrets.token_hex(4)}"
    files = ("--file", str(ROOT / "docker-compose.yaml"), "--file", str(override))
    compose = Compose(
        ("docker", "compose", "--project-name", name, "--env-file", str(env), *files),
        env,
        dict(line.split("=", 1) for line in env.read_text(encoding="utf-8").splitlines()),
    )
    try:
        compose.up()
        yield compose
    finally:
        if keep := os.environ.get("TEST_COMPOSE_LOGS"):
            Path(keep).write_text(compose("logs", "--no-color"), encoding="utf-8")
        compose("down", "--volumes", "--timeout", "20")


def wait(condition: Callable[[], bool], what: str, seconds: float, *, every: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(every)


def ended(api: AirflowApi, stage: str, partition: date) -> DagRun | None:
    """The run of a stage for a partition once it has succeeded. A failed one fails the test."""
    run = api.newest_runs(f"{USE_CASE}.{stage}").get(partition.isoformat())
    if run is not None and run.state == "failed":
        failed = [task.name for task in api.tasks(run) if task.state == "failed"]
        pytest.fail(f"{stage} of {partition} failed: {failed}")
    return run if run is not None and run.state == "success" else None


STORE_REQUESTS = """
import json, os, sys
import botocore.exceptions
from nightshift.io.object_store import s3_client

bucket, another = sys.argv[1:]
client = s3_client(os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_DEFAULT_REGION"], retries={"max_attempts": 1})
requests = {
    "list": lambda: client.list_objects_v2(Bucket=bucket),
    "list another bucket": lambda: client.list_objects_v2(Bucket=another),
    "read another bucket": lambda: client.get_object(Bucket=another, Key="object"),
    "write another bucket": lambda: client.put_object(Bucket=another, Key="object", Body=b"changed"),
    "create a bucket": lambda: client.create_bucket(Bucket=f"{another}-2"),
    "delete the bucket": lambda: client.delete_bucket(Bucket=bucket),
    "open the bucket": lambda: client.put_bucket_policy(Bucket=bucket, Policy="{}"),
}
for folder in ("probe", "mlflow", "landing"):
    key = {"Bucket": bucket, "Key": f"{folder}/object"}
    requests |= {
        f"list {folder}/": lambda folder=folder: client.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/"),
        f"read {folder}/": lambda key=key: client.get_object(**key),
        f"write {folder}/": lambda key=key: client.put_object(**key, Body=b"changed"),
        f"delete {folder}/": lambda key=key: client.delete_object(**key),
    }
answers = {}
for name, send in requests.items():
    try:
        send()
        answers[name] = "done"
    except botocore.exceptions.ClientError as error:
        answers[name] = error.response["Error"]["Code"]
print(json.dumps(answers))
"""
"""Requests with the key in the environment, and what came of each."""

DO_ALL, DO_READ = ("list", "read", "write", "delete"), ("list", "read")
MAY = {
    "worker": {"list", *(f"{verb} {folder}/" for verb in DO_ALL for folder in ("probe", "mlflow", "landing"))},
    "api-server": {"list", *(f"{verb} {folder}/" for verb in DO_READ for folder in ("probe", "mlflow", "landing"))},
    "mlflow": {f"{verb} mlflow/" for verb in DO_ALL},
    "landing": {f"{verb} landing/" for verb in DO_ALL},
}
"""What is done with the key of a service, or of those who deliver; all else is denied."""


@pytest.mark.parametrize("who", MAY)
def test_keys_of_the_store_do_what_their_service_needs(compose: Compose, who: str) -> None:
    root = compose.store("nightshift", compose.variables["MINIO_PASSWORD"])
    another = f"another-{who}"
    root.create_bucket(Bucket=another)
    objects = [(another, "object"), *((BUCKET, f"{folder}/object") for folder in ("probe", "mlflow", "landing"))]
    for bucket, key in objects:
        root.put_object(Bucket=bucket, Key=key, Body=b"before")
    try:
        answers = _store_answers(compose, who, another)
        assert {name for name, answer in answers.items() if answer == "done"} == MAY[who]
        assert {answer for answer in answers.values() if answer != "done"} == {"AccessDenied"}
        assert root.get_object(Bucket=another, Key="object")["Body"].read() == b"before"
    finally:
        for bucket, key in objects:
            root.delete_object(Bucket=bucket, Key=key)
        root.delete_bucket(Bucket=another)


def _store_answers(compose: Compose, who: str, another: str) -> dict[str, str]:
    script = ("python", "-c", STORE_REQUESTS, BUCKET, another)
    if who != "landing":
        answer = compose("exec", "--no-TTY", who, *script)
    else:
        environment = os.environ | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{compose.variables['NIGHTSHIFT_S3_PORT']}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": who,
            "AWS_SECRET_ACCESS_KEY": compose.variables[f"MINIO_{who.upper()}_PASSWORD"],
        }
        command = [sys.executable, *script[1:]]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    answers: dict[str, str] = json.loads(answer.splitlines()[-1])
    return answers


@pytest.mark.parametrize(
    ("user", "secret"), [("nightshift", "MINIO_PASSWORD"), ("pipeline", "MINIO_PIPELINE_PASSWORD")]
)
def test_users_of_the_store_are_listed_by_its_root_only(compose: Compose, user: str, secret: str) -> None:
    alias = f"MC_HOST_tried=http://{user}:{compose.variables[secret]}@localhost:9000"
    command = ("exec", "--no-TTY", "--env", alias, "minio", "mc", "admin", "user", "list", "tried")
    if user == "nightshift":
        users = compose(*command)
        assert all(name in users for name in ("pipeline", "pages", "mlflow", "landing"))
    else:
        with pytest.raises(AssertionError, match=r"(?i)access ?denied"):
            compose(*command)


ADMIN = "nightshift"
DATABASE_USERS = {
    ADMIN: ("warehouse", "POSTGRES_PASSWORD"),
    "airflow": ("airflow", "AIRFLOW_DB_PASSWORD"),
    "mlflow": ("mlflow", "MLFLOW_DB_PASSWORD"),
    "pipeline": ("warehouse", "WAREHOUSE_PASSWORD"),
    "pages": ("warehouse", "PAGES_PASSWORD"),
    "analyst": ("warehouse", "PAGES_PASSWORD"),
}
"""The database of each user, and its password in .env. The fixture makes `analyst`, a reader of docs/security.md."""
UNPRIVILEGED = [user for user in DATABASE_USERS if user != ADMIN]
TABLES_MAY_BE_MADE = ("CREATE TABLE another (n integer)", "CREATE TEMPORARY TABLE another (n integer)")
IS_DONE = {
    "airflow": ("SELECT * FROM dag", *TABLES_MAY_BE_MADE),
    "mlflow": ("SELECT * FROM experiments", *TABLES_MAY_BE_MADE),
    "pipeline": (
        "INSERT INTO {s}.deployments (partition, action, role, model_version, reason, decided_by) "
        "VALUES ('2013-01-01', 'killed', 'champion', '', '[]', 'hand:ann')",
        "UPDATE {s}.alerts SET cause = cause",
        "CREATE SCHEMA another",
        "CREATE TEMPORARY TABLE another (n integer)",
    ),
    "pages": ("SELECT * FROM {s}.deployments", "SELECT * FROM {s}.predictions"),
    "analyst": ("SELECT * FROM {s}.predictions",),
}
WRITES = (
    "INSERT INTO {s}.alerts DEFAULT VALUES",
    "INSERT INTO {s}.deployments DEFAULT VALUES",
    "UPDATE {s}.predictions SET decision = true",
    "DELETE FROM {s}.publications",
    "TRUNCATE {s}.predictions",
    "DROP TABLE {s}.predictions",
    "CREATE TABLE {s}.another (n integer)",
    "CREATE TABLE public.another (n integer)",
    "CREATE TEMPORARY TABLE another (n integer)",
    "CREATE SCHEMA another",
)
NEEDS_ADMIN = (
    "CREATE ROLE another",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEROLE CREATEDB",
    "ALTER ROLE nightshift PASSWORD 'another'",
    "GRANT pg_read_all_data TO CURRENT_USER",
    "SET ROLE nightshift",
    "SET SESSION AUTHORIZATION nightshift",
    "CREATE EXTENSION file_fdw",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)
IS_REFUSED = {
    "airflow": NEEDS_ADMIN,
    "mlflow": NEEDS_ADMIN,
    "pipeline": (*NEEDS_ADMIN, *CHANGES_DECISIONS, "CREATE TABLE public.another (n integer)"),
    "pages": (*NEEDS_ADMIN, *CHANGES_DECISIONS, *WRITES),
    "analyst": (*NEEDS_ADMIN, *CHANGES_DECISIONS, *WRITES, "SELECT * FROM {s}.deployments", "SELECT * FROM {s}.alerts"),
}


@pytest.fixture(scope="module")
def databases(compose: Compose) -> Compose:
    password = sql.Literal(compose.variables[DATABASE_USERS["analyst"][1]])
    with compose.connect(ADMIN) as connection:
        connection.execute(sql.SQL("CREATE ROLE analyst LOGIN PASSWORD {} IN ROLE nightshift_reader").format(password))
    return compose


def _try(connection: psycopg.Connection, statement: str) -> None:
    """Run a statement, and leave nothing of it."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL(statement).format(s=sql.Identifier(USE_CASE)))  # type: ignore[arg-type]


@pytest.mark.parametrize("user", UNPRIVILEGED)
def test_database_users_enter_their_own_database_only(databases: Compose, user: str) -> None:
    with databases.connect(ADMIN) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    for (name,) in names:
        if name == DATABASE_USERS[user][0]:
            databases.connect(user, name).close()
        else:
            with pytest.raises(psycopg.OperationalError, match=f'permission denied for database "{name}"'):
                databases.connect(user, name).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        databases.connect(user, password="another").close()


@pytest.mark.parametrize(
    ("user", "statement"), [(user, statement) for user, statements in IS_DONE.items() for statement in statements]
)
def test_database_users_do_what_they_need(databases: Compose, user: str, statement: str) -> None:
    with databases.connect(user) as connection:
        _try(connection, statement)


@pytest.mark.parametrize(
    ("user", "statement"), [(user, statement) for user, statements in IS_REFUSED.items() for statement in statements]
)
def test_database_users_may_do_no_more(databases: Compose, user: str, statement: str) -> None:
    with databases.connect(user) as connection, pytest.raises(errors.InsufficientPrivilege):
        _try(connection, statement)


@pytest.mark.parametrize("statement", NEEDS_ADMIN)
def test_admin_may_do_what_others_may_not(databases: Compose, statement: str) -> None:
    with databases.connect(ADMIN) as connection:
        _try(connection, statement)


@pytest.mark.parametrize("user", DATABASE_USERS)
def test_databases_are_created_by_the_admin_only(databases: Compose, user: str) -> None:
    # Neither statement runs within a transaction.
    with databases.connect(user, autocommit=True) as connection:
        if user == ADMIN:
            connection.execute("CREATE DATABASE another")
            connection.execute("DROP DATABASE another")
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("CREATE DATABASE another")
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("ALTER SYSTEM SET work_mem = '5MB'")


def test_admin_calls_nothing_that_the_pipeline_may_create(databases: Compose) -> None:
    """A schema of a user's name comes first on PostgreSQL's own search path, and the pipeline may create schemas."""
    may_create = (
        "SELECT name FROM unnest(current_schemas(true)) name WHERE has_schema_privilege('pipeline', name, 'CREATE')"
    )
    with databases.connect("pipeline", autocommit=True) as pipeline:
        pipeline.execute(f"CREATE SCHEMA {ADMIN}")
        try:
            with databases.connect(ADMIN) as connection:
                assert connection.execute(may_create).fetchall() == []
        finally:
            pipeline.execute(f"DROP SCHEMA {ADMIN}")


def test_a_night_survives_a_killed_worker_and_a_restart(compose: Compose) -> None:
    nightshift = ("exec", "--no-TTY", "worker", "nightshift")
    compose(*nightshift, "preflight")
    compose(*nightshift, "land", USE_CASE, "--from", FIRST.isoformat(), "--to", NIGHT.isoformat(), seconds=600)
    api = compose.api()
    stages = (*NIGHTLY, "backfill_history")
    wait(lambda: {f"{USE_CASE}.{stage}" for stage in stages} <= api.dag_ids(), "the DAGs", 300)
    for stage in stages:
        api.unpause(f"{USE_CASE}.{stage}")
    api.trigger(f"{USE_CASE}.backfill_history", {"first": FIRST.isoformat(), "last": LAST.isoformat()})
    wait(lambda: ended(api, "train", LAST) is not None, "history and its training", 1500)

    api.backfill(f"{USE_CASE}.ingest", NIGHT, NIGHT, max_active_runs=1, reprocess="none")
    killed = _kill_a_busy_worker(compose, api)
    wait(lambda: all(ended(api, stage, NIGHT) for stage in NIGHTLY), "the night", 1800)
    tried_again = [task.name for stage in NIGHTLY for task in _tasks(api, stage) if task.try_number > 1]
    assert tried_again, f"no task was tried again after {killed} was killed"
    published = _published(compose)
    assert len(published) == 1
    partition, rows, in_table, keys = published[0].split("|")
    assert (partition, rows, rows) == (NIGHT.isoformat(), in_table, keys)
    assert int(rows) > 500
    key = compose.query(f"SELECT flight_date, carrier, flight, origin FROM {USE_CASE}.predictions ORDER BY 1,2,3,4")[0]
    assert "landing/" in compose(*nightshift, "lineage", *key.split("|"), seconds=600)

    assert f"{int(rows):,} rows" in _page(compose, f"{USE_CASE}/night/{NIGHT}")
    for page, _ in PAGES:
        _page(compose, f"{USE_CASE}/{page}".rstrip("/"))
    names = ("flight_date", "carrier", "flight", "origin")
    lineage = _page(compose, f"{USE_CASE}/lineage?{urlencode(dict(zip(names, key.split('|'), strict=True)))}")
    assert f"landing/{USE_CASE}/" in lineage
    assert f'nightshift_up{{use_case="{USE_CASE}"}} 1.0' in _page(compose, "metrics")
    root = compose.store("nightshift", compose.variables["MINIO_PASSWORD"])
    assert root.list_objects_v2(Bucket=BUCKET, Prefix="mlflow/")["KeyCount"] > 0
    _failed_run_is_an_alert(compose, api)

    rows_before = _rows(compose)
    compose("down", "--timeout", "60")
    secret_before = compose.renew("MINIO_PIPELINE_PASSWORD")
    compose.up()
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        compose.store("pipeline", secret_before).list_objects_v2(Bucket=BUCKET)
    assert _published(compose) == published
    assert _rows(compose) == rows_before
    task = next(task for task in _tasks(compose.api(), "predict") if task.task_id == "publish_predictions")
    assert compose.api().log_lines(task), "the log of a task of a container that is gone"


def _failed_run_is_an_alert(compose: Compose, api: AirflowApi) -> None:
    """The DAG processor records it, which has no key of the object store."""
    dag_id = f"{USE_CASE}.annul_decision"
    api.unpause(dag_id)
    run = api.trigger(dag_id, {"deployment_id": 1_000_000, "reason": "there is no decision of this number"})
    cause = f"failed:annul_decision:{run.dag_run_id}"
    sql = f"SELECT count(*) FROM {USE_CASE}.alerts WHERE cause = '{cause}'"
    wait(lambda: compose.query(sql) == ["1"], "the alert of a failed run", 300)


def _kill_a_busy_worker(compose: Compose, api: AirflowApi) -> str:
    """Kill the container that runs a task of the night's training, and start it again. Returns its name."""

    running: list[str] = []

    def is_fitting() -> bool:
        run = api.newest_runs(f"{USE_CASE}.train").get(NIGHT.isoformat())
        if run is not None:
            path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances"
            instances = api.call("GET", path)["task_instances"]
            fits = [one for one in instances if one["task_id"] == "fit" and one["state"] == "running"]
            running.extend(one["hostname"] for one in fits if one["hostname"])
        return bool(running)

    wait(is_fitting, "a running fit", 900, every=1)
    container = running[0]
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    subprocess.run(["docker", "start", container], check=True, capture_output=True)
    return container


def _tasks(api: AirflowApi, stage: str) -> list:
    run = api.newest_runs(f"{USE_CASE}.{stage}")[NIGHT.isoformat()]
    return api.tasks(run)


def _published(compose: Compose) -> list[str]:
    return compose.query(
        f"""
        SELECT p.partition, p.rows, count(*), count(DISTINCT (o.carrier, o.flight, o.origin))
        FROM {USE_CASE}.publications p JOIN {USE_CASE}.predictions o USING (publish_id)
        WHERE p.superseded_at IS NULL GROUP BY 1, 2
        """
    )


def _page(compose: Compose, path: str) -> str:
    """A page of the app, signed in as the administrator."""
    url = f"http://127.0.0.1:{compose.variables['NIGHTSHIFT_UI_PORT']}"
    login = {"username": "admin", "password": compose.variables["AIRFLOW_ADMIN_PASSWORD"]}
    token = requests.post(f"{url}/auth/token", json=login, timeout=60).json()["access_token"]
    page = requests.get(f"{url}/nightshift/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    page.raise_for_status()
    return page.text


def _rows(compose: Compose) -> dict[str, str]:
    tables = ("predictions", "publications", "deployments", "outcomes", "performance_daily", "drift_daily")
    counts = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {USE_CASE}.{name}" for name in tables)
    return dict(line.split("|") for line in compose.query(counts))


def test_pages_read_all_tables_of_the_night_and_write_none(databases: Compose) -> None:
    query = """
        SELECT nspname, relname,
            has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN')
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm') AND nspname !~ '^pg_|^information_schema$'
    """
    with databases.connect("pages") as connection:
        tables = connection.execute(query).fetchall()
        for schema, name, _ in tables:
            connection.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(schema, name)))
    assert {USE_CASE, "feast_registry"} <= {schema for schema, _, _ in tables}
    assert [name for _, name, may_write in tables if may_write] == []


def test_every_service_is_healthy_and_unprivileged(compose: Compose) -> None:
    services = [json.loads(line) for line in compose("ps", "--all", "--format", "json").splitlines()]
    health = {one["Name"]: one["Health"] for one in services if one["State"] == "running"}
    assert set(health.values()) == {"healthy"}
    assert len(health) == 9
    for name in health:
        command = ["docker", "exec", name, "id", "--user"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() != "0", name
