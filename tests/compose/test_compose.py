"""docker-compose.yaml on a container engine: history and a night on Celery, a worker killed, the stack down and up."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import date
from urllib.parse import quote, urlencode

import botocore.exceptions
import pytest
import requests

from nightshift.app.page import PAGES
from nightshift.local.airflow_api import AirflowApi, DagRun
from nightshift.pipeline import NIGHTLY
from support.compose_stack import BUCKET, USE_CASE, Compose

FIRST, LAST, NIGHT = date(2013, 1, 1), date(2013, 1, 30), date(2013, 1, 31)

# The first test waits for the stack, too.
pytestmark = pytest.mark.timeout(3600)


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


def test_every_service_is_healthy_and_unprivileged(compose: Compose) -> None:
    services = [json.loads(line) for line in compose("ps", "--all", "--format", "json").splitlines()]
    health = {one["Name"]: one["Health"] for one in services if one["State"] == "running"}
    assert set(health.values()) == {"healthy"}
    assert len(health) == 9
    for name in health:
        command = ["docker", "exec", name, "id", "--user"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() != "0", name
