"""Loads past partitions: many by hand, in chunks, and the few that a fault left behind, in the next night."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dagkit import assets
from dagkit.alerts import alert_of_failed_partition
from dagkit.connections import use_connections
from dagkit.params import XComValues, partition_of_run
from dagkit.steps import airflow_errors, read_document, reject_partition, restore_refs, run_step
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import CatchUp
from nightshift.errors import DataContractError, FeatureContractError, PartitionRejected
from nightshift.partitions import parse_partition, partition_range
from nightshift.pipeline import run_stage

log = logging.getLogger(__name__)

LAST_STEP = {"train": "append_training_rows"}
"""Last step that is run per stage when history is loaded; by default all steps that decide the partition."""

FURTHER_ARGUMENTS: Mapping[str, Mapping[str, bool]] = {
    "land": {"reject_undelivered": True},
    "build_features": {"allow_undecided": True},
    "append_training_rows": {"allow_undecided": True},
}
"""Further arguments of steps when history is loaded: missing deliveries are not waited for."""


def plan_history() -> list[list[str]]:
    """The range of a backfill_history run, split into [first, last] chunks of `settings.history_chunk_days`."""
    from nightshift.settings import load_settings

    params = get_current_context()["params"]
    first, last = parse_partition(params["first"]), parse_partition(params["last"])
    if last < first:
        raise AirflowFailException(f"'last' ({last}) is before 'first' ({first}); swap them and trigger again.")
    use_connections()
    days = partition_range(first, last)
    size = load_settings().history_chunk_days
    chunks = (days[start : start + size] for start in range(0, len(days), size))
    return [[chunk[0].isoformat(), chunk[-1].isoformat()] for chunk in chunks]


def run_history_chunk(use_case: UseCase, stage: str, chunk: Sequence[str]) -> XComValues:
    """Run a stage on every partition from chunk[0] to chunk[1], in this one process.

    A partition that breaks a contract is rejected; the others are processed, as in separate runs.
    Returns {"first", "last", "done": n, "rejected": {partition: reason}}.
    """
    first, last = chunk
    get_current_context()["map_name"] = f"{first}..{last}"  # type: ignore[literal-required]
    partitions = partition_range(parse_partition(first), parse_partition(last))
    rejected: dict[str, str] = {}
    for partition in partitions:
        started: list[str] = []

        def run(step: str, *, of: date = partition, log_to: list[str] = started, **refs: Any) -> Any:
            log_to.append(step)
            return run_step(use_case, step, of, restore_refs(refs))

        with airflow_errors():
            try:
                run_stage(stage, run, until=LAST_STEP.get(stage, ""), further=FURTHER_ARGUMENTS)
                log.info("partition %s done", partition)
            except (DataContractError, FeatureContractError, PartitionRejected) as error:
                log.error("partition %s was rejected: %s", partition, error)
                rejected[partition.isoformat()] = str(error)
                reject_partition(use_case, stage, partition, started[-1:])
    return {"first": first, "last": last, "done": len(partitions) - len(rejected), "rejected": rejected}


def announce_history(use_case_name: str) -> str:
    """Emit the history asset for the last partition of a backfill_history run; returns its key."""
    use_case = load_use_case(use_case_name)
    key = partition_of_run(use_case).isoformat()
    get_current_context()["outlet_events"][assets.history(use_case)].add_partitions(key)
    return key


def of_scheduled_run(refs: XComValues) -> XComValues:
    """Arguments of `catch_up`: only a scheduled run may run partitions again; a backfill, or a person, runs its own."""
    return {**refs, "may_run": get_current_context()["dag_run"].run_type == "scheduled"}


def run_missed_partitions(use_case_name: str, caught_up: XComValues) -> XComValues:
    """Ingest the partitions that an artifact of `catch_up` says to run again, and emit the curated asset for them.

    Returns the partitions by result: {"done": [...], "rejected": {partition: reason}, "failed": {partition: error}}.
    Skipped if there are none. One that is rejected or fails is an alert and does not keep the others from being
    ingested; if none is ingested, the task fails.
    """
    use_case = load_use_case(use_case_name)
    days = sorted(day.isoformat() for day in read_document(caught_up, CatchUp).run_again)
    if not days:
        raise AirflowSkipException("No partition of the last days is to be run again.")
    rejected: dict[str, Any] = {}
    failed: dict[str, Exception] = {}
    for day in days:
        try:
            rejected |= run_history_chunk(use_case, "ingest", [day, day])["rejected"]  # type: ignore[arg-type]
        except Exception as error:
            log.exception("partition %s failed", day)
            failed[day] = error
    done = [day for day in days if day not in rejected and day not in failed]
    if not done:
        nothing = AirflowFailException(f"None of {', '.join(days)} could be ingested: {rejected}")
        raise next(iter(failed.values()), nothing)
    for day, why in {**rejected, **failed}.items():
        alert_of_failed_partition(use_case, parse_partition(day), str(why))
    get_current_context()["outlet_events"][assets.curated(use_case)].add_partitions(done)
    return {"done": done, "rejected": rejected, "failed": {day: str(error) for day, error in failed.items()}}
