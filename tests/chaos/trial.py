"""One disturbed night after another, from the same state, each compared with the undisturbed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos import outcome
from chaos.faults import Fault
from chaos.night import Night, NotSurvived
from chaos.plans import Counting, Undisturbed
from chaos.services import Services
from nightshift.declare.use_case import UseCase


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
        self._expected = services.left()

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
        return outcome.differences(self._expected, self._services.left())

    def disturbed(self, fault: Fault) -> Result:
        """Run the night with a fault and compare what it left."""
        self._services.restore(self._objects)
        plan = fault.plan(self._services, self.writes)
        attempts = 0
        try:
            attempts = self._run(plan, fault.at_once)
            why = "\n".join(outcome.differences(self._expected, self._services.left()))
        except NotSurvived as error:
            why = str(error)
        if failures := self._services.failures():
            why = f"{why}\nthe proxies failed: {failures}"
        if not plan.points:
            why = why or "it never happened"
        return Result(fault, len(plan.points), attempts, why)
