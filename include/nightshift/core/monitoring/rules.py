"""Evaluates monitoring rules on what is recorded about the last partitions, and says what follows.

Put here: pure functions of rows. Keep out: reading the rows (services.rules), acting (steps.check_drift.apply_rules).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from nightshift.core.monitoring.drift import describe
from nightshift.declare.rules import DriftSignal, LossSignal, Rule, Signal
from nightshift.documents.check_drift import ColumnDrift, DriftKind
from nightshift.documents.rules import Match, Observation, RuleOutcome
from nightshift.partitions import partition_range

KEPT = 5
"""Observations kept of a signal on a day: those with the largest excess."""

SEARCH_EVERY = 7
"""A rule requests a search only if none was requested by a rule in the six partitions before."""


@dataclass(frozen=True)
class RecordedDrift:
    """A row of drift_daily."""

    kind: DriftKind
    drift: ColumnDrift
    since: date | None


@dataclass(frozen=True)
class DayLoss:
    """The published predictions for a day on known labels: log losses in nats; None where there is none to compare."""

    rows: int
    log_loss: float
    expected: float | None
    fallback: float | None


@dataclass(frozen=True)
class Evidence:
    """What is recorded. `drifts` by partition; `losses` by the day that was predicted; `unpublished` partitions."""

    drifts: Mapping[date, Sequence[RecordedDrift]] = field(default_factory=dict)
    losses: Mapping[date, DayLoss] = field(default_factory=dict)
    unpublished: Collection[date] = ()


@dataclass(frozen=True)
class Past:
    """What was recorded before a partition.

    `since`: of the rules that fired in the newest partition evaluated before, since when. `searched`: the newest of
    the SEARCH_EVERY - 1 partitions before in which a rule requested a search.
    """

    since: Mapping[str, date] = field(default_factory=dict)
    searched: date | None = None


def evaluate(rule: Rule, partition: date, evidence: Evidence, past: Past) -> RuleOutcome:
    """Whether a rule fires in a partition, on what, and what follows; nothing is done yet.

    Days without evidence do not match. See declare.rules.Rule for when a rule begins. Of `fallback`, `acted` is
    whether the rule fires after a partition in which it did not.
    """
    window = partition_range(partition - timedelta(days=rule.of_last - 1), partition)
    matches = tuple(match for day in window if (match := _match(rule.signals, day, evidence)))
    result = RuleOutcome(
        rule=rule.name,
        then=rule.then,
        at_least=rule.at_least,
        of_last=rule.of_last,
        fired=len(matches) >= rule.at_least,
        matches=matches,
    )
    if not result.fired:
        return result
    before = past.since.get(rule.name)
    since = before or partition
    began = before is None or _drift_begins(rule, partition, evidence)
    acted, effect = _effect(rule, past, since, begins=before is None, began=began)
    return result.model_copy(update={"since": since, "began": began, "acted": acted, "effect": effect})


def _effect(rule: Rule, past: Past, since: date, *, begins: bool, began: bool) -> tuple[bool, str]:
    """Whether a rule that fires acts, and what follows in words."""
    if rule.then == "hold":
        return True, f"holds promotions since {since}"
    if not (begins if rule.then == "fallback" else began):
        return False, f"goes on since {since}"
    if rule.then == "search" and past.searched is not None:
        return False, f"alerts; a search was requested on {past.searched} already"
    return True, {"alert": "alerts", "search": "requests a search", "fallback": "turns on the kill switch"}[rule.then]


def _drift_begins(rule: Rule, partition: date, evidence: Evidence) -> bool:
    drifts = [signal for signal in rule.signals if isinstance(signal, DriftSignal)]
    return any(one.since == partition for signal in drifts for one in _drifts(signal, partition, evidence))


def _match(signals: Sequence[Signal], day: date, evidence: Evidence) -> Match | None:
    found = [_observations(signal, day, evidence) for signal in signals]
    if not all(found):
        return None
    kept = tuple(one for of_signal in found for one in of_signal[:KEPT])
    return Match(day=day, observations=kept, further=sum(map(len, found)) - len(kept))


def _observations(signal: Signal, day: date, evidence: Evidence) -> list[Observation]:
    if isinstance(signal, DriftSignal):
        return [
            Observation(
                what=f"{one.kind}: {describe(one.drift)}",
                numbers={name: getattr(one.drift, name) for name in ("value", "low", "high", "excess")},
                since=one.since,
            )
            for one in _drifts(signal, day, evidence)
        ]
    if isinstance(signal, LossSignal):
        return _losses(signal, day, evidence)
    if day in evidence.unpublished:
        return [Observation(what=f"{day} is ingested and has no predictions", numbers={})]
    return []


def _drifts(signal: DriftSignal, day: date, evidence: Evidence) -> list[RecordedDrift]:
    """The columns that a signal selects on a day, the largest excess first."""
    selected = [
        one
        for one in evidence.drifts.get(day, ())
        if one.kind == signal.kind
        and abs(one.drift.excess) > signal.least_excess
        and signal.source in ("", one.drift.source)
        and signal.column in (None, one.drift.column)
        and signal.statistic in ("", one.drift.statistic)
        and (not signal.new or one.since == day)
    ]
    return sorted(selected, key=lambda one: (-abs(one.drift.excess), one.drift.name))


def _losses(signal: LossSignal, day: date, evidence: Evidence) -> list[Observation]:
    loss = evidence.losses.get(day)
    if loss is None or loss.rows < signal.least_rows:
        return []
    other, of = (loss.fallback, "fallback") if signal.than == "fallback" else (loss.expected, "expected")
    if other is None or loss.log_loss - other <= signal.margin:
        return []
    difference = loss.log_loss - other
    named = "the fallback's" if signal.than == "fallback" else "what the scores promised"
    what = f"log loss of {day} {loss.log_loss:.4f}, {difference:+.4f} from {named}, on {loss.rows} labels"
    numbers = {"log_loss": loss.log_loss, of: other, "difference": difference, "margin": signal.margin}
    return [Observation(what=f"{what} (margin {signal.margin:g})", numbers=numbers)]


def following(past: Past, partition: date, outcomes: Iterable[RuleOutcome]) -> Past:
    """The past of the next partition."""
    outcomes = list(outcomes)
    searched = partition if any(one.then == "search" and one.acted for one in outcomes) else past.searched
    if searched is not None and (partition - searched).days >= SEARCH_EVERY - 1:
        searched = None
    return Past({one.rule: one.since for one in outcomes if one.since is not None}, searched)


def evaluate_each(
    rules: Sequence[Rule], partitions: Sequence[date], evidence: Evidence
) -> dict[date, tuple[RuleOutcome, ...]]:
    """The outcomes of rules in some partitions, ascending, if none had been evaluated before the first."""
    past, result = Past(), dict[date, tuple[RuleOutcome, ...]]()
    for partition in partitions:
        result[partition] = tuple(evaluate(rule, partition, evidence, past) for rule in rules)
        past = following(past, partition, result[partition])
    return result
