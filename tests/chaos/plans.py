"""Which request of a step meets which fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from chaos.effects import KILLS, Action, Request
from chaos.step_process import StepProcess

Matches = Callable[[Request], bool]


class Undisturbed:
    """Passes everything on; the base of the other plans.

    `points`: step, request and what happened to it, of each fault so far. `numbered`: a request is known by its text
    and how many of that text the attempt has sent before it; else by its text alone, whichever attempt sends it.
    """

    numbered = True

    def __init__(self) -> None:
        self.points: set[tuple[str, str, Action]] = set()
        self.step = ""
        self._attempts: list[StepProcess] = []
        self._open, self._begun = False, threading.Event()
        self._lock = threading.Lock()
        self._sent: dict[str, int] = {}

    def open(self) -> None:
        """Attempts are about to be started. Their requests wait for `begin`, which knows the processes."""
        self._begun.clear()
        self._open = True

    def begin(self, step: str, attempts: Sequence[StepProcess]) -> None:
        """Attempts at a step, side by side, were started."""
        with self._lock:
            self.step, self._attempts, self._sent = step, list(attempts), {}
            self.attempt_begins()
        self._begun.set()

    def attempt_begins(self) -> None:
        """For subclasses."""

    def end(self) -> None:
        """The attempts have ended. What of theirs is still on its way is dropped."""
        self._open = False
        self._begun.set()

    def decide(self, request: Request) -> Action:
        self._begun.wait()
        with self._lock:
            if not self._open:
                return Action.DROP
            number = self._sent[request.text] = self._sent.get(request.text, 0) + 1
            name = f"{request.service} {request.text}" + (f" #{number}" if self.numbered else "")
            action = self.choose(name, request)
            if action is not Action.PASS:
                self.points.add((self.step, name, action))
        return action

    def choose(self, name: str, request: Request) -> Action:
        """What happens to a request of this name. The lock is held."""
        return Action.PASS

    def kill(self) -> None:
        for attempt in self._attempts:
            attempt.kill()

    def first_new(self, name: str, actions: Sequence[Action]) -> Action:
        """The first of the actions that this request of the step has not met yet; PASS if there is none."""
        return next((one for one in actions if (self.step, name, one) not in self.points), Action.PASS)


class KilledAroundEachEffect(Undisturbed):
    """Kills a step before, inside and after each request that writes: one kill an attempt, until none is left."""

    def attempt_begins(self) -> None:
        self._killing = False

    def choose(self, name: str, request: Request) -> Action:
        if not request.writes:
            return Action.PASS
        if self._killing:
            return Action.DROP  # of another thread of the process that is being killed
        action = self.first_new(name, KILLS)
        self._killing = action is not Action.PASS
        return action


class Once(Undisturbed):
    """Each request that `matches` meets each of the actions once, whichever attempt sends it; then it is passed on."""

    numbered = False

    def __init__(self, matches: Matches, *actions: Action) -> None:
        super().__init__()
        self._matches, self._actions = matches, actions

    def choose(self, name: str, request: Request) -> Action:
        return self.first_new(name, self._actions) if self._matches(request) else Action.PASS


class FailsInTheMiddle(Undisturbed):
    """In each step, `fail()` is called before the middle one of its writes to a service; `restore()` after the attempt.

    `writes`: how many of them an undisturbed attempt sends, by step.
    """

    def __init__(
        self, service: str, writes: Mapping[str, int], fail: Callable[[], None], restore: Callable[[], None]
    ) -> None:
        super().__init__()
        self._service, self._writes, self._fail, self._restore = service, writes, fail, restore
        self._hit, self._failing = set[str](), False

    def attempt_begins(self) -> None:
        self._count = 0

    def choose(self, name: str, request: Request) -> Action:
        if request.service != self._service or not request.writes or self.step in self._hit:
            return Action.PASS
        self._count += 1
        if self._count <= self._writes.get(self.step, 0) // 2:
            return Action.PASS
        self._hit.add(self.step)
        self._failing = True
        self._fail()
        self.points.add((self.step, name, Action.PASS))
        return Action.PASS

    def end(self) -> None:
        if self._failing:
            self._failing = False
            self._restore()
        super().end()


class Slow(Undisturbed):
    """Each request that `matches` is passed on late."""

    def __init__(self, matches: Matches, seconds: float) -> None:
        super().__init__()
        self._matches, self._seconds = matches, seconds

    def decide(self, request: Request) -> Action:
        if self._matches(request):
            time.sleep(self._seconds)
        return super().decide(request)

    def choose(self, name: str, request: Request) -> Action:
        if self._matches(request):
            self.points.add((self.step, name, Action.PASS))
        return Action.PASS


class Abreast(Undisturbed):
    """Two attempts side by side wait for each other before each request that writes, for a short time."""

    numbered = False

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def attempt_begins(self) -> None:
        self._barriers: dict[str, threading.Barrier] = {}

    def decide(self, request: Request) -> Action:
        action = super().decide(request)
        if request.writes:
            with self._lock:
                barrier = self._barriers.setdefault(request.text, threading.Barrier(2))
            try:
                barrier.wait(self._seconds)
            except threading.BrokenBarrierError:
                return action  # the other waits for a lock of this one, or does not send it
            with self._lock:
                self.points.add((self.step, f"{request.service} {request.text}", Action.PASS))
        return action


class Counting(Undisturbed):
    """Counts the writes of each attempt, by service and step."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: dict[str, dict[str, int]] = {}

    def choose(self, name: str, request: Request) -> Action:
        if request.writes:
            of_service = self.writes.setdefault(request.service, {})
            of_service[self.step] = of_service.get(self.step, 0) + 1
        return Action.PASS
