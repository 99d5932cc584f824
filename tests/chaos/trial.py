"""One disturbed night after another, from the same state, each compared with the undisturbed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from chaos import outcome
from chaos.faults import Fault
from chaos.night import Night, NotSurvived, deliver
from chaos.plans import Counting, Undisturbed
from chaos.services import Services
from chaos.step_process import StepProcess, Work
from nightshift.declare.discovery import load_use_case
from nightshift.declare.policies import RiskPolicy
from nightshift.declare.use_case import UseCase
from nightshift.io.warehouse.schema import migrate
from nightshift.pipeline import find_stage
from nightshift.steps.context import StepContext
from support.desk import D, Desk, begin
from support.history import TRAINED, History
from support.nights import Nights

DAY = timedelta(days=1)
NO_APPROVAL = frozenset({"record_approval"})
"""No night without a pending approval runs it."""
NO_TRAINING = NO_APPROVAL | {step.name for step in find_stage("train").steps} - {"append_training_rows"}


@dataclass(frozen=True)
class Result:
    """What a fault came to. `points`: how often it happened; `attempts`: at how many starts of steps; `why` it was not
    survived, or "".
    """

    fault: Fault
    points: int
    attempts: int
    why: str = ""


class Trial:
    """The state before a night, and what the undisturbed night left. `work` runs the night."""

    def __init__(self, services: Services, use_case: UseCase, work: Callable[[Night], object]) -> None:
        self._services, self._use_case, self._work = services, use_case, work
        self._objects = services.keep()
        counting = Counting()
        self._run(counting)
        self.writes = counting.writes
        self._expected = outcome.left_by(services)

    def _run(self, plan: Undisturbed, at_once: int = 1) -> int:
        night = Night(self._services, self._use_case, plan, at_once=at_once)
        try:
            self._work(night)
        finally:
            self._services.quiet()
        return night.attempts

    def undisturbed_again(self) -> list[str]:
        """What two undisturbed nights differ in: nothing, or nothing could be told from a disturbed one."""
        self._services.restore(self._objects)
        self._run(Undisturbed())
        return outcome.differences(self._expected, outcome.left_by(self._services))

    def disturbed(self, fault: Fault) -> Result:
        """Run the night with a fault and compare what it left."""
        self._services.restore(self._objects)
        plan = fault.plan(self._services, self.writes)
        attempts = 0
        try:
            attempts = self._run(plan, fault.at_once)
            why = "\n".join(outcome.differences(self._expected, outcome.left_by(self._services)))
        except NotSurvived as error:
            why = str(error)
        if failures := self._services.failures():
            why = f"{why}\nthe proxies failed: {failures}"
        if not plan.points:
            why = why or "it never happened"
        return Result(fault, len(plan.points), attempts, why)


def without_training(services: Services) -> Trial:
    """A night of versions that were made by hand: everything but the training is real."""
    use_case = replace(load_use_case("late_returns"), first_partition=D, risk=RiskPolicy())
    desk = Desk(use_case, services.settings, services.store)
    migrate(services.settings, use_case)
    begin(desk)
    desk.fail_training(D)
    deliver(services, [D, D + DAY])
    Night(services, use_case, Undisturbed()).run(D, without=NO_TRAINING)
    return Trial(services, use_case, lambda night: night.run(D + DAY, without=NO_TRAINING))


def after_training(services: Services) -> Trial:
    """The second night after the first training of the second use case; it trains itself."""
    use_case = replace(load_use_case("late_returns"), risk=RiskPolicy())
    work = Work(use_case, "chaos.trial.make_history", TRAINED, {})
    services.quiet()
    made = StepProcess(services.environment, work).wait()
    if made.kind != "done":
        raise NotSurvived(f"the history could not be made: {made.result}")
    history: History = made.result
    history.copy_trained(Nights(use_case, services.settings, services.store))
    nights = [TRAINED + DAY, TRAINED + 2 * DAY]
    deliver(services, nights)
    Night(services, use_case, Undisturbed()).run(nights[0], without=NO_APPROVAL)
    return Trial(services, use_case, lambda night: night.run(nights[1], without=NO_APPROVAL))


def make_history(context: StepContext) -> History:
    """The history up to the first training, in a process of its own; bucket and warehouse are empty afterwards."""
    return History.make(Nights(context.use_case, context.settings, context.store), TRAINED)
