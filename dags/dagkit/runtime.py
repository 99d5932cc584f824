"""Runs steps inside Airflow tasks: connections become settings, errors become retry or failure.

Everything heavy is imported when a task runs, never when a DAG file is parsed.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from airflow.sdk import TriggerRule, get_current_context, task
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dagkit.assets import history
from nightshift.errors import (
    ConfigurationError,
    DataContractError,
    FeatureContractError,
    PartitionRejected,
    TerminalError,
    TransientError,
)
from nightshift.pipeline import STAGE_OF_STEP, step_module
from nightshift.usecase import UseCase, load_use_case, parse_partition, partition_range

log = logging.getLogger(__name__)

WAREHOUSE_CONNECTION = "nightshift_warehouse"
OBJECT_STORE_CONNECTION = "nightshift_object_store"

APPROVE, REJECT = "Approve", "Reject"
"""What a person may answer when asked about a model."""

Arguments = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes a step's arguments, in the running task, from what the task was called with."""

Chain = Sequence[tuple[str, Mapping[str, str]]]
"""Steps run one after another in one process: (step, {argument: the earlier step whose ref it gets})."""

INGEST: Chain = (
    ("land", {}),
    ("profile", {"landed": "land"}),
    ("validate", {"landed": "land"}),
    ("publish", {"validated": "validate", "profiled": "profile"}),
)
IN_HISTORY: Mapping[str, Mapping[str, Any]] = {
    "land": {"refuse_undelivered": True},
    "build_features": {"allow_undecided": True},
    "append_training_rows": {"allow_undecided": True},
}
"""Further arguments of steps that load the past: what did not come then is not waited for."""
MATERIALIZE: Chain = (("build_features", {}), ("publish_features", {"features": "build_features"}))
APPEND: Chain = (("append_training_rows", {}),)


def step(
    use_case: UseCase,
    name: str,
    *,
    map_name: str | None = None,
    on_last_try: Mapping[str, Any] | None = None,
    last_retries: int = 0,
    arguments: Arguments | None = None,
    **task_arguments: Any,
) -> Any:
    """A TaskFlow task that runs the step module of that name on the run's partition.

    Call it with refs of earlier tasks as keyword arguments, or `.partial(...).expand(...)` it;
    `map_name` is the argument shown as the mapped task's name. `on_last_try` are arguments
    added when no more than `last_retries` retries are left. `arguments` turns what it is called with
    into what the step gets.
    """
    module = step_module(name)

    @task(
        task_id=name,
        doc_md=f"Runs the step `{module}` on the run's partition; its docstring says what goes in and comes out.",
        map_index_template="{{ map_name }}" if map_name else None,
        **task_arguments,
    )
    def run(**refs: Any) -> Any:
        # Airflow also fills **refs with the whole task context.
        refs = {argument: ref for argument, ref in refs.items() if argument not in KNOWN_CONTEXT_KEYS}
        refs = dict(arguments(refs)) if arguments else refs
        return run_step(use_case.name, name, refs, map_name, on_last_try, last_retries)

    return run


def run_step(
    use_case_name: str,
    name: str,
    arguments: Mapping[str, Any],
    map_name: str | None = None,
    on_last_try: Mapping[str, Any] | None = None,
    last_retries: int = 0,
) -> Any:
    """Run one step in the current task and return its ref, or refs, as dicts for XCom."""
    context = get_current_context()
    ti = context["ti"]
    if on_last_try and ti.try_number > (ti.max_tries or 0) - last_retries:
        arguments = {**arguments, **on_last_try}

    def work() -> Any:
        use_case, restored = load_use_case(use_case_name), _refs(arguments)
        if map_name:
            named = restored[map_name]
            context["map_name"] = named if isinstance(named, str) else _store().manifest(named).variant  # type: ignore[literal-required]
        return _run(use_case, name, partition_of_run(use_case), restored)

    return _guard(work)


def run_history_chunk(use_case_name: str, chain: Chain, chunk: Sequence[str]) -> dict[str, Any]:
    """Run a chain of steps on every partition from chunk[0] to chunk[1], in this one process.

    A partition that breaks a contract is rejected and the rest go on, as they would on separate nights.
    Returns {"first", "last", "done": n, "rejected": {partition: reason}}.
    """
    context = get_current_context()
    context["map_name"] = f"{chunk[0]}..{chunk[1]}"  # type: ignore[literal-required]
    first, last = (parse_partition(key) for key in chunk)
    return _guard(lambda: _run_history_chunk(load_use_case(use_case_name), chain, first, last))


def _run_history_chunk(use_case: UseCase, chain: Chain, first: date, last: date) -> dict[str, Any]:
    rejected: dict[str, str] = {}
    for partition in partition_range(first, last):
        refs: dict[str, Any] = {}
        try:
            for name, wanted in chain:
                arguments = _refs({argument: refs[earlier] for argument, earlier in wanted.items()})
                refs[name] = _run(use_case, name, partition, arguments | IN_HISTORY.get(name, {}))
        except (DataContractError, FeatureContractError, PartitionRejected) as error:
            log.error("partition %s was rejected: %s", partition, error)
            rejected[partition.isoformat()] = str(error)
            failed_step = next(name for name, _ in chain if name not in refs)
            _record_failure(use_case, STAGE_OF_STEP[failed_step], partition, [failed_step])
        else:
            log.info("partition %s done", partition)
    done = len(partition_range(first, last)) - len(rejected)
    return {"first": first.isoformat(), "last": last.isoformat(), "done": done, "rejected": rejected}


def partition_of_run(use_case: UseCase) -> date:
    """The partition the current DAG run works on.

    Its partition key, or `last` or `partition` of its parameters; a DAG that asks for `partition`
    works on the newest published one when the field is left empty. Raises ConfigurationError if
    there is none; a scheduled run is skipped instead.
    """
    context = get_current_context()
    params = context["params"]
    named = params.get("partition") if "partition" in params else params.get("last")
    key = getattr(context["dag_run"], "partition_key", None) or named
    if key:
        return parse_partition(key)
    if "partition" in params:
        return _newest_published(use_case, scheduled=context["dag_run"].run_type == "scheduled")
    raise ConfigurationError(
        "This run has no partition key, so there is nothing to work on. Trigger the DAG again and fill in "
        "'Partition key' as YYYY-MM-DD, or backfill the ingest DAG over a range of dates."
    )


def _newest_published(use_case: UseCase, *, scheduled: bool) -> date:
    _use_connections()
    from nightshift.io.warehouse import Warehouse
    from nightshift.settings import load_settings

    publication = Warehouse(load_settings(), use_case).latest_publication()
    if publication is not None:
        partition: date = publication["partition"]
        return partition
    if scheduled:
        raise AirflowSkipException(f"{use_case.name} has published no predictions yet: there is nothing to do.")
    raise ConfigurationError(
        f"{use_case.name} has published no predictions yet, so there is no newest partition to work on. "
        "Trigger the DAG again and fill in 'partition' as YYYY-MM-DD."
    )


def filled_in(*names: str, signed: bool = False) -> Arguments:
    """Arguments from the parameters of the DAG run, those left empty excluded; if `signed`, with `decided_by`."""

    def arguments(refs: Mapping[str, Any]) -> dict[str, Any]:
        params = get_current_context()["params"]
        given = {name: params[name] for name in names if params.get(name) not in (None, "")}
        return {**refs, **given, **({"decided_by": who_decides()} if signed else {})}

    return arguments


def who_decides() -> str:
    """`hand:<user>` who triggered the current DAG run; `hand:scheduler` if nobody did."""
    dag_run = get_current_context()["dag_run"]
    user = dag_run.triggering_user_name
    if user:
        return f"hand:{user}"
    if dag_run.run_type != "manual":
        return "hand:scheduler"
    log.warning("run %s was triggered by somebody Airflow does not name: recorded as hand:unknown", dag_run.run_id)
    return "hand:unknown"


def evidence_for_approval(use_case_name: str, advanced: Mapping[str, Any]) -> str:
    """What a person is to know who is asked to approve a model, as Markdown; "" if nobody is to be asked."""

    def read() -> dict[str, Any]:
        return json.loads(_store().read(_refs({"advanced": advanced})["advanced"], "advance.json"))

    found = _guard(read)
    return str(found["summary"]) if found["approval_needed"] else ""


def answered(refs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `record_approval` from the result of the task that asked, given as `response`.

    If nobody responded in time, Airflow took the default: that is no person's answer, so nobody is named.
    """
    response = refs["response"]
    user = response["responded_by_user"]
    if user is None:
        answer, decided_by = "timed_out", ""
    else:
        answer = "approved" if response["chosen_options"] == [APPROVE] else "declined"
        decided_by = f"hand:{user['name'] or user['id']}"
    others = {name: ref for name, ref in refs.items() if name != "response"}
    return {**others, "answer": answer, "decided_by": decided_by}


def skip_unless_search_is_due(use_case_name: str, drift_record: Mapping[str, Any]) -> None:
    """Skip the current task unless it is the use case's search weekday or the drift asks for retraining."""

    def read() -> dict[str, Any]:
        return json.loads(_store().read(_refs({"record": drift_record})["record"], "response.json"))

    use_case = load_use_case(use_case_name)
    response = _guard(read)["response"]
    if response != "retrain" and partition_of_run(use_case).weekday() != use_case.search.weekday:
        raise AirflowSkipException(f"The response to drift is {response!r}, and it is not the weekday for a search.")


def plan_history() -> list[list[str]]:
    """The range of a backfill_history run, cut into [first, last] chunks of `settings.history_chunk_days`."""
    from nightshift.settings import load_settings

    params = get_current_context()["params"]
    first, last = parse_partition(params["first"]), parse_partition(params["last"])
    if last < first:
        raise AirflowFailException(f"'last' ({last}) is before 'first' ({first}); swap them and trigger again.")
    _use_connections()
    days = partition_range(first, last)
    size = load_settings().history_chunk_days
    chunks = (days[start : start + size] for start in range(0, len(days), size))
    return [[chunk[0].isoformat(), chunk[-1].isoformat()] for chunk in chunks]


def decide_on_failure(use_case: UseCase, stage: str, when: TriggerRule = TriggerRule.ONE_FAILED) -> Any:
    """A task `record_failure`, to be put downstream of every task that the stage's decision depends on.

    If one of them fails, it decides the partition: rejected, unless it has a status already. The run stays red.
    `when`: ONE_FAILED, at the first failure; ALL_DONE for a stage that goes on without the mapped task that failed.
    """

    @task(
        task_id="record_failure",
        trigger_rule=when,
        doc_md="If a task before it failed, rejects the partition with that reason, so that later ones go on.",
    )
    def record_failure(use_case_name: str, stage: str) -> None:
        context = get_current_context()
        run_id = str(context["run_id"])
        states = context["ti"].get_task_states(context["ti"].dag_id, run_ids=[run_id])[run_id]
        failed = sorted(name for name, state in states.items() if state == "failed")
        if not failed:
            raise AirflowSkipException("No task before this one failed.")

        def work() -> dict[str, Any]:
            use_case = load_use_case(use_case_name)
            return _record_failure(use_case, stage, partition_of_run(use_case), failed)

        _guard(work)
        raise AirflowFailException(f"{', '.join(failed)} failed; the log there says why. Later partitions go on.")

    return record_failure(use_case.name, stage)


def _record_failure(use_case: UseCase, stage: str, partition: date, failed: Sequence[str]) -> dict[str, Any]:
    run_id = str(get_current_context()["run_id"])
    arguments = {"stage": stage, "run_id": run_id, "failed_tasks": list(failed)}
    return _run(use_case, "record_failure", partition, arguments)


def announce_history(use_case_name: str) -> str:
    """Emit the history asset for the last partition of a backfill_history run; returns its key."""
    context = get_current_context()
    use_case = load_use_case(use_case_name)
    key = partition_of_run(use_case).isoformat()
    context["outlet_events"][history(use_case)].add_partitions(key)
    return key


def _guard(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except TerminalError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
    except TransientError as error:
        raise AirflowException(f"{type(error).__name__}: {error} (will be retried)") from error


def _run(use_case: UseCase, name: str, partition: date, arguments: Mapping[str, Any]) -> Any:
    store = _store()
    from nightshift.artifact import Attempt
    from nightshift.io.provenance import CURRENT_ATTEMPT
    from nightshift.settings import load_settings

    ti = get_current_context()["ti"]
    CURRENT_ATTEMPT.set(
        Attempt(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
            started_at=datetime.now(UTC).isoformat(),
        )
    )
    module = importlib.import_module(step_module(name))
    result = module.run(use_case, load_settings(), store, partition, **arguments)
    # Several refs: a mapped task follows, one instance for each.
    return [ref.model_dump() for ref in result] if isinstance(result, list) else result.model_dump()


def _store() -> Any:
    _use_connections()
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.settings import load_settings

    return ArtifactStore(load_settings())


def _refs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what came through XCom back into refs."""
    from nightshift.artifact import ArtifactRef

    def restore(value: Any) -> Any:
        if isinstance(value, Mapping) and {"uri", "sha256"} <= set(value):
            return ArtifactRef.model_validate(dict(value))
        if not isinstance(value, str | Mapping) and hasattr(value, "__iter__"):
            return [restore(item) for item in value]
        return value

    return {name: restore(value) for name, value in arguments.items()}


def _use_connections() -> None:
    """Let Airflow connections stand in for environment variables that are not set.

    The environment wins, so that what `make env` prints and what tasks use are the same.
    """
    if "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ and (found := _connection(WAREHOUSE_CONNECTION)):
        os.environ["NIGHTSHIFT_WAREHOUSE_URL"] = found.get_uri().replace("postgres://", "postgresql://", 1)
    if "AWS_ACCESS_KEY_ID" not in os.environ and (found := _connection(OBJECT_STORE_CONNECTION)):
        os.environ["AWS_ACCESS_KEY_ID"] = found.login or ""
        os.environ["AWS_SECRET_ACCESS_KEY"] = found.password or ""
        endpoint = found.extra_dejson.get("endpoint_url")
        if endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint


def _connection(name: str) -> Any:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        return None
