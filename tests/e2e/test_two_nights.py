"""Nights of the second use case through a real Airflow scheduler, started and backfilled as a user would."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECOND = ROOT / "tests" / "second_use_case"
BIN = Path(sys.executable).parent
STAGES = ("ingest", "materialize", "train", "promote", "predict", "check_drift")
NIGHTS = ("2020-03-15", "2020-03-16")
PREDICTIONS = (
    "SELECT booking_date::text, booking, branch, p_late, decision, model_version, publish_id "
    "FROM late_returns.predictions ORDER BY 1, 2"
)

pytestmark = pytest.mark.timeout(1800)


class LocalStack:
    """The local stack in a folder and on ports of its own, spoken to by the commands a user would type."""

    def __init__(self, folder: Path) -> None:
        ports = {f"NIGHTSHIFT_{name}_PORT": "0" for name in ("UI", "MLFLOW", "S3")}
        foreign = ("AIRFLOW", "AWS_", "MLFLOW_", "NIGHTSHIFT_", "PYTEST")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            **ports,
            "NIGHTSHIFT_LOCAL_DIR": str(folder),
            "NIGHTSHIFT_USE_CASE_ROOTS": str(SECOND),
            "PYTHONWARNINGS": "ignore",
        }

    def nightshift(self, *words: str) -> str:
        return self._run([sys.executable, "-m", "nightshift.cli", *words])

    def airflow(self, *words: str) -> str:
        return self._run([sys.executable, "-m", "airflow", *words])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def load_environment(self) -> None:
        for line in self.nightshift("env").splitlines():
            name, value = line.removeprefix("export ").split("=", 1)
            self.environment[name] = value.strip("'")

    def page(self, path: str, body: dict | None = None, *, signed_in: bool = True, method: str | None = None) -> bytes:
        """GET a page of the API server, or POST (or `method`) to it."""
        headers = {"Content-Type": "application/json"}
        if signed_in:
            user, password = (self.environment[f"NIGHTSHIFT_UI_{name}"] for name in ("USER", "PASSWORD"))
            answer = self.page("auth/token", {"username": user, "password": password}, signed_in=False)
            headers["Authorization"] = f"Bearer {json.loads(answer)['access_token']}"
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.environment['AIRFLOW_API_URL']}/{path}", data, headers, method=method)
        with urllib.request.urlopen(asked) as answer:
            return answer.read()

    def api(self, path: str, body: dict | None = None) -> dict:
        return json.loads(self.page(f"api/v2/{path}", body))

    def runs(self, stage: str) -> dict[str, str]:
        """Partition -> state of a stage's newest run."""
        found = self.api(f"dags/late_returns.{stage}/dagRuns?limit=100&order_by=run_after")["dag_runs"]
        return {run["partition_key"] or run["conf"].get("last"): run["state"] for run in found}

    def wait(self, stages: tuple[str, ...], partitions: tuple[str, ...], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            states = {(stage, p): self.runs(stage).get(p, "none") for stage in stages for p in partitions}
            if all(state == "success" for state in states.values()):
                return
            failed = [key for key, state in states.items() if state == "failed"]
            assert not failed, f"failed: {failed}\n{self.why(failed[0][0])}"
            assert time.monotonic() < deadline, f"not finished: {states}"
            time.sleep(2)

    def wait_for_rerun(self, runs: int, seconds: float) -> None:
        """Wait until every stage has had that many successful runs for the nights."""
        deadline = time.monotonic() + seconds
        while True:
            states = {
                stage: [
                    run["state"]
                    for run in self.api(f"dags/late_returns.{stage}/dagRuns?limit=100")["dag_runs"]
                    if run["partition_key"] in NIGHTS
                ]
                for stage in STAGES
            }
            if all(found == ["success"] * runs for found in states.values()):
                return
            failed = [stage for stage, found in states.items() if "failed" in found]
            assert not failed, f"failed: {failed}\n{self.why(failed[0])}"
            assert time.monotonic() < deadline, f"not finished: {states}"
            time.sleep(2)

    def run_of(self, stage: str, partition: str) -> str:
        """Path of a stage's newest run of a partition."""
        found = self.api(f"dags/late_returns.{stage}/dagRuns?limit=100&order_by=-run_after")["dag_runs"]
        (run, *_) = [run["dag_run_id"] for run in found if run["partition_key"] == partition]
        return f"dags/late_returns.{stage}/dagRuns/{quote(run, safe='')}"

    def answer(self, run: str, option: str) -> None:
        """Answer the question that a run asks a person, as soon as it does."""
        question = f"{run}/taskInstances/approve/-1/hitlDetails"
        deadline = time.monotonic() + 300
        while not any(
            task["state"] in ("deferred", "awaiting_input")
            for task in self.api(f"{run}/taskInstances")["task_instances"]
        ):
            assert time.monotonic() < deadline, f"nobody was asked: {self.api(f'{run}/taskInstances')}"
            time.sleep(2)
        self.page(f"api/v2/{question}", {"chosen_options": [option], "params_input": {}}, method="PATCH")

    def by_hand(self, stage: str, conf: dict) -> None:
        """Trigger a DAG as a person does, and wait until it has succeeded."""
        started = self.api(f"dags/late_returns.{stage}/dagRuns", {"logical_date": None, "conf": conf})
        run = f"dags/late_returns.{stage}/dagRuns/{quote(started['dag_run_id'], safe='')}"
        deadline = time.monotonic() + 300
        while (state := self.api(run)["state"]) != "success":
            assert state != "failed", self.why(stage)
            assert time.monotonic() < deadline, f"{stage} is {state}"
            time.sleep(1)

    def night(self, partition: str, stages: tuple[str, ...] = STAGES) -> None:
        """Backfill one partition and wait for its stages."""
        self.airflow(*_backfill(partition, str(date.fromisoformat(partition) + timedelta(days=1))))
        self.wait(stages, (partition,), 400)

    def wait_for_task(self, stage: str, partition: str, task_id: str) -> None:
        """Wait until a task of a stage's run of a partition has succeeded."""
        deadline = time.monotonic() + 300
        while True:
            if partition in self.runs(stage):
                task = self.api(f"{self.run_of(stage, partition)}/taskInstances/{task_id}")
                if task["state"] == "success":
                    return
                assert task["state"] != "failed", self.why(stage)
            assert time.monotonic() < deadline, f"{stage}.{task_id} of {partition} is not finished"
            time.sleep(2)

    def why(self, stage: str) -> str:
        found = self.api(f"dags/late_returns.{stage}/dagRuns/~/taskInstances?state=failed&limit=5")["task_instances"]
        logs = []
        for task in found:
            path = (
                f"dags/late_returns.{stage}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
                f"/logs/{task['try_number']}?map_index={task['map_index']}"
            )
            logs.append(json.dumps(self.api(path))[-3000:])
        return "\n".join(logs)

    def rows(self, query: str) -> list[tuple]:
        with psycopg.connect(self.environment["NIGHTSHIFT_WAREHOUSE_URL"]) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def stack():
    # Not pytest's tmp_path: it is closed to other users, and root has to run PostgreSQL as another user.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-e2e-"))
    folder.chmod(0o755)
    local = LocalStack(folder / "local")
    try:
        local.nightshift("up")
        local.load_environment()
        yield local
    finally:
        local.nightshift("down")
        shutil.rmtree(folder, ignore_errors=True)


def test_two_nights_by_backfill(stack):
    stack.nightshift("land", "late_returns", "--from", "2020-03-01", "--to", NIGHTS[-1])
    stack.nightshift("migrate")
    stack.airflow("dags", "unpause", "--yes", "--treat-dag-id-as-regex", r"late_returns\.(?!search).*")

    conf = json.dumps({"first": "2020-03-01", "last": "2020-03-14"})
    stack.airflow("dags", "trigger", "late_returns.backfill_history", "--conf", conf)
    stack.wait(("backfill_history", "train"), ("2020-03-14",), 600)
    assert stack.runs("predict") == {}

    # Two runs at a time: a night that comes too early waits for the one before.
    backfill = ("backfill", "create", "--dag-id", "late_returns.ingest", "--max-active-runs", "2")
    dates = ("--from-date", NIGHTS[0], "--to-date", "2020-03-17")
    stack.airflow(*backfill, *dates)
    stack.wait(STAGES, NIGHTS, 600)

    published = stack.rows(PREDICTIONS)
    counts = {day: sum(row[0] == day for row in published) for day in ("2020-03-16", "2020-03-17")}
    assert counts == {"2020-03-16": 40, "2020-03-17": 40}
    assert len(published) == 80
    served = stack.rows(
        "SELECT partition::text, left(model_version, 10), role FROM late_returns.publications ORDER BY 1"
    )
    # A person must approve a champion of this use case, so the fallback serves, with the version of the night before.
    assert served == [(night, str(date.fromisoformat(night) - timedelta(days=1)), "fallback") for night in NIGHTS]
    decided = stack.rows(
        "SELECT partition::text, action, role, left(spec_id, -9) FROM late_returns.deployments ORDER BY 1, 2, 3"
    )
    versions = {("registered", "champion", "small_trees"), ("registered", "fallback", "fallback")}
    assert {row[1:] for row in decided if row[0] == "2020-03-14"} == versions | {
        ("shadow", "challenger", "small_trees")
    }
    for night in NIGHTS:
        expected = {("registered", "challenger", "small_trees"), ("registered", "fallback", "fallback")}
        assert {row[1:] for row in decided if row[0] == night} == expected
    calibrated = stack.rows("SELECT count(*) FROM late_returns.publications WHERE calibration_uri LIKE '%/calibrate/%'")
    assert calibrated == [(len(NIGHTS),)]
    assert {p for (p,) in stack.rows("SELECT DISTINCT partition::text FROM late_returns.drift_daily")} == set(NIGHTS)

    # The same nights again leave the same rows.
    deployments = stack.rows("SELECT count(*) FROM late_returns.deployments")
    stack.airflow(*backfill, *dates, "--reprocess-behavior", "completed")
    stack.wait_for_rerun(2 * len(NIGHTS), 600)
    assert stack.rows(PREDICTIONS) == published
    assert stack.rows("SELECT count(*) FROM late_returns.deployments") == deployments

    # One stage of one partition, triggered as the UI's form does it.
    again = stack.api("dags/late_returns.predict/dagRuns", {"logical_date": None, "partition_key": NIGHTS[-1]})
    assert again["partition_key"] == NIGHTS[-1]
    stack.wait(("predict", "check_drift"), NIGHTS[-1:], 200)
    assert stack.rows(PREDICTIONS) == published

    report = f"nightshift/files/late_returns/report_drift/{NIGHTS[-1]}/report.html"
    assert report.removeprefix("nightshift/") in stack.page("nightshift/").decode()
    assert "Tools that will come back late" in stack.page(report).decode()
    assert b"<html" in stack.page(f"nightshift/files/late_returns/validate/{NIGHTS[0]}/data_docs/index.html")
    for path in ("nightshift/", report):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            stack.page(path, signed_in=False)


def test_a_spec_is_reviewed_approved_switched_off_and_reproduced(stack):
    """Goes on with the nights of the test above until the challenger needs a person's approval."""
    stack.nightshift("land", "late_returns", "--from", "2020-03-17", "--to", "2020-03-27")
    night = date(2020, 3, 17)
    asked = "SELECT partition::text FROM late_returns.deployments WHERE action = 'awaiting_approval'"
    while not stack.rows(asked):
        assert night < date(2020, 3, 25), stack.rows("SELECT partition, action, reason FROM late_returns.deployments")
        stack.night(str(night), stages=tuple(stage for stage in STAGES if stage != "promote"))
        stack.wait_for_task("promote", str(night), "advance")
        night += timedelta(days=1)
    ((waiting,),) = stack.rows(asked)
    actions = [action for (action,) in stack.rows(SPEC_DECISIONS)]
    assert actions == ["shadow", "canary", "awaiting_approval"]
    canary = stack.rows(
        "SELECT count(*), count(*) FILTER (WHERE p.model_version = s.model_version) FROM late_returns.predictions AS p "
        "JOIN late_returns.shadow_predictions AS s USING (booking_date, booking) WHERE s.role = 'challenger' "
        "AND s.partition > (SELECT partition FROM late_returns.deployments WHERE action = 'canary')"
    )
    assert 0 < canary[0][1] < canary[0][0] / 2

    stack.answer(stack.run_of("promote", waiting), "Approve")
    stack.wait(("promote",), (waiting,), 300)
    (said,) = stack.rows("SELECT reason ->> 'answered_by' FROM late_returns.deployments WHERE action = 'approved'")
    assert said == (f"hand:{stack.environment['NIGHTSHIFT_UI_USER']}",)
    ((champion,),) = stack.rows("SELECT spec_id FROM late_returns.deployments WHERE action = 'promoted'")

    # The kill switch and its end take effect on the next prediction; the champion's version is one night old.
    stack.by_hand("kill_switch", {"state": "on", "reason": "an end-to-end test wants the fallback"})
    stack.night(str(night))
    stack.by_hand("kill_switch", {"state": "off", "reason": "the end-to-end test has seen the fallback"})
    after = night + timedelta(days=1)
    stack.night(str(after))
    served = "SELECT role, spec_id, left(model_version, 10) FROM late_returns.publications WHERE partition = '{}'"
    assert stack.rows(served.format(night))[0][0] == "fallback"
    assert stack.rows(served.format(after)) == [("champion", champion, str(night))]

    # Another spec is backtested and nominated; whatever comes of it is recorded.
    conf = {"specs": "linear", "first": "2020-03-15", "last": str(night), "refit_every": 2, "nominate": True}
    stack.by_hand("backtest", conf)
    walked = stack.rows("SELECT count(DISTINCT partition) FROM late_returns.backtests WHERE spec_id LIKE 'linear-%'")
    assert walked == [((night - date(2020, 3, 15)).days + 1,)]
    nominated = stack.rows("SELECT action FROM late_returns.deployments WHERE decided_by = 'nominate'")
    assert [action for (action,) in nominated] in (["shadow"], ["backtest_failed"])

    for what, partition in (("training", "2020-03-15"), ("prediction", NIGHTS[-1])):
        stack.by_hand("reproduce", {"partition": partition, "what": what})
        address = f"nightshift/files/late_returns/reproduce-{what}/{partition}"
        result = json.loads(stack.page(f"{address}/reproduction.json"))
        assert result["verdict"] == "identical", result
        assert b"<html" in stack.page(f"{address}/reproduction.html")


SPEC_DECISIONS = (
    "SELECT action FROM late_returns.deployments WHERE action NOT IN ('registered', 'rejected', 'failed') "
    "ORDER BY deployment_id"
)


def _backfill(first: str, end: str) -> tuple[str, ...]:
    dates = ("--from-date", first, "--to-date", end)
    return ("backfill", "create", "--dag-id", "late_returns.ingest", "--max-active-runs", "2", *dates)
