"""The stages of the pipeline and their steps. One name everywhere: step module, task, S3 prefix.

Put here: which stage a step belongs to and where its module is. Keep out: what a step does.
"""

from __future__ import annotations

STAGE_OF_STEP = {
    "land": "ingest",
    "profile": "ingest",
    "validate": "ingest",
    "publish": "ingest",
    "build_features": "materialize",
    "publish_features": "materialize",
    "load_online": "materialize",
    "append_training_rows": "train",
    "build_training_set": "train",
    "choose_specs": "train",
    "fit": "train",
    "verify": "train",
    "register": "train",
    "record_failure": "train",
    "report_training": "train",
    "track_training": "train",
    "resolve_model": "predict",
    "score": "predict",
    "audit": "predict",
    "publish_predictions": "predict",
    "judge_trial": "promote",
    "advance_model": "promote",
    "mirror_models": "promote",
    "record_approval": "promote",
    "rollback_model": "rollback_model",
    "kill_switch": "kill_switch",
    "retire_model": "retire_model",
    "drill_kill_switch": "drill_kill_switch",
    "replay": "replay",
    "find_training_set": "search",
    "study": "search",
    "plan_race": "search",
    "race": "search",
    "select_candidates": "search",
    "report_search": "search",
    "compare_drift": "check_drift",
    "report_drift": "check_drift",
    "record_drift": "check_drift",
}
"""Each step belongs to one DAG. One name everywhere: module, task, S3 prefix."""

ROOMS = {
    "rollback_model": "operator",
    "kill_switch": "operator",
    "retire_model": "operator",
    "drill_kill_switch": "operator",
    "replay": "operator",
}
"""Folder below `nightshift/steps` of stages that do not have one of their own name."""


def step_module(step: str) -> str:
    """Dotted name of the module that runs a step."""
    stage = STAGE_OF_STEP[step]
    return f"nightshift.steps.{ROOMS.get(stage, stage)}.{step}"
