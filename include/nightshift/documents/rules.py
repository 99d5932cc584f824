"""Documents of monitoring rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar

from nightshift.artifact import Document, Value
from nightshift.declare.rules import Action


class Observation(Value):
    """What one signal of a rule found on a day: in words, and the numbers. `since`: first partition of a drift."""

    what: str
    numbers: Mapping[str, float]
    since: date | None = None


class Match(Value):
    """A day on which every signal of a rule holds; `further`: the number of observations that are left out."""

    day: date
    observations: tuple[Observation, ...]
    further: int = 0


class RuleOutcome(Value):
    """A rule evaluated for a partition, and what followed.

    `since`: the first partition of those one after another in which it fired; None unless fired. `began`: it fires
    after a partition in which it did not, or drift that it matches begins; people are alerted. `acted`: its action was
    carried out in this partition. `effect`: what followed, in words; empty unless fired.
    """

    rule: str
    then: Action
    at_least: int
    of_last: int
    fired: bool
    matches: tuple[Match, ...]
    since: date | None = None
    began: bool = False
    acted: bool = False
    effect: str = ""


class AppliedRules(Document):
    """The outcome of every rule for a partition, and the message about it."""

    FILE: ClassVar[str] = "rules.json"

    partition: date
    outcomes: tuple[RuleOutcome, ...]
    message: str
