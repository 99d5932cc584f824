"""The DAG files: what is there, how it hangs together, what it costs to parse."""

import copy
import importlib
import inspect
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from dagkit.alerts import alert_of_failed_run
from nightshift import pipeline
from nightshift.pipeline import find_stage, step_module
from support.second_use_case import CONSUMER_ROOT
from support.second_use_case import ROOT as SECOND_USE_CASE

ROOT = Path(__file__).resolve().parents[2]
DAG_FILES = sorted(p for p in (ROOT / "dags").glob("*.py"))
NIGHTLY = {"ingest", "materialize", "train", "promote", "predict", "check_drift"}
BY_HAND = {
    "backfill_history",
    "backtest",
    "rollback_model",
    "kill_switch",
    "retire_model",
    "annul_decision",
    "reproduce",
    "answer_review",
}
WEEKLY = {"search", "attack"}
STAGES = NIGHTLY | BY_HAND | WEEKLY | {"watchdog", "maintenance"}
HEAVY = {
    "great_expectations",
    "feast",
    "sklearn",
    "xgboost",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "mlflow",
    "pandas",
    "numpy",
    "pyarrow",
    "duckdb",
    "matplotlib",
    "boto3",
    "psycopg",
    "apprise",
}

BESIDE_STEPS = {
    "promote": {"approval_needed": ["advance"], "approve": ["approval_needed"]},
    "check_drift": {"request_search": ["apply_rules"]},
    "backfill_history": {
        "plan_history": [],
        "ingest_history": ["plan_history"],
        "materialize_history": ["ingest_history", "plan_history"],
        "append_history": ["materialize_history", "plan_history"],
        "announce_history": ["append_history"],
    },
    "backtest": {"nominate_requested": ["backtest"]},
    "watchdog": {"check_publication": []},
    "maintenance": {"sweep_orphans": []},
    "ingest": {"run_missed": ["catch_up"]},
}
"""Tasks that run no step, by stage, each with the tasks before it."""
FURTHER = {"promote": {"record_approval": {"approve"}}, "backtest": {"attack": {"nominate_requested"}}}
"""Tasks that a step waits for in addition to those that it gets inputs from, by stage."""
BY_RUN = {
    "record_approval": {"answer", "decided_by"},
    "rollback_model": {"reason", "decided_by"},
    "kill_switch": {"state", "reason", "decided_by"},
    "retire_model": {"spec_or_version", "reason", "decided_by"},
    "annul_decision": {"deployment_id", "reason", "decided_by"},
    "reproduce": {"what"},
    "answer_review": {"key", "answer", "decided_by"},
}
"""Arguments that a step must get from its DAG run, not from an earlier step."""


def test_every_file_is_accounted_for(dag_bag):
    assert dag_bag.import_errors == {}
    assert {path.stem for path in DAG_FILES} == STAGES | {"broken_use_cases"}
    assert set(dag_bag.dags) == {f"flight_delay.{stage}" for stage in STAGES} | {"nightshift.watchdog"}


def test_every_dag_can_be_serialized(dag_bag):
    """As the DAG processor does, which otherwise makes no DAG of the file."""
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dag_bag.dags.values():
        assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).dag_id == dag.dag_id


def test_a_broken_use_case_is_an_import_error_of_its_own(dag_bag, tmp_path, monkeypatch):
    folder = tmp_path / "include" / tmp_path.name
    folder.mkdir(parents=True)
    (folder / "use_case.py").write_text("USE_CASE = UseCase(name='misspelt', titel='')\n")
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path))
    parsed = type(dag_bag)(str(ROOT / "dags"))
    assert set(parsed.dags) == set(dag_bag.dags)
    ((path, error),) = parsed.import_errors.items()
    assert path.endswith("broken_use_cases.py")
    assert f"{folder / 'use_case.py'}, line 1: NameError" in error


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_dag_has_the_steps_and_inputs_of_its_stage(dag_bag, stage):
    declared = find_stage(stage)
    expected = {
        step.name: {*step.inputs.values(), *FURTHER.get(stage, {}).get(step.name, ())} for step in declared.steps
    }
    if declared.records_failure:
        expected["record_failure"] = {step.name for step in declared.steps if step.decides}
    expected |= {name: set(before) for name, before in BESIDE_STEPS.get(stage, {}).items()}
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    assert {task.task_id: set(task.upstream_task_ids) for task in dag.tasks} == expected


def test_every_input_is_an_argument_of_its_step():
    for stage in pipeline.STAGES:
        earlier = set()
        for step in stage.steps:
            parameters = inspect.signature(importlib.import_module(step_module(step.name)).run).parameters
            assert {*step.inputs, *step.last_try} <= set(parameters), step.name
            required = {name for name, one in parameters.items() if one.default is one.empty} - {"context"}
            assert required - set(step.inputs) == BY_RUN.get(step.name, set()), step.name
            assert set(step.inputs.values()) <= earlier, step.name
            assert not step.mapped_over or step.mapped_over in step.inputs, step.name
            earlier.add(step.name)
        assert stage.borrowed <= earlier


def test_only_leaf_steps_may_fail_without_rejection():
    leaves = {step.name for stage in pipeline.STAGES for step in stage.steps if not step.decides}
    assert leaves == {
        "catch_up", "record_performance", "load_online", "report_training", "track_training", "record_pipeline",
        "queue_reviews", "mirror_models", "record_approval",
    }  # fmt: skip
    assert {stage.name for stage in pipeline.STAGES if stage.records_failure} == {
        "ingest",
        "materialize",
        "train",
        "predict",
        "promote",
    }


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_task_can_be_operated(dag_bag, stage):
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    assert dag.doc_md
    assert {"nightshift", "flight_delay", stage} <= set(dag.tags)
    assert dag.dagrun_timeout
    assert dag.on_failure_callback is alert_of_failed_run
    for task in dag.tasks:
        assert task.owner == "data-platform", task.task_id
        assert task.retries > 0, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        assert task.execution_timeout, task.task_id
        assert task.doc_md, task.task_id
        if task.is_mapped:
            assert task.map_index_template, task.task_id


def test_waiting_approval_takes_no_run_slot(dag_bag):
    promote, train, predict = (dag_bag.dags[f"flight_delay.{stage}"] for stage in ("promote", "train", "predict"))
    review = promote.get_task("review")
    assert promote.max_active_runs > 16 > review.max_active_tis_per_dag
    # Their runs wait for nights alone, and a run in Airflow's queue keeps its place.
    assert train.max_active_runs == predict.max_active_runs == review.max_active_tis_per_dag


def test_what_is_scheduled_by_time(dag_bag):
    schedules = {dag_id.split(".")[1]: type(dag.timetable).__name__ for dag_id, dag in dag_bag.dags.items()}
    assert schedules == {
        "ingest": "CronPartitionTimetable",
        **dict.fromkeys(NIGHTLY - {"ingest"} | WEEKLY, "PartitionedAssetTimetable"),
        **dict.fromkeys(BY_HAND, "NullTimetable"),
        **dict.fromkeys(("watchdog", "maintenance"), "CronTriggerTimetable"),
    }
    outlets = {
        f"{dag_id.split('.')[1]}.{task.task_id}": [asset.name for asset in task.outlets]
        for dag_id, dag in dag_bag.dags.items()
        for task in dag.tasks
        if task.outlets
    }
    assert outlets == {
        "ingest.publish": ["flight_delay.curated"],
        "ingest.run_missed": ["flight_delay.curated"],
        "materialize.publish_features": ["flight_delay.features"],
        "predict.publish_predictions": ["flight_delay.predictions"],
        "check_drift.request_search": ["flight_delay.search_request"],
        "backfill_history.announce_history": ["flight_delay.history"],
    }


def test_predictions_of_another_use_case_are_inlets_and_start_no_run(dag_bag, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", os.pathsep.join([str(SECOND_USE_CASE), str(CONSUMER_ROOT)]))
    parsed = type(dag_bag)(str(ROOT / "dags" / "ingest.py"))
    assert parsed.import_errors == {}
    tasks = {task.task_id: task for task in parsed.dags["late_fees.ingest"].tasks}
    assert [asset.name for asset in tasks["land"].inlets] == ["late_returns.predictions"]
    assert tasks["land"].upstream_task_ids == set()
    assert type(parsed.dags["late_fees.ingest"].timetable).__name__ == "CronPartitionTimetable"


@pytest.mark.parametrize("stage", sorted(BY_HAND | WEEKLY))
def test_manual_dags_run_after_the_last_partition(dag_bag, stage):
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    assert dag.end_date is None
    assert dag.catchup is False
    for name in set(dag.params) - {"first", "last"}:
        param = dag.params.get_param(name)
        assert param.description, name
        assert param.schema["title"], name


@pytest.mark.parametrize("stage", ["rollback_model", "kill_switch", "retire_model", "annul_decision"])
def test_a_decision_by_hand_needs_a_reason(dag_bag, stage):
    from airflow.sdk.exceptions import ParamValidationError

    def checked(**filled):
        params = copy.deepcopy(dag_bag.dags[f"flight_delay.{stage}"].params)
        about = {"state": "on", "spec_or_version": "2013-06-01-0123abcd", "deployment_id": 7}
        params.update({**about, **filled})
        return params.validate()

    for too_short in ({}, {"reason": ""}, {"reason": "broken"}):
        with pytest.raises(ParamValidationError, match=r"reason|short"):
            checked(**too_short)
    assert checked(reason="scores are near zero")["partition"] is None


@pytest.fixture(scope="module")
def imported_afresh() -> dict[str, list[str]]:
    """What each DAG file imports in a process that has imported Airflow, as the DAG processor's children have."""
    code = """
import json, sys, runpy
import airflow.sdk, pydantic
from airflow.sdk import DAG, task, Asset, Param, CronPartitionTimetable, PartitionedAssetTimetable, TriggerRule
sys.path.insert(0, sys.argv[1])
known, found = set(sys.modules), {}
for path in sys.argv[2:]:
    runpy.run_path(path)
    found[path] = sorted({m.split(".")[0] for m in set(sys.modules) - known})
print(json.dumps(found))
"""
    command = [sys.executable, "-c", code, str(ROOT / "dags"), *map(str, DAG_FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_parsing_imports_nothing_heavy(imported_afresh):
    assert {Path(name).stem for name in imported_afresh} == STAGES | {"broken_use_cases"}
    for name, imported in imported_afresh.items():
        assert "nightshift" in imported, name
        assert not HEAVY & set(imported), name


def priorities(dag_bag, stage):
    return {task.task_id: task.priority_weight for task in dag_bag.dags[f"flight_delay.{stage}"].tasks}


def test_people_go_before_predictions_and_a_search_goes_last(dag_bag):
    order = ["kill_switch", "predict", "train", "materialize", "ingest", "promote", "check_drift", "search"]
    found = [priorities(dag_bag, stage).values() for stage in order]
    assert all(min(first) > max(later) for first, later in pairwise(found))


def test_a_night_under_way_goes_before_others(dag_bag):
    found = priorities(dag_bag, "predict")
    path = ["resolve_model", "calibrate", "score", "audit", "publish_predictions"]
    assert all(found[earlier] < found[later] for earlier, later in pairwise(path))
    assert found["queue_reviews"] == min(found.values())


def test_tasks_have_the_priority_of_their_stage(dag_bag):
    for stage in STAGES:
        assert min(priorities(dag_bag, stage).values()) == find_stage(stage).priority, stage


def test_a_stage_that_is_not_declared_is_an_import_error(dag_bag, tmp_path):
    text = (ROOT / "dags" / "kill_switch.py").read_text(encoding="utf-8")
    added = tmp_path / "tidy_up.py"
    added.write_text(text.replace('(use_case, "kill_switch", doc', '(use_case, "tidy_up", doc'), encoding="utf-8")
    parsed = type(dag_bag)(str(tmp_path))
    assert parsed.dags == {}
    (error,) = parsed.import_errors.values()
    assert "NS-SETTINGS-006" in error
    assert "'tidy_up'" in error
