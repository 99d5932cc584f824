"""Monitoring rules as text for a terminal: what they did in a partition, and what they would do in a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from nightshift.documents.rules import Match, RuleOutcome

SHOWN = 12
"""Days of a rule that a dry run names."""


def explanation(use_case: str, partition: date, outcomes: Sequence[RuleOutcome]) -> list[str]:
    """Lines about the outcomes of one partition: those that fired with their numbers, then the names of the others."""
    fired = [one for one in outcomes if one.fired]
    lines = [f"{use_case} {partition}: {len(fired)} of {len(outcomes)} rules fired."]
    for one in fired:
        counted = f"{len(one.matches)} of the last {one.of_last} partitions, at least {one.at_least} needed"
        going_on = "begins" if one.began else "goes on"
        lines += ["", f"{one.rule} -> {one.then} ({counted}; since {one.since}, {going_on})"]
        lines += [f"  {line}" for match in one.matches for line in _observed(match)]
        lines += [f"  effect: {one.effect}"]
    if quiet := [one for one in outcomes if not one.fired]:
        lines += ["", "Not fired:"]
        lines += [f"  {one.rule} -> {one.then} ({len(one.matches)} of the last {one.of_last})" for one in quiet]
    return lines


def dry_run_lines(use_case: str, outcomes: Mapping[date, Sequence[RuleOutcome]]) -> list[str]:
    """Lines about the partitions in which each rule would fire, begin and act."""
    days = list(outcomes)
    if not days:
        return [f"{use_case}: no partition of that range was checked for drift."]
    lines = [f"{use_case}, {len(days)} checked partitions from {days[0]} to {days[-1]}, nothing is changed:"]
    by_rule: dict[str, list[tuple[date, RuleOutcome]]] = {}
    for day, of_day in outcomes.items():
        for one in of_day:
            by_rule.setdefault(one.rule, []).append((day, one))
    for rule, of_rule in by_rule.items():
        fired = [(day, one) for day, one in of_rule if one.fired]
        began = [(day, one) for day, one in fired if one.began]
        acted = sum(one.acted for _, one in fired)
        numbers = f"would fire in {len(fired)}, begin in {len(began)}, act in {acted}"
        lines += ["", f"{rule} -> {of_rule[0][1].then}: {numbers}"]
        for day, one in began[:SHOWN]:
            what = next((each for match in reversed(one.matches) for each in match.observations), None)
            lines += [f"  {day}  {one.effect}: {what.what if what else ''}"]
        if len(began) > SHOWN:
            lines += [f"  and {len(began) - SHOWN} more"]
    return lines


def _observed(match: Match) -> list[str]:
    lines = [
        f"{match.day}  {one.what}"
        + (f" (excess {one.numbers['excess']:+.2f})" if "excess" in one.numbers else "")
        + (f", since {one.since}" if one.since else "")
        for one in match.observations
    ]
    return lines + ([f"{match.day}  and {match.further} more"] if match.further else [])
