"""Parameters of DAGs that are triggered by hand, and how tasks read them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date, datetime

from airflow.sdk import Param, get_current_context
from airflow.sdk.exceptions import AirflowSkipException
from pydantic import JsonValue

from dagkit.connections import use_connections
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.partitions import parse_partition

log = logging.getLogger(__name__)

XComValues = Mapping[str, JsonValue]
"""Arguments of a task, or a ref, as they go through XCom."""

Arguments = Callable[[XComValues], XComValues]
"""Function of the running task: from the arguments of the task to those of the step."""

LEAST_REASON = 10
"""Minimum length of a reason, in characters."""

SPEC = r"^[a-z][a-z0-9_]*-[0-9a-f]{8}$"
"""A spec id: the spec's name and the first digits of the hash of what it declares."""

SPEC_OR_VERSION = rf"{SPEC}|^\d{{4}}-\d{{2}}-\d{{2}}-[0-9a-f]{{8}}$"
"""A spec id, or a version: training partition and the first digits of its hash."""


def partition(what: str = "The decision takes effect for the partitions after it.") -> Param:
    """The parameter `partition`; if left empty, the newest one that was published when the run was triggered."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Partition",
        description=f"YYYY-MM-DD. Left empty: the newest partition whose predictions are published. {what}",
    )


def reason(example: str) -> Param:
    """The required parameter `reason`, which is recorded with the decision."""
    return Param(
        type="string",
        minLength=LEAST_REASON,
        title="Reason",
        description=f"Recorded permanently, with the user who triggered the run. At least {LEAST_REASON} characters, "
        f"for example: {example}",
    )


def spec_or_version(description: str) -> Param:
    """A required parameter: a spec id or a version."""
    return Param(type="string", pattern=SPEC_OR_VERSION, title="Spec or version", description=description)


def optional_spec(description: str) -> Param:
    """An optional parameter: a spec id."""
    return Param(None, type=["null", "string"], pattern=SPEC, title="Spec", description=description)


def partition_of_run(use_case: UseCase) -> date:
    """The partition the current DAG run works on.

    Its partition key, or `last` or `partition` of its parameters; if `partition` is empty, the newest one that was
    published when the run was due, in each task and try of the run. Raises ConfigurationError if there is none; a
    scheduled run is skipped instead.
    """
    context = get_current_context()
    params = context["params"]
    parameter = params.get("partition") if "partition" in params else params.get("last")
    key = getattr(context["dag_run"], "partition_key", None) or parameter
    if key:
        return parse_partition(key)
    if "partition" in params:
        dag_run = context["dag_run"]
        return _newest_published(use_case, dag_run.run_after, scheduled=dag_run.run_type == "scheduled")
    raise ConfigurationError(
        "NS-SETTINGS-004",
        "This run has no partition key. Trigger the DAG again and fill in "
        "'Partition key' as YYYY-MM-DD, or backfill the ingest DAG over a range of dates.",
    )


def _newest_published(use_case: UseCase, by: datetime, *, scheduled: bool) -> date:
    use_connections()
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.settings import load_settings

    newest = Warehouse(load_settings(), use_case).newest_published(by)
    if newest is not None:
        return newest
    if scheduled:
        raise AirflowSkipException(f"{use_case.name} has published no predictions yet: there is nothing to do.")
    raise ConfigurationError(
        "NS-SETTINGS-005",
        f"{use_case.name} had published no predictions by {by:%Y-%m-%d %H:%M} UTC, so there is no newest partition to "
        "work on. Trigger the DAG again and fill in 'partition' as YYYY-MM-DD.",
    )


def filled_in(*names: str, signed: bool = False) -> Arguments:
    """Arguments from the parameters of the DAG run, those left empty excluded; if `signed`, with `decided_by`."""

    def arguments(refs: XComValues) -> XComValues:
        params = get_current_context()["params"]
        filled = {name: params[name] for name in names if params.get(name) not in (None, "")}
        return {**refs, **filled, **({"decided_by": who_decides()} if signed else {})}

    return arguments


def who_decides() -> str:
    """`hand:<user>` with the user who triggered the current DAG run; `hand:scheduler` for a scheduled one."""
    dag_run = get_current_context()["dag_run"]
    user = dag_run.triggering_user_name
    if user:
        return f"hand:{user}"
    if dag_run.run_type != "manual":
        return "hand:scheduler"
    log.warning("Airflow did not record the user who triggered run %s: recorded as hand:unknown", dag_run.run_id)
    return "hand:unknown"
