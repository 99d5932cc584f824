"""Alerts to people: what they are about, and the message that several of them make together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import takewhile

from nightshift.deployment import VERSION_ACTIONS, Action, Deployment

SHOWN = 10
"""Causes that a message describes; the others are counted."""

DECISIONS: dict[Action, str] = {
    "rejected": "the version of {spec} trained by partition {partition} failed a version gate{again}; the newest that "
    "passed is used",
    "awaiting_approval": "{spec} waits for approval after partition {partition}: Browse, Required actions",
    "promoted": "{spec} is champion after partition {partition}",
    "rolled_back": "{spec} is champion again after partition {partition}",
    "withdrawn": "{spec} is withdrawn after partition {partition}",
    "retired": "{spec} is retired after partition {partition}",
    "killed": "the kill switch is on after partition {partition}: the fallback serves",
    "restored": "the kill switch is off after partition {partition}: the champion serves",
    "annulled": "decision {annulled} is annulled after partition {partition}",
}
"""Decisions about models that are alerts."""

REPEATED_EVERY = 7
"""Of so many rejections in a row by the same gates one is an alert."""


@dataclass(frozen=True)
class Alert:
    """Something that a person has to know. A cause of a partition is recorded, and sent, once.

    `partition`: None if it is about none. `cause`: stable key, such as `rules:label_drift` or `failed:ingest`.
    """

    partition: date | None
    cause: str
    message: str


def decision_alert(
    decision: Deployment, deployment_id: int, *, killed: bool, recorded: Sequence[Deployment] = ()
) -> Alert | None:
    """The alert about a recorded decision, None if its action is none of DECISIONS.

    `killed`: whether the kill switch is on after the decision. `recorded`: all decisions. Versions of a spec that
    the same gates reject partition after partition are alerted once in REPEATED_EVERY.
    """
    if decision.action not in DECISIONS:
        return None
    before = _rejected_before(decision, recorded) if decision.action == "rejected" else 0
    if before % REPEATED_EVERY:
        return None
    spec = decision.model_version if decision.action == "retired" and decision.model_version else decision.spec_id
    annulled = decision.reason.get("annulled", decision.annuls)
    again = f" ({before + 1} partitions in a row)" if before else ""
    what = DECISIONS[decision.action].format(spec=spec, partition=decision.partition, annulled=annulled, again=again)
    place = f", in place of {decision.replaces}" if decision.replaces else ""
    serving = ". The kill switch is on: the fallback goes on serving" if killed and decision.replaces else ""
    why = f". Decided by {decision.decided_by}: {_why(decision)}"
    return Alert(decision.partition, f"{decision.action}:{deployment_id}", f"{what}{place}{serving}{why}")


def _rejected_before(decision: Deployment, recorded: Sequence[Deployment]) -> int:
    """By how many trainings in a row before it the same gates rejected a version of the spec."""
    trained = {
        one.partition: one
        for one in recorded
        if one.spec_id == decision.spec_id and one.action in VERSION_ACTIONS and one.partition < decision.partition
    }
    gates = set(_failed_gates(decision))
    same = (
        one.action == "rejected" and set(_failed_gates(one)) == gates
        for _, one in sorted(trained.items(), reverse=True)
    )
    return sum(1 for _ in takewhile(bool, same))


def _failed_gates(decision: Deployment) -> dict[str, str]:
    gates: Mapping[str, str] = decision.reason.get("gates", {})
    return {gate: result for gate, result in gates.items() if result.startswith("fail")}


def _why(decision: Deployment) -> str:
    failed = [f"{gate} {result}" for gate, result in _failed_gates(decision).items()]
    return str(decision.reason.get("why") or "; ".join(failed) or "no reason recorded")


def digest(use_case: str, alerts: Sequence[Alert]) -> tuple[str, str]:
    """Title and text (plain, a line per cause) of one message about some alerts, the oldest first.

    Alerts with equal cause are one line: the message of the newest partition, and how many other partitions there are.
    """
    by_cause: dict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        by_cause[alert.cause].append(alert)
    lines = []
    for same in by_cause.values():
        newest = max(same, key=lambda one: one.partition or date.min)
        days = sorted(one.partition for one in same if one.partition is not None)
        others = f" (and {len(same) - 1} more of {days[0]} to {days[-1]})" if len(same) > 1 else ""
        lines.append(f"{newest.message}{others}")
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN} other causes, see the table {use_case}.alerts"]
    count = f"{len(alerts)} alerts" if len(alerts) > 1 else "1 alert"
    return f"Nightshift, {use_case}: {count}", "\n".join(lines)
