"""The stages of the pipeline and their steps: the one declaration of the task graph.

Put here: which steps a stage has, what each of them gets from earlier ones, how it is mapped and retried. DAG files,
paths in the object store, priorities, loading of history, reproduction, tests and the pages in docs/dags read it.
Keep out: what a step does (nightshift.steps), Airflow (dags/dagkit).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nightshift.errors import ConfigurationError

Retries = Literal["outage", "delivery", "waiting", "night_before"]
"""What a step's retries are for: an outage (an hour), a late delivery, an earlier partition that is undecided, or the
decisions of the partition before, which may be under way."""

RunWhen = Literal["all_success", "all_done_min_one_success"]
"""Airflow's trigger rule of a step. With the second, it runs without the mapped instances that failed.

Not all_done: after a run that is cleared and fails early, it would run on results of the run before.
"""


@dataclass(frozen=True)
class Step:
    """A task of a stage. One name everywhere: module, task, S3 prefix, test.

    `inputs`: its arguments, each with the earlier step whose ref, or refs, is passed. `mapped_over`: the argument with
    one task instance per ref. `last_try`: arguments added on the last try, when waiting ends. If a step with `decides`
    fails, the stage's partition is rejected.
    """

    name: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    mapped_over: str = ""
    retries: Retries = "outage"
    last_try: Mapping[str, bool] = field(default_factory=dict)
    run_when: RunWhen = "all_success"
    decides: bool = True


@dataclass(frozen=True)
class Stage:
    """A DAG of each use case.

    `priority`: tasks of a higher one run first where slots are scarce. `nightly` stages run for every partition, and
    their priorities are ten apart.
    `steps` are its own; `borrowed` steps belong to another stage. `decided_by`: the step whose status is that of the
    stage's partition. With `records_failure`, a failed step rejects the partition, so that later ones go on.
    `folder`: below nightshift/steps; the stage's name by default.
    """

    name: str
    priority: int
    steps: tuple[Step, ...] = ()
    nightly: bool = False
    borrowed: frozenset[str] = frozenset()
    decided_by: str = ""
    records_failure: bool = False
    folder: str = ""

    @property
    def own_steps(self) -> tuple[Step, ...]:
        """The steps without the borrowed ones."""
        return tuple(step for step in self.steps if step.name not in self.borrowed)

    def priority_of(self, step: Step) -> int:
        """Airflow's priority weight of a step's task: that of the stage, and more for each step before it.

        So nights that are under way end before others begin. A step that does not decide the partition goes last.
        """
        return self.priority + (self.steps.index(step) if step.decides else 0)


def _waiting(name: str, *, retries: Retries = "waiting", **inputs: str) -> Step:
    return Step(name, inputs, retries=retries, last_try={"allow_undecided": True})


def _after_night_before(name: str, **inputs: str) -> Step:
    return _waiting(name, retries="night_before", **inputs)


STAGES = (
    Stage(
        "ingest",
        priority=30,
        nightly=True,
        records_failure=True,
        decided_by="publish",
        steps=(
            Step("land", retries="delivery", last_try={"reject_undelivered": True}),
            Step("profile", {"landed": "land"}),
            Step("validate", {"landed": "land"}),
            Step("publish", {"validated": "validate", "profiled": "profile"}),
            Step("catch_up", {"published": "publish"}, decides=False),
            Step("record_performance", {"published": "publish"}, decides=False),
        ),
        borrowed=frozenset({"record_performance"}),
    ),
    Stage(
        "materialize",
        priority=40,
        nightly=True,
        records_failure=True,
        decided_by="publish_features",
        steps=(
            _waiting("build_features"),
            Step("publish_features", {"features": "build_features"}),
            Step("load_online", {"published": "publish_features"}, decides=False),
        ),
    ),
    Stage(
        "train",
        priority=50,
        nightly=True,
        records_failure=True,
        steps=(
            _waiting("append_training_rows"),
            _after_night_before("build_training_set", rows="append_training_rows"),
            _after_night_before("choose_specs"),
            Step("fit", {"training_set": "build_training_set", "spec": "choose_specs"}, mapped_over="spec"),
            Step(
                "verify",
                {"training_set": "build_training_set", "version": "fit"},
                mapped_over="version",
                retries="night_before",
                last_try={"allow_undecided": True},
                run_when="all_done_min_one_success",
            ),
            Step("register", {"verified": "verify"}, run_when="all_done_min_one_success"),
            Step("report_training", {"registered": "register"}, decides=False),
            Step("track_training", {"registered": "register"}, decides=False),
        ),
    ),
    Stage(
        "predict",
        priority=60,
        nightly=True,
        records_failure=True,
        decided_by="publish_predictions",
        steps=(
            _after_night_before("resolve_model"),
            Step("calibrate", {"model_choice": "resolve_model"}),
            Step("score", {"model_choice": "resolve_model", "calibration": "calibrate"}),
            Step("audit", {"scores": "score"}),
            Step("publish_predictions", {"scores": "score", "audited": "audit"}),
            Step("queue_reviews", {"published": "publish_predictions"}, decides=False),
        ),
    ),
    Stage(
        "promote",
        priority=20,
        nightly=True,
        records_failure=True,
        decided_by="advance",
        steps=(
            _after_night_before("review"),
            Step("advance", {"reviewed": "review"}),
            Step("mirror_models", {"advanced": "advance"}, decides=False),
            Step("record_approval", {"advanced": "advance"}, decides=False),
        ),
    ),
    Stage(
        "check_drift",
        priority=10,
        nightly=True,
        steps=(
            Step("record_performance"),
            Step("compare_drift", {"performance": "record_performance"}),
            Step("report_drift", {"drift": "compare_drift"}),
            Step("record_drift", {"drift": "compare_drift"}),
            Step("apply_rules", {"drift": "compare_drift", "recorded": "record_drift", "report": "report_drift"}),
            Step("record_pipeline", decides=False),
        ),
    ),
    Stage("attack", priority=1, steps=(Step("attack"),)),
    Stage(
        "backtest",
        priority=100,
        borrowed=frozenset({"attack"}),
        steps=(
            Step("backtest"),
            Step("attack", {"backtest": "backtest"}),
            Step("nominate", {"backtest": "backtest", "attacked": "attack"}),
        ),
    ),
    Stage(
        "search",
        priority=1,
        borrowed=frozenset({"fit", "verify"}),
        steps=(
            Step("find_training_set", retries="waiting"),
            Step("study", {"training_set": "find_training_set"}),
            Step("plan_race", {"training_set": "find_training_set", "studied": "study"}),
            Step("race", {"training_set": "find_training_set", "origin": "plan_race"}, mapped_over="origin"),
            Step("select_candidates", {"raced": "race"}),
            Step("fit", {"training_set": "find_training_set", "spec": "select_candidates"}, mapped_over="spec"),
            Step(
                "verify",
                {"training_set": "find_training_set", "version": "fit"},
                mapped_over="version",
                retries="waiting",
                last_try={"allow_undecided": True},
            ),
            Step("report_search", {"studied": "study", "selected": "select_candidates", "verified": "verify"}),
        ),
    ),
    Stage("backfill_history", priority=100),
    Stage("rollback_model", priority=100, steps=(Step("rollback_model"),), folder="operator"),
    Stage("kill_switch", priority=100, steps=(Step("kill_switch"),), folder="operator"),
    Stage("retire_model", priority=100, steps=(Step("retire_model"),), folder="operator"),
    Stage("annul_decision", priority=100, steps=(Step("annul_decision"),), folder="operator"),
    Stage("answer_review", priority=100, steps=(Step("answer_review"),), folder="operator"),
    Stage("watchdog", priority=100),
    Stage("maintenance", priority=1),
    Stage("reproduce", priority=100, steps=(Step("reproduce"),), folder="operator"),
)
"""Priorities: DAGs started by hand first, predictions before trainings, the weekly search with its many tasks last.

Of the nightly stages those nearer to the predictions come first: in a backfill ingest and materialize run ahead by many
partitions, and the predictions of the earlier ones would wait for trainings that get no slot.
"""

NIGHTLY = tuple(stage.name for stage in STAGES if stage.nightly)

STAGE_OF_STEP = {step.name: stage.name for stage in STAGES for step in stage.own_steps} | {"record_failure": "operator"}
"""The stage that each step belongs to, in the order of the stages. `record_failure` serves several."""


def find_stage(name: str) -> Stage:
    """The stage of that name. Raises ConfigurationError."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise ConfigurationError("NS-SETTINGS-006", f"There is no stage {name!r}: declare it in nightshift/pipeline.py.")


def find_step(name: str) -> Step:
    """The first step of that name, in the order of the stages. Raises StopIteration."""
    return next(step for stage in STAGES for step in stage.steps if step.name == name)


def step_module(step: str) -> str:
    """Dotted name of the module that runs a step."""
    stage = STAGE_OF_STEP[step]
    folder = next((one.folder for one in STAGES if one.name == stage and one.folder), stage)
    return f"nightshift.steps.{folder}.{step}"


def run_step(step: str, context: Any, **arguments: Any) -> Any:
    """Run a step in this process; `context` is a StepContext. Returns its ref, or refs."""
    return importlib.import_module(step_module(step)).run(context, **arguments)


def run_stage(
    stage: str,
    run: Callable[..., Any],
    *,
    until: str = "",
    further: Mapping[str, Mapping[str, bool]] | None = None,
) -> dict[str, Any]:
    """Run the steps of a stage that decide its partition, one after another, up to and including the step `until`.

    `run(step, **arguments)` runs one step and returns its ref, or refs; `further`: additional arguments by step.
    Returns the results by step. Raises ConfigurationError for an unknown stage, and whatever `run` raises.
    """
    results: dict[str, Any] = {}
    for step in find_stage(stage).steps:
        if step.decides:
            arguments = {name: results[earlier] for name, earlier in step.inputs.items()}
            arguments |= (further or {}).get(step.name, {})
            if step.mapped_over:
                each = arguments.pop(step.mapped_over)
                results[step.name] = [run(step.name, **arguments, **{step.mapped_over: one}) for one in each]
            else:
                results[step.name] = run(step.name, **arguments)
        if step.name == until:
            break
    return results
