"""Runs nights on the local stack and follows them: history first, one training, then partition by partition.

All of it can be started from the Airflow UI as well. Runs that succeeded before are not repeated, so a
second demo has nothing to run; runs that failed are retried.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from urllib.parse import quote

from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, NightshiftError
from nightshift.local.airflow_api import FINISHED, AirflowApi, DagRun, RequestFailed, TaskRun
from nightshift.local.landing import land
from nightshift.local.stack import Stack
from nightshift.partitions import partition_range
from nightshift.pipeline import NIGHTLY

HISTORY = "backfill_history"
POLL_SECONDS = 1.5
SAY_EVERY_SECONDS = 30.0
SAY_WHY_FROM_TRY = 4
"""Tasks often wait for an earlier partition; at this try of a task, the reason is printed."""
PARSE_SECONDS = 120.0
STUCK_SECONDS = 900.0
"""Longer than the longest wait between two tries of a task."""
LOG_LINES = 12


class DemoFailed(NightshiftError):
    """A task failed, or there was no progress for STUCK_SECONDS."""


@dataclass(frozen=True)
class Plan:
    """Which partitions are loaded as history, and which are run as nights after it."""

    use_case: UseCase
    history: list[date]
    nights: list[date]

    @classmethod
    def of(cls, use_case: UseCase, history_first: date, history_last: date, nights: int) -> Plan:
        """Raises ConfigurationError for an empty history or no nights."""
        history = partition_range(history_first, history_last)
        if not history or nights < 1:
            raise ConfigurationError(
                "NS-LOCAL-004", f"There is nothing to run: history {history_first} to {history_last}, {nights} nights."
            )
        return cls(use_case, history, partition_range(history_last + timedelta(1), history_last + timedelta(nights)))

    def dag_id(self, stage: str) -> str:
        """Id of a stage's DAG."""
        return f"{self.use_case.name}.{stage}"


@dataclass
class Progress:
    """Prints a line per change, and at intervals the running tasks, each with the time since the start."""

    say: Callable[[str], None] = lambda line: print(line, flush=True)
    started: float = field(default_factory=time.monotonic)
    _printed_at: float = field(default_factory=time.monotonic)
    _seen: str = ""
    _changed_at: float = 0.0

    def line(self, text: str) -> None:
        """Print a line."""
        self._printed_at = time.monotonic()
        seconds = int(self._printed_at - self.started)
        self.say(f"[{seconds // 60:2}:{seconds % 60:02}] {text}")

    def wait(self, under_way: str, state: str = "") -> None:
        """Print `under_way` if nothing was printed for SAY_EVERY_SECONDS.

        Raises DemoFailed if neither it nor `state` changed for STUCK_SECONDS.
        """
        now = time.monotonic()
        if under_way + state != self._seen:
            self._seen, self._changed_at = under_way + state, now
        if now - self._changed_at > STUCK_SECONDS:
            raise DemoFailed(
                "NS-LOCAL-005",
                f"nothing changed for {STUCK_SECONDS / 60:.0f} minutes ({under_way}); "
                "see `make status` and `make logs`.",
            )
        if now - self._printed_at >= SAY_EVERY_SECONDS:
            self.line(under_way)


def run(plan: Plan) -> None:
    """Run the demo. Raises NightshiftError; for a failed task with its name and the end of its log."""
    progress = Progress()
    stack = Stack(say=progress.line)
    stack.up()
    os.environ.update(stack.environment())
    _deliver(plan, progress)
    nights = Nights(plan, stack, progress)
    nights.load_history()
    nights.run_nights()

    from nightshift.local.summary import summarise

    progress.line("Done.")
    print()
    print(summarise(plan.use_case, plan.nights[0], plan.nights[-1]))
    print()
    print(stack.login())


def _deliver(plan: Plan, progress: Progress) -> None:
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.settings import load_settings

    load_settings.cache_clear()
    settings = load_settings()
    partitions = [*plan.history, *plan.nights]
    progress.line(f"Landing the deliveries of {len(partitions)} partitions, {partitions[0]} to {partitions[-1]}.")
    land(ArtifactStore(settings), plan.use_case, partitions, progress.line)
    applied = Warehouse(settings, plan.use_case).migrate()
    progress.line(f"The warehouse's tables are {'set up' if applied else 'up to date'}.")


class Nights:
    """Drives the DAGs of one plan through Airflow's API."""

    def __init__(self, plan: Plan, stack: Stack, progress: Progress) -> None:
        self.plan = plan
        self.stack = stack
        self.progress = progress
        self._printed: set[str] = set()
        self.api = AirflowApi(stack.environment())

    def load_history(self) -> None:
        """Unpause the DAGs, load the history unless it is loaded, wait for the training that follows it."""
        stages = (*NIGHTLY, "watchdog", HISTORY)
        self._wait_for_dags({self.plan.dag_id(stage) for stage in stages})
        for stage in stages:
            self.api.unpause(self.plan.dag_id(stage))
        first, last = self.plan.history[0].isoformat(), self.plan.history[-1].isoformat()
        if any(run.state == "success" for run in self._runs(["train"], {last})):
            self.progress.line(f"The history up to {last} is loaded and trained on already.")
            return
        self.progress.line(f"Loading {len(self.plan.history)} days of history, {first} to {last}.")
        current = self._history_run({"first": first, "last": last})
        self._follow(lambda: [self.api.run(current.dag_id, current.dag_run_id)], "history", expected=1)
        self._retry_failed(["train"], {last})
        self._follow(lambda: self._runs(["train"], {last}), f"training of {last}", expected=1)

    def run_nights(self) -> None:
        """Backfill the nights and wait until each of the nightly DAGs has succeeded for each of them."""
        keys = {partition.isoformat() for partition in self.plan.nights}
        first, last = self.plan.nights[0], self.plan.nights[-1]
        self._retry_failed(NIGHTLY, keys)
        ingest = self.plan.dag_id("ingest")
        if keys <= set(self.api.newest_runs(ingest)):
            self.progress.line(f"The nights {first} to {last} were run before.")
        else:
            self.progress.line(f"Running {len(keys)} nights, {first} to {last}, one after another.")
            while self.api.backfill(ingest, first, last, max_active_runs=1, reprocess="none") is None:
                self._check_services()
                self._say_once("another backfill of ingest is running; waiting for it")
                time.sleep(POLL_SECONDS)
        self._follow(lambda: self._runs(NIGHTLY, keys), "nights", expected=len(keys) * len(NIGHTLY))

    def _history_run(self, conf: Mapping[str, str]) -> DagRun:
        """The run that loads this history: a running one, a failed one that is retried, or a new one."""
        dag_id = self.plan.dag_id(HISTORY)
        alike = [run for run in self.api.runs(dag_id) if run.conf and {**conf, **run.conf} == conf]
        if not alike or alike[-1].state == "success":
            return self.api.trigger(dag_id, conf)
        if alike[-1].state == "failed":
            self.progress.line("It failed before: retrying the failed tasks.")
            self.api.clear_failed(alike[-1])
        return alike[-1]

    def _runs(self, stages: Sequence[str], keys: set[str]) -> list[DagRun]:
        """The newest run of each stage and partition, see `AirflowApi.newest_runs`."""
        newest = [self.api.newest_runs(self.plan.dag_id(stage)) for stage in stages]
        return [run for by_key in newest for key, run in by_key.items() if key in keys]

    def _retry_failed(self, stages: Sequence[str], keys: set[str]) -> None:
        for run in self._runs(stages, keys):
            if run.state == "failed":
                self.progress.line(f"{_name(run)} failed before: retrying the failed tasks.")
                self.api.clear_failed(run)

    def _wait_for_dags(self, dag_ids: set[str]) -> None:
        deadline = time.monotonic() + PARSE_SECONDS
        while missing := dag_ids - self.api.dag_ids():
            errors = self.api.import_errors()
            if errors:
                name, trace = next(iter(errors.items()))
                raise DemoFailed(
                    "NS-LOCAL-006", f"the DAG file {name} does not parse: {trace.strip().splitlines()[-1]}"
                )
            if time.monotonic() > deadline:
                raise DemoFailed(
                    "NS-LOCAL-007",
                    f"Airflow did not find {', '.join(sorted(missing))} within {PARSE_SECONDS:.0f} s; "
                    f"see `make logs ARGS=dag-processor`.",
                )
            self._check_services()
            time.sleep(POLL_SECONDS)

    def _follow(self, runs: Callable[[], list[DagRun]], what: str, *, expected: int) -> None:
        """Wait until `expected` runs have succeeded, printing each. Raises DemoFailed as soon as one fails."""
        succeeded = {run.dag_run_id for run in runs() if run.state == "success"}
        while True:
            current = runs()
            for run in current:
                if run.state == "failed":
                    raise DemoFailed("NS-LOCAL-008", self._explain(run))
                if run.state == "success" and run.dag_run_id not in succeeded:
                    succeeded.add(run.dag_run_id)
                    if expected > 1:
                        self.progress.line(f"{_name(run)}: done")
            if len(succeeded) >= expected:
                self.progress.line(f"{what}: all done.")
                return
            tasks = [(run, self.api.tasks(run)) for run in current if run.state not in FINISHED]
            under_way = self._under_way(tasks, what, expected)
            states = sorted((t.name, t.state or "", t.try_number) for _, group in tasks for t in group)
            self.progress.wait(f"{what}: {under_way or 'waiting for it to start'}", str(states))
            self._check_services()
            time.sleep(POLL_SECONDS)

    def _under_way(self, tasks: Sequence[tuple[DagRun, list[TaskRun]]], what: str, expected: int) -> str:
        """The running tasks, mapped ones counted; prints the tasks of a single run as they succeed."""
        parts = []
        for run, group in tasks:
            prefix = f"{run.dag_id.partition('.')[2]} of {run.partition_key}: " if expected > 1 else ""
            for task_id in dict.fromkeys(task.task_id for task in group):
                states = [task.state for task in group if task.task_id == task_id]
                ended = sum(state in ("success", "skipped") for state in states)
                if expected == 1 and ended == len(states) and "success" in states:
                    self._say_once(f"{what}: {task_id} done" + (f" ({ended})" if ended > 1 else ""))
                elif ended < len(states) and any(state in ("running", "up_for_retry") for state in states):
                    count = f" ({ended} of {len(states)} done)" if len(states) > 1 else ""
                    parts.append(f"{prefix}{task_id}{count}")
            for task in group:
                if task.state == "up_for_retry" and task.try_number == SAY_WHY_FROM_TRY:
                    why = next(reversed(self._log_lines(task)), "its log does not say why")
                    self._say_once(f"{_name(run)}: {task.name} is still waiting: {_reason(why)}")
        return ", ".join(parts)

    def _say_once(self, text: str) -> None:
        if text not in self._printed:
            self._printed.add(text)
            self.progress.line(text)

    def _log_lines(self, task: TaskRun) -> list[str]:
        try:
            return self.api.log_lines(task)
        except RequestFailed as error:
            return [f"(its log is not available: {error})"]

    def _check_services(self) -> None:
        dead = [row.service for row in self.stack.status() if row.state == "dead"]
        if dead:
            raise DemoFailed(
                "NS-LOCAL-009", f"{', '.join(dead)} ended; see `make logs ARGS={dead[0]}`, then run `make demo` again."
            )

    def _explain(self, run: DagRun) -> str:
        order = {"failed": 0, "upstream_failed": 1}
        page = f"{self.stack.environment()['AIRFLOW_API_URL']}/dags/{run.dag_id}/runs/{quote(run.dag_run_id, safe='')}"
        # record_failure only reports the failure of another task, so it comes last.
        tasks = sorted(
            (t for t in self.api.tasks(run) if t.state in order),
            key=lambda t: (t.task_id == "record_failure", order[t.state or ""]),
        )
        if not tasks:
            return f"{_name(run)} failed without a failed task; see {page}"
        task = tasks[0]
        return "\n".join(
            [
                f"{_name(run)} failed in task {task.name} (try {task.try_number}). The end of its log:",
                *(f"    {line}" for line in self._log_lines(task)[-LOG_LINES:]),
                f"The whole log: {page}/tasks/{task.task_id}",
                "After correcting the cause, run `make demo` again: it continues from there.",
            ]
        )


def _reason(line: str) -> str:
    """What a task waits for: of an error of Nightshift the message's first sentence, any other line whole."""
    error = re.fullmatch(r"(?:\w+: )+NS-[A-Z]+-\d+: (.+?)(?:[.;] .*|\.)?", line, re.DOTALL)
    return error[1] if error else line


def _name(run: DagRun) -> str:
    return f"{run.dag_id} of {run.partition_key}" if run.partition_key else f"{run.dag_id} {run.dag_run_id}"
