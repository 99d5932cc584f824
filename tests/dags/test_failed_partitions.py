"""How a failed run decides its partition, and how long tasks try before they fail."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.errors import FeatureContractError

DECIDING = {
    "ingest": "publish",
    "materialize": "publish_features",
    "train": "register",
    "predict": "publish_predictions",
}


@pytest.fixture
def steps_run(dag_bag, set_context, monkeypatch):
    """Steps that were run in a task of run 'run-7' of 2013-03-01 in which two tasks had failed, with arguments."""
    states = {"land": "success", "validate": "failed", "publish": "upstream_failed", "profile": "failed"}
    ti = SimpleNamespace(dag_id="flight_delay.ingest", get_task_states=lambda dag_id, run_ids: {run_ids[0]: states})
    dag_run = SimpleNamespace(partition_key="2013-03-01")
    context = {"run_id": "run-7", "ti": ti, "dag_run": dag_run, "params": {}}
    set_context(context)
    run = []

    def note(use_case, name, partition, arguments):
        run.append((name, partition.isoformat(), dict(arguments)))
        if name == "publish_features":
            raise FeatureContractError("NS-TEST-001", "plane has no rows")
        return {"uri": "s3://b/a/", "sha256": "0", "kind": name}

    monkeypatch.setattr(
        "dagkit.steps.record_alert", lambda use_case, context: run.append((use_case.name, context["run_id"]))
    )
    monkeypatch.setattr("dagkit.steps.run_step", note)
    monkeypatch.setattr("dagkit.history.run_step", note)
    return run


@pytest.mark.parametrize("stage", DECIDING)
def test_every_task_before_the_decision_leads_to_record_failure(dag_bag, stage):
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    record = dag.get_task("record_failure")
    # A training goes on without the spec that failed, and registers the others first.
    assert record.trigger_rule == ("all_done" if stage == "train" else "one_failed")
    deciding = dag.get_task(DECIDING[stage])
    assert record.upstream_task_ids == deciding.get_flat_relative_ids(upstream=True) | {deciding.task_id}


def test_a_failed_run_is_recorded_and_stays_red(dag_bag, steps_run):
    from airflow.sdk.exceptions import AirflowFailException

    record = dag_bag.dags["flight_delay.ingest"].get_task("record_failure").python_callable
    with pytest.raises(AirflowFailException, match="profile, validate failed"):
        record("flight_delay", "ingest")
    arguments = {"stage": "ingest", "run_id": "run-7", "failed_tasks": ["profile", "validate"]}
    assert steps_run == [("record_failure", "2013-03-01", arguments), ("flight_delay", "run-7")]


@pytest.mark.parametrize("leaf", ["success", "failed"])
def test_a_run_without_a_failure_records_none(leaf, dag_bag, steps_run, set_context):
    from airflow.sdk.exceptions import AirflowSkipException

    states = {"run-7": {"fit_0": "success", "register": "success", "report_training": leaf}}
    ti = SimpleNamespace(dag_id="flight_delay.train", get_task_states=lambda dag_id, run_ids: states)
    set_context({"run_id": "run-7", "ti": ti, "dag_run": SimpleNamespace(partition_key="2013-03-01"), "params": {}})
    record = dag_bag.dags["flight_delay.train"].get_task("record_failure").python_callable
    with pytest.raises(AirflowSkipException):
        record("flight_delay", "train")
    assert steps_run == []


def test_a_training_goes_on_without_a_spec_that_failed(dag_bag):
    dag = dag_bag.dags["flight_delay.train"]
    verify, register = dag.get_task("verify"), dag.get_task("register")
    # Not all_done: in a cleared run whose first task fails, it would verify and register versions of the run before.
    assert verify.trigger_rule == register.trigger_rule == "all_done_min_one_success"
    assert verify.upstream_task_ids == {"build_training_set", "fit"}
    # Whether there is a version to register follows from these alone.
    assert register.upstream_task_ids == {"verify"}


def test_a_day_of_history_that_breaks_a_contract_is_rejected(dag_bag, steps_run):
    from dagkit.history import run_history_chunk

    use_case = load_use_case("flight_delay")
    found = run_history_chunk(use_case, "materialize", ["2013-01-01", "2013-01-02"])
    assert found["rejected"] == dict.fromkeys(("2013-01-01", "2013-01-02"), "NS-TEST-001: plane has no rows")
    arguments = {"stage": "materialize", "run_id": "run-7", "failed_tasks": ["publish_features"]}
    assert [step for step in steps_run if step[0] == "record_failure"] == [
        ("record_failure", "2013-01-01", arguments),
        ("record_failure", "2013-01-02", arguments),
    ]


@pytest.fixture
def emitted(dag_bag, monkeypatch):
    """What `run_missed` does with a list of partitions: those that it emits, and its result."""
    from dagkit import assets, history
    from nightshift.documents.ingest import CatchUp

    use_case = load_use_case("flight_delay")
    keys = []
    events = {assets.curated(use_case): SimpleNamespace(add_partitions=keys.extend)}

    def run(set_context, *days):
        document = CatchUp(run_again=dict.fromkeys(days, "ingest did not decide it"))
        monkeypatch.setattr(history, "read_document", lambda ref, kind: document)
        set_context({"run_id": "run-7", "outlet_events": events})
        return history.run_missed_partitions(use_case.name, {}), keys

    return run


@pytest.fixture
def alerted(monkeypatch):
    """The partitions and reasons of which `run_missed` alerts people."""
    alerts = {}
    monkeypatch.setattr(
        "dagkit.history.alert_of_failed_partition", lambda use_case, day, why: alerts.update({day.isoformat(): why})
    )
    return alerts


def test_missed_partitions_are_ingested_and_announced(emitted, steps_run, set_context):
    result, keys = emitted(set_context, "2013-03-02", "2013-03-01")
    assert result == {"done": ["2013-03-01", "2013-03-02"], "rejected": {}, "failed": {}}
    assert keys == ["2013-03-01", "2013-03-02"]
    steps = ["land", "profile", "validate", "publish"]
    assert [one[:2] for one in steps_run] == [(step, day) for day in keys for step in steps]
    assert steps_run[0][2] == {"reject_undelivered": True}


def test_a_missed_partition_that_fails_does_not_keep_others_from_being_ingested(
    emitted, steps_run, set_context, alerted, monkeypatch
):
    def broken(use_case, name, partition, arguments):
        if partition.day == 1:
            raise RuntimeError("out of memory")
        return {"uri": "s3://b/a/", "sha256": "0", "kind": name}

    monkeypatch.setattr("dagkit.history.run_step", broken)
    result, keys = emitted(set_context, "2013-03-01", "2013-03-02")
    assert (result["failed"], keys) == ({"2013-03-01": "out of memory"}, ["2013-03-02"])
    assert alerted == {"2013-03-01": "out of memory"}
    with pytest.raises(RuntimeError, match="out of memory"):
        emitted(set_context, "2013-03-01")


def test_nothing_missed_announces_nothing(emitted, steps_run, set_context):
    """A task that succeeds emits its asset for the run's own partition: it has to be skipped."""
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException):
        emitted(set_context)
    assert steps_run == []


def test_missed_partitions_that_are_rejected_are_alerted_and_not_announced(
    emitted, steps_run, set_context, alerted, monkeypatch
):
    from airflow.sdk.exceptions import AirflowFailException

    def broken(use_case, name, partition, arguments):
        if name == "validate" and partition.day == 1:
            raise FeatureContractError("NS-TEST-001", "no")
        return {"uri": "s3://b/a/", "sha256": "0", "kind": name}

    monkeypatch.setattr("dagkit.history.run_step", broken)
    result, keys = emitted(set_context, "2013-03-01", "2013-03-02")
    assert (result["done"], list(result["rejected"]), keys) == (["2013-03-02"], ["2013-03-01"], ["2013-03-02"])
    assert alerted == {"2013-03-01": "NS-TEST-001: no"}
    with pytest.raises(AirflowFailException, match="2013-03-01"):
        emitted(set_context, "2013-03-01")


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "manual"])
def test_only_scheduled_runs_catch_up(dag_bag, set_context, run_type):
    from dagkit.history import of_scheduled_run

    set_context({"dag_run": SimpleNamespace(run_type=run_type)})
    assert of_scheduled_run({"published": 1}) == {"published": 1, "may_run": run_type == "scheduled"}


def least_wait(task, retries):
    """The shortest time that so many retries take: Airflow waits up to twice as long."""
    delays = (task.retry_delay * task.retry_exponential_backoff**n for n in range(retries))
    return sum((min(delay, task.max_retry_delay) for delay in delays), timedelta())


def test_the_path_to_predictions_outlasts_an_hour_of_outage(dag_bag):
    for stage in ("ingest", "materialize", "predict"):
        for task in dag_bag.dags[f"flight_delay.{stage}"].tasks:
            assert least_wait(task, task.retries) >= timedelta(hours=1), task.task_id


@pytest.fixture
def gives_up_after(set_context, monkeypatch):
    """The retries after which a task does not wait any longer; `cleared`: retries before it was cleared."""
    monkeypatch.setattr("dagkit.steps.run_step", lambda use_case, name, partition, arguments: dict(arguments))

    def find(task, cleared=0):
        dag_run = SimpleNamespace(partition_key="2013-03-01")
        for retry in range(task.retries + 1):
            ti = SimpleNamespace(try_number=cleared + retry + 1, max_tries=cleared + task.retries)
            set_context({"ti": ti, "dag_run": dag_run, "params": {}})
            if arguments := task.python_callable():
                assert arguments == {"allow_undecided": True}
                return retry
        return None

    return find


@pytest.mark.parametrize("cleared", [0, 5])
@pytest.mark.parametrize(("stage", "task_id"), [("materialize", "build_features"), ("train", "append_training_rows")])
def test_earlier_partitions_are_waited_for_some_minutes(dag_bag, gives_up_after, stage, task_id, cleared):
    task = dag_bag.dags[f"flight_delay.{stage}"].get_task(task_id)
    retries = gives_up_after(task, cleared)
    assert timedelta(minutes=5) < least_wait(task, retries) < timedelta(minutes=10)
    assert least_wait(task, task.retries) - least_wait(task, retries) >= timedelta(minutes=50)


AFTER_NIGHT_BEFORE = {
    "train": ("build_training_set", "choose_specs"),
    "predict": ("resolve_model",),
    "promote": ("review",),
}


@pytest.mark.parametrize(
    ("stage", "task_id"), [(stage, task_id) for stage, task_ids in AFTER_NIGHT_BEFORE.items() for task_id in task_ids]
)
def test_a_night_before_that_is_under_way_is_waited_for_an_hour(dag_bag, gives_up_after, stage, task_id, monkeypatch):
    task = dag_bag.dags[f"flight_delay.{stage}"].get_task(task_id)
    longer = True
    monkeypatch.setattr("dagkit.steps.open_store", lambda: None)
    monkeypatch.setattr("nightshift.services.night_before.waits_for_an_hour", lambda partition, use_case, store: longer)
    retries = gives_up_after(task)
    assert timedelta(hours=1) < least_wait(task, retries) < timedelta(minutes=80)
    # As on the path to predictions after any other wait.
    assert least_wait(task, task.retries) - least_wait(task, retries) >= timedelta(minutes=50)
    longer = False
    assert timedelta(minutes=5) < least_wait(task, gives_up_after(task)) < timedelta(minutes=10)


def test_a_version_is_verified_after_the_training_of_the_night_before(dag_bag):
    tasks = dag_bag.dags["flight_delay.train"].task_dict
    # A mapped task has no function of its own to call.
    assert tasks["verify"].is_mapped
    assert tasks["verify"].retries == tasks["choose_specs"].retries > tasks["append_training_rows"].retries


def test_nothing_waits_for_the_online_store(dag_bag):
    dag = dag_bag.dags["flight_delay.materialize"]
    load = dag.get_task("load_online")
    assert not load.downstream_task_ids
    assert not load.outlets
