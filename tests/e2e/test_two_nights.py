"""Nights of the second use case through a real Airflow scheduler, started and backfilled as a user would."""

import json
import re
import shutil
import stat
import tempfile
import urllib.error
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nightshift.io.artifact_store import ArtifactStore
from nightshift.local.layout import DATABASES
from nightshift.local.stack import SERVICES
from nightshift.settings import load_settings
from support.local_stack import LocalStack
from support.otlp_collector import Received, collector
from support.receiver import SECRET, receiving
from support.secrets import found, in_bucket, in_database, in_files

STAGES = ("ingest", "materialize", "train", "promote", "predict", "check_drift")
NIGHTS = ("2020-03-15", "2020-03-16")
DAY = timedelta(days=1)
PREDICTIONS = (
    "SELECT booking_date::text, booking, branch, p_late, decision, model_version, publish_id "
    "FROM late_returns.predictions ORDER BY 1, 2"
)
SPEC_DECISIONS = (
    "SELECT partition::text, action FROM late_returns.deployments "
    "WHERE action NOT IN ('registered', 'rejected', 'failed') ORDER BY deployment_id"
)

pytestmark = pytest.mark.timeout(1800)


METRICS_TOKEN = "only-for-the-scrapes-of-this-test"


@pytest.fixture(scope="module")
def receiver():
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def telemetry() -> Iterator[tuple[dict[str, str], Received]]:
    with collector() as both:
        yield both


@pytest.fixture(scope="module")
def stack(receiver, telemetry):
    # Not pytest's tmp_path: it is closed to other users, and root has to run PostgreSQL as another user.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-e2e-"))
    folder.chmod(0o755)
    local = LocalStack(folder / "local")
    local.environment["NIGHTSHIFT_ALERT_URLS"] = receiver.url
    local.environment |= telemetry[0] | {"NIGHTSHIFT_METRICS_TOKEN": METRICS_TOKEN}
    try:
        local.start()
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
    stack.wait(("backfill_history", "train"), ("2020-03-14",))
    assert stack.runs("predict") == []

    # Two runs at a time: a night that comes too early waits for the one before.
    backfill = ("backfill", "create", "--dag-id", "late_returns.ingest", "--max-active-runs", "2")
    stack.airflow(*backfill, "--from-date", NIGHTS[0], "--to-date", "2020-03-17")
    stack.wait(STAGES, NIGHTS)

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
    stack.backfill(date(2020, 3, 15), date(2020, 3, 16), reprocess="completed")
    stack.wait(STAGES, NIGHTS, runs=2)
    assert stack.rows(PREDICTIONS) == published
    assert stack.rows("SELECT count(*) FROM late_returns.deployments") == deployments

    # One stage of one partition, triggered as the UI's form does it.
    stack.run("predict", NIGHTS[-1])
    stack.wait(("predict", "check_drift"), NIGHTS[-1:], runs=3)
    assert stack.rows(PREDICTIONS) == published

    report = f"nightshift/files/late_returns/report_drift/{NIGHTS[-1]}/report.html"
    assert f"/{report}" in stack.page(f"nightshift/late_returns/night/{NIGHTS[-1]}").decode()
    assert "Tools that will come back late" in stack.page(report).decode()
    assert b"<html" in stack.page(f"nightshift/files/late_returns/validate/{NIGHTS[0]}/data_docs/index.html")
    overview = stack.page("nightshift/late_returns").decode()
    ((loss,),) = stack.rows(
        "SELECT log_loss FROM late_returns.performance_daily WHERE role = 'published' AND slice_column = ''"
    )
    assert f"{NIGHTS[-1]} is published; no problems" in overview
    assert f"{loss:.4f}" in overview
    for path in ("nightshift/", report, "nightshift/late_returns", "nightshift/metrics"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            stack.page(path, signed_in=False)


def test_metrics_of_the_nights_before(stack):
    scraped = stack.page("nightshift/metrics", token=METRICS_TOKEN).decode()
    gauges = {family.name: family.samples for family in text_string_to_metric_families(scraped)}
    (losses,) = [one.value for one in gauges["nightshift_log_loss"] if one.labels["role"] == "published"]
    ((loss,),) = stack.rows(
        "SELECT log_loss FROM late_returns.performance_daily WHERE role = 'published' AND slice_column = ''"
    )
    assert losses == pytest.approx(loss)
    steps = {one.labels["step"]: one.value for one in gauges["nightshift_step_tries"]}
    assert steps["score"] >= 1
    recorded = stack.rows(
        "SELECT DISTINCT step FROM late_returns.pipeline_daily WHERE stage = 'train' AND status = 'published'"
    )
    assert {("fit",), ("register",)} <= set(recorded)
    quarantined = stack.rows("SELECT DISTINCT feed, quarantined FROM late_returns.feeds_daily ORDER BY 1")
    assert quarantined == [("bookings", 0), ("returns", 0)]
    assert len(stack.page("nightshift/metrics")) > 1000
    with pytest.raises(urllib.error.HTTPError, match="403"):
        stack.page("nightshift/metrics", token=METRICS_TOKEN + "x")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        stack.page("nightshift/", token=METRICS_TOKEN)


def test_airflow_sends_its_own_metrics(stack, telemetry):
    received = telemetry[1]
    assert received["airflow.scheduler_heartbeat"]
    for name in ("airflow.dagrun.duration.success", "airflow.task.duration"):
        dags = {attributes.get("dag_id") for attributes in received[name]}
        assert "late_returns.predict" in dags, name


def test_a_spec_is_reviewed_approved_switched_off_and_reproduced(stack):
    """Goes on with the nights of the test above until the challenger needs a person's approval."""
    first, approval, after = date(2020, 3, 17), date(2020, 3, 22), date(2020, 3, 24)
    stack.nightshift("land", "late_returns", "--from", str(first), "--to", str(after))
    night = first
    while night < approval:
        stack.run("ingest", str(night))
        stack.wait(("predict",), (str(night),))
        stack.wait_for_task("promote", str(night), "advance", ("success",))
        night += DAY
    stack.run("ingest", str(approval))
    run = stack.wait_for_task("promote", str(approval), "approve", ("deferred", "awaiting_input"))
    decided = stack.rows(SPEC_DECISIONS)
    assert decided == [
        ("2020-03-14", "shadow"),
        ("2020-03-18", "canary"),
        (str(approval), "awaiting_approval"),
    ]
    canary = stack.rows(
        "SELECT count(*), count(*) FILTER (WHERE p.model_version = s.model_version) FROM late_returns.predictions AS p "
        "JOIN late_returns.shadow_predictions AS s USING (booking_date, booking) WHERE s.role = 'challenger' "
        "AND s.partition > (SELECT partition FROM late_returns.deployments WHERE action = 'canary')"
    )
    assert 0 < canary[0][1] < canary[0][0] / 2

    stack.answer(run, "Approve")
    stack.wait(STAGES, (str(approval),))
    (said,) = stack.rows("SELECT reason ->> 'answered_by' FROM late_returns.deployments WHERE action = 'approved'")
    assert said == (f"hand:{stack.environment['NIGHTSHIFT_UI_USER']}",)
    ((champion,),) = stack.rows("SELECT spec_id FROM late_returns.deployments WHERE action = 'promoted'")

    # The kill switch and its end take effect on the next prediction; the champion's version is one night old.
    stack.by_hand("kill_switch", {"state": "on", "reason": "an end-to-end test wants the fallback"})
    night = approval + DAY
    stack.run("ingest", str(night))
    stack.wait(STAGES, (str(night),))
    stack.by_hand("kill_switch", {"state": "off", "reason": "the end-to-end test has seen the fallback"})
    stack.run("ingest", str(after))
    stack.wait(("predict",), (str(after),))
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

    stack.wait(STAGES, (str(after),))
    for what, partition in (("training", "2020-03-15"), ("prediction", NIGHTS[-1])):
        stack.by_hand("reproduce", {"partition": partition, "what": what})
        address = f"nightshift/files/late_returns/reproduce-{what}/{partition}"
        result = json.loads(stack.page(f"{address}/reproduction.json"))
        assert result["verdict"] == "identical", result
        assert b"<html" in stack.page(f"{address}/reproduction.html")


def test_a_failed_run_alerts_once(stack, receiver):
    """Through Airflow's callback, which runs in the DAG processor."""
    partition, before = "2020-03-25", len(receiver.received)
    stack.nightshift("land", "late_returns", "--from", partition, "--to", partition)
    stack.put(f"landing/late_returns/bookings/dt={partition}/more.csv", b"colour\nred\n")
    stack.airflow("dags", "unpause", "--yes", "--treat-dag-id-as-regex", r"late_returns\.(ingest|watchdog)")
    stack.run("ingest", partition)
    stack.wait_until(lambda: len(receiver.received) > before)
    # Once more: the same cause of the same partition.
    stack.run("ingest", partition)
    stack.wait_until(
        lambda: [run.state for run in stack.runs("ingest") if run.partition_key == partition] == ["failed"] * 2
    )
    stack.by_hand("watchdog", {})
    about = [line for line in receiver.lines if line.startswith(f"ingest of {partition} failed: task land, run ")]
    assert len(about) == 1
    assert f"Log: {stack.environment['AIRFLOW_API_URL']}/dags/late_returns.ingest/runs/" in about[0]
    alerts = "SELECT cause, attempts, error FROM late_returns.alerts WHERE partition = '{}' AND sent_at IS NOT NULL"
    assert stack.rows(alerts.format(partition)) == [("failed:ingest", 1, "")]
    assert stack.nightshift("watchdog", "late_returns") == "late_returns: nothing is due\n"


def test_the_next_scheduled_night_makes_good_a_missed_one(stack):
    """As after a day without a scheduler: 2020-03-26 was delivered, and nothing ran."""
    broken, missed, night = "2020-03-25", "2020-03-26", "2020-03-27"
    stack.nightshift("land", "late_returns", "--from", missed, "--to", night)
    stack.airflow("dags", "unpause", "--yes", "--treat-dag-id-as-regex", r"late_returns\.(?!search|watchdog).*")
    stack.fall_due(date.fromisoformat(night))
    stack.wait_for_task("ingest", night, "run_missed", ("success",))
    stack.wait(STAGES, (night,))
    stack.wait(STAGES[1:], (missed,))

    runs = "SELECT dag_id, run_type, triggered_by FROM dag_run WHERE partition_key = '{}' ORDER BY dag_id"
    by_assets = [(f"late_returns.{stage}", "asset_triggered", "ASSET") for stage in sorted(STAGES[1:])]
    assert stack.metadata(runs.format(missed)) == by_assets
    assert stack.metadata(runs.format(night)) == sorted([*by_assets, ("late_returns.ingest", "scheduled", "TIMETABLE")])
    events = "SELECT source_task_id, source_run_id LIKE 'scheduled__%' FROM asset_event WHERE partition_key = '{}' "
    curated = "AND asset_id = (SELECT id FROM asset WHERE name = 'late_returns.curated')"
    assert stack.metadata(events.format(missed) + curated) == [("run_missed", True)]
    # What a person has to deliver again waits for that.
    assert {run.dag_id for run in stack.runs() if run.partition_key == broken} == {"late_returns.ingest"}

    served = stack.rows(
        "SELECT partition::text, rows, left(model_version, 10) FROM late_returns.publications "
        f"WHERE partition > '{broken}' ORDER BY 1"
    )
    # The night waited for the missed one, and predicts with its version.
    assert served == [(missed, 40, "2020-03-24"), (night, 40, missed)]


SECRET_FILES = {"credentials.json", "airflow/passwords.json", "s3/identities.json", "s3/security.toml", "s3/grpc.key"}
"""Where the stack keeps its secrets."""
METADATA = (
    "asset_event", "dag_code", "dag_run", "hitl_detail", "log", "rendered_task_instance_fields", "serialized_dag",
    "task_instance", "xcom",
)  # fmt: skip
"""Tables of Airflow that have rows after these runs; the others are searched as well."""
TOKEN = re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")
"""A signed token, such as Airflow gives to each task."""


def test_runs_leave_no_secret(stack, receiver):
    """All that the tests above left is searched for every secret of the stack: files, bucket, databases, alerts."""
    secrets = stack.secrets() | {"alerts": SECRET, "metrics": METRICS_TOKEN}
    assert secrets["database warehouse"] in stack.environment["NIGHTSHIFT_WAREHOUSE_URL"]
    assert secrets["database airflow"] in stack.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    # What the two stores keep is read through their interfaces.
    files = in_files(stack.layout.folder, without=["s3/data", "postgres"])
    kept = {path: files.pop(path) for path in SECRET_FILES}
    assert {path for _, path in found(kept, secrets)} == SECRET_FILES
    assert {stat.S_IMODE((stack.layout.folder / path).stat().st_mode) for path in SECRET_FILES} == {0o600}

    left = {
        "file": files,
        **{f"table of {name}": in_database(stack.layout.postgres.url(name)) for name in DATABASES},
        "alert": {str(number): text for number, text in enumerate(receiver.lines)},
    }
    with stack.in_this_process():
        left["object"] = in_bucket(ArtifactStore(load_settings()))
    # Each kind is there, and can be read.
    for kind, texts in left.items():
        assert any("late_returns" in text for text in texts.values()), kind
    logs = {path.partition("/run_id=")[0] for path in files}
    assert logs >= {f"airflow/logs/dag_id=late_returns.{stage}" for stage in STAGES}
    assert logs >= {f"logs/{service}.log" for service in SERVICES}
    assert {table for table, text in left["table of airflow"].items() if text} >= {f"public.{one}" for one in METADATA}
    assert "public.import_error" in left["table of airflow"]

    texts = {f"{kind} {name}": text for kind, texts in left.items() for name, text in texts.items()}
    assert found(texts, secrets) == set()
    assert [name for name, text in texts.items() if TOKEN.search(text)] == []
