"""What every DAG of a use case has in common: owner, tags, retries, time-outs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from nightshift.declare.use_case import UseCase
from nightshift.pipeline import find_stage

RUNS_AT_ONCE = 64
"""Runs of one DAG that may be active at once. High, because a run that waits for an earlier
partition holds its place: with a low limit, waiting runs could keep out the one they wait for."""

NIGHTS_AT_ONCE = 3
"""The same for DAGs whose nights take turns and take minutes: of a long backfill, only these wait, so that
waiting costs little and ends long before patience does. The others stand in Airflow's own queue, which is
the only place where it keeps their order. Where a run may wait for a person, tries at once are bounded instead."""

RETRIES = {
    "retries": 16,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}
"""For what may be out of order for a while (object store, warehouse): at least an hour in all."""

RETRIES_DELIVERY = RETRIES | {"retries": 12, "max_retry_delay": timedelta(minutes=10)}
"""For a delivery that is late: at least an hour and a quarter in all. Then the partition is rejected."""

RETRIES_WAITING = {
    "retries": 40,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 1.5,
    "max_retry_delay": timedelta(minutes=2),
}
"""For a step that may have to wait for an earlier partition: often at first, and at least an hour in all."""

WAITED_ENOUGH = 30
"""Of RETRIES_WAITING: with so many retries left, eight minutes at least have gone by. Earlier partitions are
not waited for any longer then; the rest is for outages."""


def dag_arguments(use_case: UseCase, stage: str, *, doc: str | None) -> dict[str, Any]:
    """Keyword arguments of `DAG` for a stage of a use case; `doc` is the DAG file's docstring.

    Raises ConfigurationError for a stage that nightshift.pipeline does not declare.
    """
    priority = find_stage(stage).priority
    zone = ZoneInfo(use_case.timezone)
    first = datetime.combine(use_case.first_partition, use_case.cutoff_time, zone)
    last = datetime.combine(use_case.last_partition, use_case.cutoff_time, zone) if use_case.last_partition else None
    return {
        "dag_id": f"{use_case.name}.{stage}",
        "description": (doc or "").strip().splitlines()[0],
        "doc_md": doc,
        "start_date": first,
        "end_date": last and last + timedelta(days=1),
        "catchup": False,
        "tags": sorted({"nightshift", use_case.name, stage, *use_case.tags}),
        "max_active_runs": RUNS_AT_ONCE,
        "dagrun_timeout": timedelta(hours=6),
        "default_args": {
            "owner": use_case.owner,
            "execution_timeout": timedelta(minutes=30),
            "priority_weight": priority,
            "weight_rule": "absolute",
            **RETRIES,
        },
    }


def by_hand_arguments(use_case: UseCase, stage: str, *, doc: str | None) -> dict[str, Any]:
    """The same for what is done by hand: at any time, also after the last partition; one run at a time.

    Never paused at first: it does nothing by itself, and who needs it at night should not find it switched off.
    """
    by_hand = {"end_date": None, "max_active_runs": 1, "is_paused_upon_creation": False}
    return dag_arguments(use_case, stage, doc=doc) | by_hand
