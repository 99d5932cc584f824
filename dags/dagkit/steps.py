"""Runs steps in Airflow tasks: converts refs for XCom, and errors to a retry or a failure.

Heavy libraries are imported when a task runs, never when a DAG file is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from airflow.sdk import TriggerRule, XComArg, get_current_context, task
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from pydantic import JsonValue

from dagkit.alerts import record_alert
from dagkit.connections import open_store
from dagkit.defaults import (
    RETRIES,
    RETRIES_DELIVERY,
    RETRIES_NIGHT_BEFORE,
    RETRIES_WAITING,
    WAITED_LONG,
    WAITED_SHORT,
)
from dagkit.params import Arguments, XComValues, partition_of_run
from nightshift import pipeline
from nightshift.artifact import ArtifactRef, Attempt, Document
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.documents.rules import AppliedRules
from nightshift.errors import TerminalError, TransientError
from nightshift.pipeline import Retries, Stage, Step, find_stage, step_module

D = TypeVar("D", bound=Document)
StepArguments = Mapping[str, ArtifactRef | Sequence[ArtifactRef] | JsonValue]

RETRY_ARGUMENTS: Mapping[Retries, dict[str, Any]] = {
    "outage": RETRIES,
    "delivery": RETRIES_DELIVERY,
    "waiting": RETRIES_WAITING,
    "night_before": RETRIES_NIGHT_BEFORE,
}


class StageTasks:
    """The tasks of one stage in a DAG, wired as nightshift.pipeline declares.

    `add` creates single tasks that need more arguments than declared; `add_rest` creates all others and
    `record_failure`. `tasks` has the created tasks by step.
    """

    def __init__(self, use_case: UseCase, stage: str) -> None:
        self.use_case, self.stage, self.tasks = use_case, find_stage(stage), dict[str, XComArg]()

    def add(self, name: str, *, refs: Mapping[str, XComArg] | None = None, **options: Any) -> XComArg:
        """Create the task of a step, and of the steps it gets inputs from unless they exist. `refs`: further inputs.

        `options` are the `arguments` of `step_task` and arguments of Airflow's task.
        """
        (declared,) = [step for step in self.stage.steps if step.name == name]
        inputs = {
            argument: self.tasks[earlier] if earlier in self.tasks else self.add(earlier)
            for argument, earlier in declared.inputs.items()
        }
        priority = self.stage.priority_of(declared)
        task_of_step = step_task(self.use_case, declared, priority_weight=priority, **options)
        if declared.mapped_over:
            each = {declared.mapped_over: inputs.pop(declared.mapped_over)}
            self.tasks[name] = task_of_step.partial(**inputs).expand(**each)
        else:
            self.tasks[name] = task_of_step(**inputs, **(refs or {}))
        return self.tasks[name]

    def add_rest(self) -> None:
        """Create the tasks of all other steps, then `record_failure` if the stage has it."""
        for step in self.stage.steps:
            if step.name not in self.tasks:
                self.add(step.name)
        if self.stage.records_failure:
            deciding = [self.tasks[step.name] for step in self.stage.steps if step.decides]
            deciding >> decide_on_failure(self.use_case, self.stage)


def step_task(use_case: UseCase, declared: Step, *, arguments: Arguments | None = None, **task_arguments: Any) -> Any:
    """A TaskFlow task that runs a step on the run's partition.

    Call it with refs of earlier tasks as keyword arguments, or use `.partial(...).expand(...)`. `arguments` converts
    the arguments of the task to those of the step. The result is a ref, or a list of refs, as dicts for XCom.
    """
    name, map_name = declared.name, declared.mapped_over

    @task(
        task_id=name,
        doc_md=f"Runs the step `{step_module(name)}` on the run's partition; inputs and outputs: its docstring.",
        map_index_template="{{ map_name }}" if map_name else None,
        trigger_rule=TriggerRule(declared.run_when),
        **RETRY_ARGUMENTS[declared.retries],
        **task_arguments,
    )
    def run(**refs: Any) -> Any:
        context = get_current_context()
        # Airflow also fills **refs with the whole task context.
        refs = {argument: ref for argument, ref in refs.items() if argument not in KNOWN_CONTEXT_KEYS}
        refs = dict(arguments(refs)) if arguments else refs
        retries = RETRY_ARGUMENTS[declared.retries]["retries"]
        # Airflow adds to max_tries when a task is cleared.
        waited = context["ti"].try_number - 1 - ((context["ti"].max_tries or 0) - retries)
        with airflow_errors():
            if declared.last_try and has_waited(use_case, declared.retries, waited):
                refs |= declared.last_try
            refs = restore_refs(refs)
            if map_name:
                item = refs[map_name]
                context["map_name"] = item if isinstance(item, str) else open_store().manifest(item).variant  # type: ignore[literal-required]
            return run_step(use_case, name, partition_of_run(use_case), refs)

    return run


def has_waited(use_case: UseCase, retries: Retries, waited: int) -> bool:
    """Whether a task of the run's partition that was retried so often has waited long enough."""
    if retries == "night_before" and WAITED_SHORT <= waited < WAITED_LONG:
        from nightshift.services.night_before import waits_for_an_hour

        return not waits_for_an_hour(partition_of_run(use_case), use_case, open_store())
    enough = {"waiting": WAITED_SHORT, "night_before": WAITED_LONG}
    return waited >= enough.get(retries, RETRY_ARGUMENTS[retries]["retries"])


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Convert terminal errors to ones that fail the task at once, transient errors to ones that are retried."""
    try:
        yield
    except TerminalError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
    except TransientError as error:
        raise AirflowException(f"{type(error).__name__}: {error} (will be retried)") from error


def run_step(use_case: UseCase, name: str, partition: date, arguments: StepArguments) -> XComValues | list[XComValues]:
    """Run one step in the current task and return its ref, or refs, as dicts for XCom."""
    store = open_store()
    from nightshift.io.provenance import CURRENT_ATTEMPT
    from nightshift.settings import load_settings
    from nightshift.steps.context import StepContext

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
    result = pipeline.run_step(name, StepContext(use_case, load_settings(), store, partition), **arguments)
    # Several refs: a mapped task follows, one instance for each.
    return [ref.model_dump() for ref in result] if isinstance(result, list) else result.model_dump()


def restore_refs(arguments: XComValues) -> StepArguments:
    """The arguments with dicts from XCom converted back to refs."""

    def restore(value: Any) -> Any:
        if isinstance(value, Mapping) and {"uri", "sha256"} <= set(value):
            return ArtifactRef.model_validate(dict(value))
        if not isinstance(value, str | Mapping) and hasattr(value, "__iter__"):
            return [restore(item) for item in value]
        return value

    return {name: restore(value) for name, value in arguments.items()}


def read_document(ref: XComValues, document: type[D]) -> D:
    """A JSON document of the artifact with this ref from XCom."""
    with airflow_errors():
        return open_store().read_document(ArtifactRef.model_validate(dict(ref)), document)


def skip_unless_search_is_due(use_case_name: str, applied_rules: XComValues) -> None:
    """Skip the current task unless it is the use case's search weekday or a monitoring rule requests a search."""
    use_case = load_use_case(use_case_name)
    outcomes = read_document(applied_rules, AppliedRules).outcomes
    requested = any(one.then == "search" and one.acted for one in outcomes)
    if not requested and partition_of_run(use_case).weekday() != use_case.search.weekday:
        raise AirflowSkipException("No rule requests a search, and it is not the search weekday.")


def decide_on_failure(use_case: UseCase, stage: Stage) -> Any:
    """A task `record_failure`, to be downstream of every task that the stage's status depends on.

    If one of them fails, it rejects the partition unless it has a status already. The run stays failed. It runs at the
    first failure, or after all tasks in a stage that continues without a failed mapped task.
    """
    continues = any(step.run_when != "all_success" for step in stage.steps)

    @task(
        task_id="record_failure",
        trigger_rule=TriggerRule.ALL_DONE if continues else TriggerRule.ONE_FAILED,
        doc_md="Rejects the partition if an upstream task failed; later partitions are processed without it.",
    )
    def record_failure(use_case_name: str, stage_name: str) -> None:
        context = get_current_context()
        run_id = str(context["run_id"])
        states = context["ti"].get_task_states(context["ti"].dag_id, run_ids=[run_id])[run_id]
        # Mapped tasks are named <task>_<index>; failures of tasks that do not decide the partition are not recorded.
        deciding = {step.name for step in find_stage(stage_name).steps if step.decides}
        failed = sorted(
            name for name, state in states.items() if state == "failed" and re.sub(r"_\d+$", "", name) in deciding
        )
        if not failed:
            raise AirflowSkipException("No task before this one failed.")
        with airflow_errors():
            use_case = load_use_case(use_case_name)
            reject_partition(use_case, stage_name, partition_of_run(use_case), failed)
        record_alert(use_case, context)
        raise AirflowFailException(
            f"{', '.join(failed)} failed; see the log of the task. Later partitions are processed without this one."
        )

    return record_failure(use_case.name, stage.name)


def reject_partition(use_case: UseCase, stage: str, partition: date, failed: Sequence[str]) -> None:
    """Record that tasks of a stage failed, which rejects the partition unless it has a status already."""
    arguments = {"stage": stage, "run_id": str(get_current_context()["run_id"]), "failed_tasks": list(failed)}
    run_step(use_case, "record_failure", partition, arguments)
