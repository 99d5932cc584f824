"""The alert about a failed DAG run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from dagkit.connections import use_connections
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.errors import NightshiftError
from nightshift.partitions import parse_partition
from nightshift.pipeline import NIGHTLY

if TYPE_CHECKING:
    from nightshift.core.monitoring.alerts import Alert

log = logging.getLogger(__name__)

REASONS = {"timed_out": "took too long", "all_tasks_deadlocked": "cannot go on"}


def alert_of_failed_run(context: Mapping[str, Any]) -> None:
    """Airflow's callback of a failed DAG run: record and send the alert of the stage and partition.

    Airflow runs it in the DAG processor, once per run, and deletes the request beforehand: if that process is killed,
    what `record_failure` recorded is sent by the next sender, and other alerts are lost.
    """
    use_connections()
    from nightshift.services.alerts import raise_alert
    from nightshift.settings import load_settings

    use_case = load_use_case(context["dag"].dag_id.rpartition(".")[0])
    raise_alert(load_settings(), use_case, alert_about(use_case, context))


def alert_of_failed_partition(use_case: UseCase, partition: date, why: str) -> None:
    """Record and send the alert that a partition could not be ingested by the run of a later one."""
    use_connections()
    from nightshift.core.monitoring.alerts import Alert
    from nightshift.services.alerts import raise_alert
    from nightshift.settings import load_settings

    message = f"ingest of {partition} failed when it was run again: {why}"
    raise_alert(load_settings(), use_case, Alert(partition, "failed:ingest", message))


def record_alert(use_case: UseCase, context: Mapping[str, Any]) -> None:
    """Record the alert that the callback of the current run, which is going to fail, will send.

    If the warehouse does not answer this is logged, and left to the callback.
    """
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.settings import load_settings

    alert = alert_about(use_case, {**context, "reason": "task_failure"})
    try:
        Warehouse(load_settings(), use_case).record_alert(alert)
    except NightshiftError as error:
        log.error("the alert is not recorded yet: %s", error)


def alert_about(use_case: UseCase, context: Mapping[str, Any]) -> Alert:
    """The alert about a failed DAG run, from the context of its callback.

    A stage and partition of the nightly run is one cause, however often it fails; of the other DAGs, each run is one. A
    watchdog that fails has the cause that it records itself.
    """
    from nightshift.core.monitoring.alerts import Alert
    from nightshift.services.watchdog import CAUSE

    run_id, stage = str(context["run_id"]), context["dag"].dag_id.rpartition(".")[2]
    dag_run, ti = context.get("dag_run"), context.get("ti")
    due = use_case.due_partition(dag_run.run_after) if dag_run and stage == "watchdog" else None
    partition = due or _partition(context)
    of_run = "" if stage in NIGHTLY and partition else f":{run_id}"
    cause = CAUSE if due else f"failed:{stage}{of_run}"
    what = f"{stage} of {partition}" if partition else stage
    message = f"{what} {REASONS.get(context['reason'], 'failed')}: {_failed_tasks(context)}run {run_id}"
    return Alert(partition, cause, f"{message}. Log: {ti.log_url}" if ti else message)


def _partition(context: Mapping[str, Any]) -> date | None:
    dag_run, params = context.get("dag_run"), context.get("params") or {}
    key = getattr(dag_run, "partition_key", None) or params.get("partition") or params.get("last")
    return parse_partition(key) if key else None


def _failed_tasks(context: Mapping[str, Any]) -> str:
    """The failed tasks, a mapped one as <task>_<index>; "" if Airflow states no task."""
    if not (ti := context.get("ti")):
        return ""
    run_id = str(context["run_id"])
    states = ti.get_task_states(ti.dag_id, run_ids=[run_id]).get(run_id, {})
    failed = sorted(task for task, state in states.items() if state == "failed" and task != "record_failure")
    return f"task {', '.join(failed or [ti.task_id])}, "
