"""Monitoring rules of a use case: what is watched in the last partitions, and what then happens. Cheap to import.

A rule is evaluated for each partition by `check_drift` (core.monitoring.rules), on what the warehouse holds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from nightshift.errors import ConfigurationError

Kind = Literal["data", "prediction", "label", "concept", "skew"]
"""The column `drift` of drift_daily."""

Than = Literal["fallback", "expected"]
Action = Literal["alert", "search", "hold", "fallback"]

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
LONGEST_WINDOW = 90
"""Most partitions that a rule may look back."""


@dataclass(frozen=True)
class DriftSignal:
    """A column of that kind whose `excess` in drift_daily is beyond `least_excess`, up or down, in a partition.

    `source`, `column` and `statistic` select among the columns (see docs/drift.md); "" and, of `column`, None: any.
    The column "" is the number of rows of a source; of outcomes, all rows. With `new`, only drift that begins in the
    partition: what had drifted within the drift policy's `quiet_days` before is the same drift.
    """

    kind: Kind
    source: str = ""
    column: str | None = None
    statistic: str = ""
    least_excess: float = 1.0
    new: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise ConfigurationError("NS-RULE-001", f"DriftSignal: kind {self.kind!r} is not one of {kinds}.")
        if not (math.isfinite(self.least_excess) and self.least_excess > 0):
            raise ConfigurationError(
                "NS-RULE-002",
                f"DriftSignal of {self.kind}: least_excess {self.least_excess} is not a number above 0; a column has "
                "drifted beyond 1.",
            )


@dataclass(frozen=True)
class LossSignal:
    """A day whose published predictions have a log loss (nats) above another by more than `margin`.

    `than`: the fallback's on the same day, or the loss that the published scores promised (`expected`). The day is
    the one whose labels the partition delivered; it counts with labels of at least `least_rows` predictions.
    """

    than: Than
    margin: float
    least_rows: int = 20

    def __post_init__(self) -> None:
        if self.than not in get_args(Than):
            than = ", ".join(get_args(Than))
            raise ConfigurationError("NS-RULE-003", f"LossSignal: than {self.than!r} is not one of {than}.")
        if not math.isfinite(self.margin) or self.least_rows < 1:
            raise ConfigurationError(
                "NS-RULE-004",
                f"LossSignal than {self.than}: margin {self.margin} must be a finite number of nats, least_rows "
                f"{self.least_rows} at least 1.",
            )


@dataclass(frozen=True)
class MissingPublication:
    """A partition that ingest has decided and that has no predictions.

    A partition is checked once it is published, so that a missing one is found by those after it: `of_last` above 1.
    """


Signal = DriftSignal | LossSignal | MissingPublication


@dataclass(frozen=True)
class Rule:
    """Fires in a partition if on at least `at_least` of the `of_last` partitions up to it every one of `signals` holds.

    `then`: `alert` people; request a `search` for other specs, at most once in seven partitions; `hold` promotions
    (canaries and requests for approval included) as long as it fires; or `fallback`: turn on the kill switch, from the
    next partition on, until a person turns it off. People are alerted when a rule of any kind begins: it fires after a
    partition in which it did not, or drift that it matches begins. A fallback follows once while a rule goes on firing.
    """

    name: str
    signals: tuple[Signal, ...]
    then: Action
    at_least: int = 1
    of_last: int = 1

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigurationError(
                "NS-RULE-005",
                f"Rule {self.name!r}: the name appears in tables and decisions; use at most 63 of a-z, 0-9 and _, a "
                "letter first.",
            )
        wrong = [one for one in self.signals if not isinstance(one, Signal)]
        if not self.signals or wrong:
            raise ConfigurationError(
                "NS-RULE-006",
                f"Rule {self.name!r}: signals must be a tuple of at least one DriftSignal, LossSignal or "
                f"MissingPublication, not {self.signals!r}.",
            )
        if self.then not in get_args(Action):
            actions = ", ".join(get_args(Action))
            raise ConfigurationError("NS-RULE-007", f"Rule {self.name!r}: then {self.then!r} is not one of {actions}.")
        if not 1 <= self.at_least <= self.of_last <= LONGEST_WINDOW:
            raise ConfigurationError(
                "NS-RULE-008",
                f"Rule {self.name!r}: {self.at_least} of the last {self.of_last} partitions can not be counted; write "
                f"1 <= at_least <= of_last <= {LONGEST_WINDOW}.",
            )
        if self.of_last == self.at_least and any(isinstance(one, MissingPublication) for one in self.signals):
            raise ConfigurationError(
                "NS-RULE-009",
                f"Rule {self.name!r} never fires: a partition is checked once it is published, so that a missing "
                "publication is found by later ones only. Take an of_last above at_least.",
            )


DEFAULT_RULES = (
    Rule("label_drift", (DriftSignal("label", new=True),), then="search"),
    Rule("concept_drift", (DriftSignal("concept", new=True),), then="search"),
    Rule("input_and_score_drift", (DriftSignal("data", new=True), DriftSignal("prediction", new=True)), then="search"),
    Rule("input_drift", (DriftSignal("data", new=True),), then="alert"),
    Rule("score_drift", (DriftSignal("prediction", new=True),), then="alert"),
    Rule("skew", (DriftSignal("skew", new=True),), then="alert"),
)
"""A search if labels or the relation of labels to scores drift, or deliveries and scores together; an alert for one of
deliveries and scores alone, since a model can be right about inputs it has rarely seen."""


def check_names(use_case: str, rules: tuple[Rule, ...]) -> None:
    """Raises ConfigurationError if two rules of a use case have the same name."""
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError("NS-RULE-010", f"{use_case}: two rules are called {twice[0]!r}; rename one of them.")
