"""What a step sends to a service, and what a proxy can do with it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class Action(enum.Enum):
    """What happens to one request. `KILL_*` end the step that sent it with SIGKILL."""

    PASS = "passed on"
    KILL_BEFORE = "killed before"
    KILL_INSIDE = "killed when the service has half of it"
    KILL_AFTER = "killed when the service has answered, before the answer arrives"
    DROP = "connection closed, nothing passed on"
    CUT = "connection closed when the service has half of it"
    LOSE = "connection closed when the service has answered, before the answer arrives"
    CUT_ANSWER = "connection closed after half of the answer"
    ERROR = "an error in place of passing it on"
    LATE_ERROR = "an error in place of the answer of the service, which has done it"


KILLS = (Action.KILL_BEFORE, Action.KILL_INSIDE, Action.KILL_AFTER)
"""Around an effect."""


@dataclass(frozen=True)
class Request:
    """One request: method and key, or a statement without its values. `writes`: it may change what is stored."""

    service: str
    text: str
    writes: bool


class Plan(Protocol):
    """Decides what happens to each request, in the thread of its connection."""

    def decide(self, request: Request) -> Action:
        """Called before anything of the request is passed on; may block."""

    def kill(self) -> None:
        """End the step. Called once the service has as much of the request as the action says."""


class Quiet:
    """Passes everything on."""

    def decide(self, request: Request) -> Action:
        return Action.PASS

    def kill(self) -> None:
        raise AssertionError("nothing is killed by this plan")
