"""Arguments shared by all DAGs of a use case: owner, tags, retries, timeouts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from dagkit.alerts import alert_of_failed_run
from nightshift.declare.use_case import UseCase
from nightshift.pipeline import find_stage

RUNS_AT_ONCE = 64
"""Active runs of one DAG. High, because a run that waits for an earlier partition stays active: with a low limit,
waiting runs could block the run that they wait for."""

NIGHTS_AT_ONCE = 4
"""Active runs of DAGs that take minutes and whose partitions depend on the previous one. In a long backfill only these
wait, so their retries suffice; the others stay in Airflow's queue, which keeps their order. As many nights as this may
be backfilled at once: with fewer active runs, those that overtook an earlier one could keep it in the queue. Where a
run may wait for a person, concurrent tasks are limited instead."""

RETRIES = {
    "retries": 16,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}
"""For outages of object store or warehouse: at least an hour in total."""

RETRIES_DELIVERY = RETRIES | {"retries": 12, "max_retry_delay": timedelta(minutes=10)}
"""For a delivery that is late: at least an hour and a quarter in total. Then the partition is rejected."""

RETRIES_WAITING = {
    "retries": 41,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 1.3,
    "max_retry_delay": timedelta(minutes=2),
}
"""For a step that may have to wait for an earlier partition: often at first, and at least an hour in total."""

RETRIES_NIGHT_BEFORE = RETRIES_WAITING | {"retries": 71}
"""For a step that needs the decisions of the night before: at least two hours in total."""

WAITED_SHORT, WAITED_LONG = 13, 43
"""After this many retries at least eight minutes, and at least an hour, have passed. After the first, earlier
partitions are not waited for, unless `waits_for_an_hour`; after the second, in no case. Retries for at least an hour
remain for outages."""


TASK_LIMIT = timedelta(minutes=30)
"""How long a try of a task may take: one partition, or a chunk of history."""


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
        # The cutoff of a partition is on the day after it.
        "start_date": first + timedelta(days=1),
        "end_date": last and last + timedelta(days=1),
        "catchup": False,
        "tags": sorted({"nightshift", use_case.name, stage, *use_case.tags}),
        "max_active_runs": RUNS_AT_ONCE,
        "dagrun_timeout": timedelta(hours=6),
        "on_failure_callback": alert_of_failed_run,
        "default_args": {
            "owner": use_case.owner,
            "execution_timeout": TASK_LIMIT,
            "priority_weight": priority,
            "weight_rule": "absolute",
            **RETRIES,
        },
    }


def by_hand_arguments(use_case: UseCase, stage: str, *, doc: str | None) -> dict[str, Any]:
    """The same for DAGs that are triggered by hand: also after the last partition, one run at a time.

    Not paused at creation: without a trigger they do nothing, and they must be usable in an emergency.
    """
    by_hand = {"end_date": None, "max_active_runs": 1, "is_paused_upon_creation": False}
    return dag_arguments(use_case, stage, doc=doc) | by_hand
