"""The DAG files: what is there, how it hangs together, what it costs to parse."""

import copy
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from dagkit import defaults

ROOT = Path(__file__).resolve().parents[2]
DAG_FILES = sorted(p for p in (ROOT / "dags").glob("*.py"))
NIGHTLY = {"ingest", "materialize", "train", "promote", "predict", "check_drift"}
BY_HAND = {"backfill_history", "backtest", "rollback_model", "kill_switch", "retire_model", "reproduce"}
STAGES = NIGHTLY | BY_HAND | {"search"}
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
}

GRAPHS = {
    "ingest": {
        "land": ["profile", "record_failure", "validate"],
        "profile": ["publish", "record_failure"],
        "validate": ["publish", "record_failure"],
        "publish": ["record_failure"],
        "record_failure": [],
    },
    "materialize": {
        "build_features": ["publish_features", "record_failure"],
        "publish_features": ["load_online", "record_failure"],
        "load_online": [],
        "record_failure": [],
    },
    "train": {
        "append_training_rows": ["build_training_set", "record_failure"],
        "build_training_set": ["fit", "record_failure", "verify"],
        "choose_specs": ["fit", "record_failure"],
        "fit": ["record_failure", "verify"],
        "verify": ["record_failure", "register"],
        "register": ["record_failure", "report_training", "track_training"],
        "report_training": [],
        "track_training": [],
        "record_failure": [],
    },
    "promote": {
        "review": ["advance"],
        "advance": ["approval_needed", "mirror_models", "record_approval"],
        "mirror_models": [],
        "approval_needed": ["approve"],
        "approve": ["record_approval"],
        "record_approval": [],
    },
    "predict": {
        "resolve_model": ["calibrate", "record_failure", "score"],
        "calibrate": ["record_failure", "score"],
        "score": ["audit", "publish_predictions", "record_failure"],
        "audit": ["publish_predictions", "record_failure"],
        "publish_predictions": ["record_failure"],
        "record_failure": [],
    },
    "check_drift": {
        "compare_drift": ["record_drift", "report_drift"],
        "report_drift": ["record_drift"],
        "record_drift": ["ask_for_search"],
        "ask_for_search": [],
    },
    "backfill_history": {
        "plan_history": ["append_history", "ingest_history", "materialize_history"],
        "ingest_history": ["materialize_history"],
        "materialize_history": ["append_history"],
        "append_history": ["announce_history"],
        "announce_history": [],
    },
    "backtest": {"backtest": ["nominate", "wanted"], "wanted": ["nominate"], "nominate": []},
    "rollback_model": {"rollback_model": []},
    "kill_switch": {"kill_switch": []},
    "retire_model": {"retire_model": []},
    "reproduce": {"reproduce": []},
    "search": {
        "find_training_set": ["fit", "plan_race", "race", "study", "verify"],
        "study": ["plan_race", "report_search"],
        "plan_race": ["race"],
        "race": ["select_candidates"],
        "select_candidates": ["fit", "report_search"],
        "fit": ["verify"],
        "verify": ["report_search"],
        "report_search": [],
    },
}


def test_every_file_is_accounted_for(dag_bag):
    assert dag_bag.import_errors == {}
    assert {path.stem for path in DAG_FILES} == STAGES | {"broken_use_cases"}
    assert set(dag_bag.dags) == {f"flight_delay.{stage}" for stage in STAGES}


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
def test_graph(dag_bag, stage):
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    assert {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks} == GRAPHS[stage]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_task_can_be_operated(dag_bag, stage):
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    assert dag.doc_md
    assert {"nightshift", "flight_delay", stage} <= set(dag.tags)
    assert dag.dagrun_timeout
    for task in dag.tasks:
        assert task.owner == "data-platform", task.task_id
        assert task.retries > 0, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        assert task.execution_timeout, task.task_id
        assert task.doc_md, task.task_id
        if task.is_mapped:
            assert task.map_index_template, task.task_id


def test_predictions_wait_for_a_training_for_minutes_only(dag_bag):
    resolve = dag_bag.dags["flight_delay.predict"].get_task("resolve_model")
    waiting = resolve.retries - defaults.WAITED_ENOUGH
    delays = [resolve.retry_delay * resolve.retry_exponential_backoff**n for n in range(waiting)]
    waited = sum((min(d, resolve.max_retry_delay) for d in delays), timedelta())
    assert timedelta(minutes=4) < waited < timedelta(minutes=15)


def test_a_run_that_waits_for_a_person_keeps_no_night_out_and_tries_at_once_are_bounded(dag_bag):
    promote, train, predict = (dag_bag.dags[f"flight_delay.{stage}"] for stage in ("promote", "train", "predict"))
    review = promote.get_task("review")
    assert promote.max_active_runs > 16 > review.max_active_tis_per_dag
    # Their runs wait for nights alone, and a run in Airflow's queue keeps its place.
    assert train.max_active_runs == predict.max_active_runs == review.max_active_tis_per_dag


def test_only_the_root_is_scheduled_by_time_and_the_rest_follows_assets(dag_bag):
    schedules = {dag_id.split(".")[1]: type(dag.timetable).__name__ for dag_id, dag in dag_bag.dags.items()}
    assert schedules == {
        "ingest": "CronPartitionTimetable",
        **dict.fromkeys(NIGHTLY - {"ingest"} | {"search"}, "PartitionedAssetTimetable"),
        **dict.fromkeys(BY_HAND, "NullTimetable"),
    }
    outlets = {
        f"{dag_id.split('.')[1]}.{task.task_id}": [asset.name for asset in task.outlets]
        for dag_id, dag in dag_bag.dags.items()
        for task in dag.tasks
        if task.outlets
    }
    assert outlets == {
        "ingest.publish": ["flight_delay.curated"],
        "materialize.publish_features": ["flight_delay.features"],
        "predict.publish_predictions": ["flight_delay.predictions"],
        "check_drift.ask_for_search": ["flight_delay.search_request"],
        "backfill_history.announce_history": ["flight_delay.history"],
    }


@pytest.mark.parametrize("stage", sorted(BY_HAND | {"search"}))
def test_what_is_done_by_hand_can_be_done_after_the_last_partition_and_its_form_explains_itself(dag_bag, stage):
    dag = dag_bag.dags[f"flight_delay.{stage}"]
    assert dag.end_date is None
    assert dag.catchup is False
    for name in set(dag.params) - {"first", "last"}:
        param = dag.params.get_param(name)
        assert param.description, name
        assert param.schema["title"], name


@pytest.mark.parametrize("stage", ["rollback_model", "kill_switch", "retire_model"])
def test_a_decision_by_hand_needs_a_reason(dag_bag, stage):
    from airflow.sdk.exceptions import ParamValidationError

    def checked(**filled):
        params = copy.deepcopy(dag_bag.dags[f"flight_delay.{stage}"].params)
        params.update({"state": "on", "spec_or_version": "2013-06-01-0123abcd", **filled})
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


def test_people_go_before_predictions_and_a_search_goes_last(dag_bag):
    order = ["kill_switch", "predict", "ingest", "promote", "check_drift", "train", "search"]
    found = [{task.priority_weight for task in dag_bag.dags[f"flight_delay.{stage}"].tasks} for stage in order]
    assert all(len(weights) == 1 for weights in found)
    weights = [weight for (weight,) in found]
    assert weights == sorted(set(weights), reverse=True)


def test_every_stage_has_a_priority_and_its_tasks_have_it(dag_bag):
    assert set(defaults.PRIORITIES) == STAGES
    for stage in STAGES:
        weights = {task.priority_weight for task in dag_bag.dags[f"flight_delay.{stage}"].tasks}
        assert weights == {defaults.PRIORITIES[stage]}, stage


def test_a_stage_without_a_priority_is_an_import_error(dag_bag, tmp_path):
    text = (ROOT / "dags" / "kill_switch.py").read_text(encoding="utf-8")
    added = tmp_path / "tidy_up.py"
    added.write_text(text.replace('(use_case, "kill_switch", doc', '(use_case, "tidy_up", doc'), encoding="utf-8")
    parsed = type(dag_bag)(str(tmp_path))
    assert parsed.dags == {}
    (error,) = parsed.import_errors.values()
    assert "The stage 'tidy_up' has no priority: list it in PRIORITIES" in error
