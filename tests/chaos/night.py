"""Whole nights of the second use case, each step in its own process, tried again as Airflow tries it again."""

from __future__ import annotations

import importlib
from collections.abc import Container, Mapping, Sequence
from datetime import date
from typing import Any

from chaos.plans import Undisturbed
from chaos.services import Services
from chaos.step_process import Outcome, StepProcess, Work
from nightshift.declare.use_case import UseCase
from nightshift.pipeline import Step, find_stage

STAGES = ("ingest", "materialize", "train", "promote", "predict", "check_drift")
MOST_ATTEMPTS = 1000
MOST_FAILURES = 4
"""Attempts one after another that fail without a fault that is new."""


class NotSurvived(Exception):
    """A step did not succeed, or what it left is wrong. As text: what and where."""


class Night:
    """The nightly stages of a partition, with a plan for what happens to the requests of its steps.

    `at_once`: how many attempts at a step are started side by side. `attempts`: how many were started in all.
    """

    def __init__(self, services: Services, use_case: UseCase, plan: Undisturbed, *, at_once: int = 1) -> None:
        self._services, self._use_case, self._plan, self._at_once = services, use_case, plan, at_once
        self.attempts = 0
        services.set_plan(plan)

    def run(self, partition: date, *, stages: Sequence[str] = STAGES, without: Container[str] = frozenset()) -> None:
        """Run all steps of the stages but those `without`. Raises NotSurvived if a step fails for good."""
        for stage in stages:
            results: dict[str, Any] = {}
            for step in find_stage(stage).steps:
                if step.name not in without:
                    results[step.name] = self._run_step(step, partition, results)

    def _run_step(self, step: Step, partition: date, results: Mapping[str, Any]) -> Any:
        arguments = {name: results[earlier] for name, earlier in step.inputs.items()}
        if not step.mapped_over:
            return self.step(step.name, partition, **arguments)
        each = arguments.pop(step.mapped_over)
        return [self.step(step.name, partition, **arguments, **{step.mapped_over: one}) for one in each]

    def step(self, name: str, partition: date, **arguments: Any) -> Any:
        """Try a step until it is done, and return its result. Raises NotSurvived if it fails for good."""
        failures = 0
        for _ in range(MOST_ATTEMPTS):
            points = len(self._plan.points)
            outcomes = self._attempt(name, partition, arguments)
            failed = next((outcome for outcome in outcomes if outcome.kind.startswith("failed")), None)
            if failed is None and all(outcome.kind == "done" for outcome in outcomes):
                result = outcomes[0].result
                if any(outcome.result != result for outcome in outcomes):
                    raise NotSurvived(f"{name} of {partition} came to {[outcome.result for outcome in outcomes]}")
                return result
            failures = failures + 1 if len(self._plan.points) == points else 0
            if failed and (failed.kind == "failed for good" or failures == MOST_FAILURES):
                raise NotSurvived(f"{name} of {partition} {failed.kind}:\n{failed.result}")
        raise NotSurvived(f"{name} of {partition} was not done after {MOST_ATTEMPTS} attempts")

    def _attempt(self, name: str, partition: date, arguments: Mapping[str, Any]) -> list[Outcome]:
        """Start `at_once` attempts and wait for them."""
        self.attempts += self._at_once
        work = Work(self._use_case, name, partition, arguments)
        self._plan.open()
        attempts = [StepProcess(self._services.environment, work) for _ in range(self._at_once)]
        self._plan.begin(name, attempts)
        outcomes = [attempt.wait() for attempt in attempts]
        self._plan.end()
        self._services.disconnect()
        return outcomes


def deliver(services: Services, partitions: Sequence[date]) -> None:
    """Put the landing files of the partitions into the bucket."""
    replay = importlib.import_module("late_returns.replay")
    for partition in partitions:
        for feed, dt, name, body in replay.deliveries(partition):
            services.store.put(f"landing/late_returns/{feed}/dt={dt}/{name}", body)
