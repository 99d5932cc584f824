"""What the callback of a failed run, and the task of the watchdog, make of what Airflow passes to them."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from dagkit.alerts import alert_about, alert_of_failed_partition, alert_of_failed_run, record_alert
from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.discovery import load_use_case
from nightshift.errors import PredictionsOverdue, WarehouseUnavailable

FLIGHTS = load_use_case("flight_delay")
RUN = "asset_triggered__2013-03-02"
STATES = {"land": "success", "validate": "failed", "publish": "upstream_failed", "record_failure": "failed"}


def context(stage, *, key=None, params=None, reason="task_failure", states=STATES, run_after=None):
    """As airflow.dag_processing.processor makes it for a callback."""
    ti = SimpleNamespace(
        dag_id=f"flight_delay.{stage}",
        task_id="record_failure",
        log_url="http://ui/log",
        get_task_states=lambda dag_id, run_ids: {run_ids[0]: states},
    )
    dag_run = SimpleNamespace(partition_key=key, run_after=run_after or datetime(2013, 3, 2, 8, tzinfo=UTC))
    dag = SimpleNamespace(dag_id=f"flight_delay.{stage}")
    return {"dag": dag, "run_id": RUN, "reason": reason, "ti": ti, "dag_run": dag_run, "params": params or {}}


def test_a_failed_night_is_one_cause_with_the_tasks_that_failed():
    alert = alert_about(FLIGHTS, context("ingest", key="2013-03-01"))
    message = f"ingest of 2013-03-01 failed: task validate, run {RUN}. Log: http://ui/log"
    assert alert == Alert(date(2013, 3, 1), "failed:ingest", message)


@pytest.mark.parametrize(("reason", "text"), [("timed_out", "took too long"), ("all_tasks_deadlocked", "cannot go on")])
def test_other_ends_of_a_run_are_named(reason, text):
    alert = alert_about(FLIGHTS, context("predict", key="2013-03-01", reason=reason, states={}))
    assert alert.message.startswith(f"predict of 2013-03-01 {text}: task record_failure, run {RUN}")


@pytest.mark.parametrize("params", [{"partition": "2013-03-01"}, {"first": "2013-01-01", "last": "2013-03-01"}])
def test_each_run_by_hand_is_a_cause(params):
    alert = alert_about(FLIGHTS, context("kill_switch", params=params))
    assert (alert.partition, alert.cause) == (date(2013, 3, 1), f"failed:kill_switch:{RUN}")


def test_a_run_without_partition_or_task_is_an_alert():
    bare = {"dag": SimpleNamespace(dag_id="flight_delay.train"), "run_id": RUN, "reason": "task_failure"}
    assert alert_about(FLIGHTS, bare) == Alert(None, f"failed:train:{RUN}", f"train failed: run {RUN}")


def test_a_failed_watchdog_is_the_cause_that_it_records_itself():
    at = FLIGHTS.deadline_of(date(2013, 3, 1))
    alert = alert_about(FLIGHTS, context("watchdog", run_after=at, states={"check_publication": "failed"}))
    assert (alert.partition, alert.cause) == (date(2013, 3, 1), "overdue")
    after = alert_about(FLIGHTS, context("watchdog", run_after=at + timedelta(days=9999)))
    assert (after.partition, after.cause) == (None, f"failed:watchdog:{RUN}")


def test_the_callback_records_the_alert_of_its_use_case(monkeypatch):
    raised = []
    monkeypatch.setattr("nightshift.services.alerts.raise_alert", lambda *arguments: raised.append(arguments))
    monkeypatch.setattr("nightshift.settings.load_settings", lambda: "settings")
    monkeypatch.setattr("dagkit.alerts.use_connections", lambda: None)
    alert_of_failed_run(context("ingest", key="2013-03-01"))
    ((settings, use_case, alert),) = raised
    assert (settings, use_case.name, alert.cause) == ("settings", "flight_delay", "failed:ingest")


def test_a_partition_that_fails_in_the_run_of_a_later_one_has_the_cause_of_its_own_run(monkeypatch):
    raised = []
    monkeypatch.setattr("nightshift.services.alerts.raise_alert", lambda *arguments: raised.append(arguments))
    monkeypatch.setattr("nightshift.settings.load_settings", lambda: "settings")
    monkeypatch.setattr("dagkit.alerts.use_connections", lambda: None)
    day = date(2013, 3, 1)
    alert_of_failed_partition(FLIGHTS, day, "out of memory")
    message = "ingest of 2013-03-01 failed when it was run again: out of memory"
    of_its_own_run = alert_about(FLIGHTS, context("ingest", key=str(day)))
    assert raised == [("settings", FLIGHTS, Alert(day, of_its_own_run.cause, message))]


@pytest.mark.parametrize("error", [None, WarehouseUnavailable("NS-TEST-002", "no answer")])
def test_record_failure_records_what_the_callback_will_send(error, monkeypatch, caplog):
    recorded = []

    class Recorder:
        def __init__(self, settings, use_case):
            assert (settings, use_case) == ("settings", FLIGHTS)

        def record_alert(self, alert):
            if error:
                raise error
            recorded.append(alert)

    monkeypatch.setattr("nightshift.io.warehouse.warehouse.Warehouse", Recorder)
    monkeypatch.setattr("nightshift.settings.load_settings", lambda: "settings")
    running = context("ingest", key="2013-03-01", states=STATES | {"record_failure": "running"})
    del running["reason"]
    record_alert(FLIGHTS, running)
    assert recorded == ([] if error else [alert_about(FLIGHTS, context("ingest", key="2013-03-01"))])
    assert ("NS-TEST-002" in caplog.text) == bool(error)


@pytest.fixture
def watch(dag_bag, set_context, monkeypatch):
    """The task of the watchdog, run at a time, with a check that returns or raises what is given."""

    def run(result):
        at = FLIGHTS.deadline_of(date(2013, 3, 1))
        set_context({"dag_run": SimpleNamespace(run_after=at)})

        def check(use_case, settings, store, now):
            assert (use_case.name, now) == ("flight_delay", at)
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr("nightshift.services.watchdog.check_publication", check)
        monkeypatch.setattr("nightshift.settings.load_settings", lambda: None)
        monkeypatch.setattr("dagkit.watchdog.open_store", lambda: None)
        return dag_bag.dags["flight_delay.watchdog"].get_task("check_publication").python_callable("flight_delay")

    return run


def test_the_watchdog_fails_at_once_if_nothing_is_published(watch):
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    assert watch(date(2013, 3, 1)) == "2013-03-01 is published"
    assert watch(None) == "nothing is due"
    with pytest.raises(AirflowFailException, match="NS-TEST-001"):
        watch(PredictionsOverdue("NS-TEST-001", "nothing is published"))
    with pytest.raises(AirflowException, match="NS-TEST-002") as caught:
        watch(WarehouseUnavailable("NS-TEST-002", "no answer"))
    assert not isinstance(caught.value, AirflowFailException)


def test_the_watchdog_alerts_within_minutes_of_an_outage(dag_bag):
    task = dag_bag.dags["flight_delay.watchdog"].get_task("check_publication")
    assert task.retries * task.retry_delay * 2 <= timedelta(minutes=6)
