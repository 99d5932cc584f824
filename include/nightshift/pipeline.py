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
    "report_training": "train",
    "track_training": "train",
    "resolve_model": "predict",
    "calibrate": "predict",
    "score": "predict",
    "audit": "predict",
    "publish_predictions": "predict",
    "review": "promote",
    "advance": "promote",
    "mirror_models": "promote",
    "record_approval": "promote",
    "backtest": "backtest",
    "nominate": "backtest",
    "rollback_model": "rollback_model",
    "kill_switch": "kill_switch",
    "retire_model": "retire_model",
    "reproduce": "reproduce",
    "record_failure": "operator",
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
    "reproduce": "operator",
}
"""Folder below `nightshift/steps` of stages that do not have one of their own name."""

DECIDED_BY = {"ingest": "publish", "materialize": "publish_features", "predict": "publish_predictions"}
"""The step whose status says what counts for a partition of a stage. Training is decided in `deployments`."""


def step_module(step: str) -> str:
    """Dotted name of the module that runs a step."""
    stage = STAGE_OF_STEP[step]
    return f"nightshift.steps.{ROOMS.get(stage, stage)}.{step}"
