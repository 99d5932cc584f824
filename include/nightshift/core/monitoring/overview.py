"""The values that the overview of a use case shows, and the rules for what needs a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from nightshift.declare.use_case import UseCase
from nightshift.deployment import VERSION_ACTIONS, Deployment

Phase = Literal["published", "rejected", "under way", "overdue"]

STAGES = {"ingest": "publish", "materialize": "publish_features", "predict": "publish_predictions"}
"""Stages on the way to predictions, in order, and the step of each that decides the partition."""

PATIENCE = timedelta(hours=3)
"""The longest time between two decisions of a partition that is under way: an hour and a quarter of retries of each
step (dagkit.defaults), and the waiting for an earlier partition."""

CHECKED_PARTITIONS = 14
OLDEST_VERSION_DAYS = 2
"""An older version of the champion's spec means that trainings fail."""


@dataclass(frozen=True)
class Night:
    """One publication. `log_loss` and `fallback_log_loss` are None until labels are known; `known`: share of labels."""

    partition: date
    prediction_date: date
    role: str
    spec_id: str
    model_version: str
    rows: int
    published_at: datetime
    dag_id: str
    run_id: str
    known: float | None
    log_loss: float | None
    expected_log_loss: float | None
    fallback_log_loss: float | None

    @property
    def version_days(self) -> int:
        """Age of the version that scored, in partitions."""
        return (self.partition - date.fromisoformat(self.model_version[:10])).days


@dataclass(frozen=True)
class OpenDrift:
    """A column that has drifted in one of the last partitions; `partition`: the newest in which it did."""

    drift: str
    source: str
    column_name: str
    statistic: str
    days: int
    value: float
    low: float
    high: float
    since: date
    partition: date


@dataclass(frozen=True)
class StageStatus:
    """The status of a partition in a stage: None while it is undecided. `decided_at`: when its artifact was written."""

    stage: str
    status: str | None
    reason: str = ""
    decided_at: datetime | None = None


@dataclass(frozen=True)
class Problem:
    """Something that needs a person: what, and what to do. `page`: where in the app to look, below the use case."""

    what: str
    advice: str
    page: str = ""


@dataclass(frozen=True)
class Overview:
    """`delivered`: the newest partition that ingest decided. `nights` and `decisions`: the newest first."""

    use_case: UseCase
    delivered: date | None
    nights: Sequence[Night]
    under_way: Sequence[date]
    drifts: Sequence[OpenDrift]
    checked: date | None
    problems: Sequence[Problem]
    decisions: Sequence[Mapping[str, object]]


def phase(published: bool, stages: Sequence[StageStatus], now: datetime) -> Phase:
    """The phase of a delivered partition, from the status of each stage in order.

    A stage that fails rejects its partition when its retries are used up, so that an undecided one without a rejection
    is still at work, unless nothing has been decided for longer than retries can take.
    """
    if any(one.status == "rejected" for one in stages):
        return "rejected"
    if published:
        return "published"
    newest = max((one.decided_at for one in stages if one.decided_at is not None), default=None)
    return "under way" if newest is not None and now - newest <= PATIENCE else "overdue"


def partition_problems(
    use_case: str, published: Sequence[date], stages: Mapping[date, Sequence[StageStatus]], now: datetime
) -> tuple[list[Problem], list[date]]:
    """Problems of the partitions in `stages`, the newest first; and the partitions that are under way."""
    problems, overdue, under_way = [], [], []
    for day in sorted(stages, reverse=True):
        match phase(day in published, stages[day], now):
            case "rejected":
                one = next(one for one in stages[day] if one.status == "rejected")
                what = f"{one.stage} rejected {day}: {one.reason}"
                problems.append(Problem(what, f"correct it and run {use_case}.{one.stage} again", f"night/{day}"))
            case "overdue":
                overdue.append(day)
            case "under way":
                under_way.append(day)
            case "published":
                pass
    if overdue:
        days = str(overdue[0]) if len(overdue) == 1 else f"{len(overdue)} partitions up to {overdue[0]}"
        verb = "is" if len(overdue) == 1 else "are"
        advice = f"look at {use_case}.predict of {overdue[-1]}"
        problems.append(Problem(f"{days} {verb} delivered, and not published", advice, f"night/{overdue[-1]}"))
    return problems, under_way


def missing_delivery(use_case: UseCase, delivered: date, now: datetime) -> list[Problem]:
    """A problem if ingest should have decided a newer partition by now; none for a replay of the past."""
    if use_case.last_partition is not None:
        return []
    expected = delivered
    while use_case.cutoff(expected + timedelta(days=1)) + PATIENCE <= now:
        expected += timedelta(days=1)
    if expected == delivered:
        return []
    what = f"{use_case.name}.ingest should have decided {expected}; the newest decided partition is {delivered}"
    return [Problem(what, f"look at the runs of {use_case.name}.ingest, and whether its DAG is paused")]


def model_problems(
    use_case: str, nights: Sequence[Night], awaiting: tuple[str, date] | None, killed: Deployment | None
) -> list[Problem]:
    """Problems of decisions and versions: an unanswered approval, the kill switch, an old version.

    `awaiting`: the challenger whose approval was requested, and by the review of which partition.
    """
    problems = []
    if awaiting is not None:
        spec_id, partition = awaiting
        what = f"{spec_id} waits for approval since {partition}"
        problems.append(Problem(what, f"answer task approve of {use_case}.promote of {partition}", "model"))
    if killed is not None:
        what = f"the kill switch is on since {killed.partition} ({killed.decided_by})"
        advice = f"the fallback serves; trigger {use_case}.kill_switch with state off to end it"
        problems.append(Problem(what, advice, "model"))
    if nights and nights[0].role == "champion" and nights[0].version_days > OLDEST_VERSION_DAYS:
        what = f"the newest predictions are from a version {nights[0].version_days} days old"
        problems.append(Problem(what, f"look at {use_case}.train of {nights[0].partition}", "model"))
    return problems


def rejected_trainings(decisions: Sequence[Deployment], delivered: date) -> list[Problem]:
    """The specs whose newest training within the checked partitions left no version."""
    first = delivered - timedelta(days=CHECKED_PARTITIONS - 1)
    by_spec: dict[str, list[Deployment]] = {}
    for one in decisions:
        if one.action in VERSION_ACTIONS and first <= one.partition <= delivered:
            by_spec.setdefault(one.spec_id, []).append(one)
    problems = []
    for spec_id, trainings in by_spec.items():
        newest = max(trainings, key=lambda one: one.partition)
        if newest.action == "registered":
            continue
        count = len({one.partition for one in trainings if one.action != "registered"})
        what = f"the newest training of {spec_id or 'all specs'} was {newest.action} ({count} of the last partitions')"
        advice = f"see the gates and the model card of {newest.partition}; an earlier version scores"
        problems.append(Problem(what, advice, "model"))
    return problems


def rule_problems(use_case: str, rules: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """The problems that monitoring rules leave to a person. `rules`: rows of rules_daily, the newest first."""
    problems = []
    for one in rules:
        day, page = one["partition"], f"night/{one['partition']}"
        if one["action"] == "search" and one["acted"]:
            advice = f"see {use_case}.search; if that DAG is paused, trigger it with partition {day}"
            problems.append(Problem(f"rule {one['rule']} requested a search on {day}", advice, page))
        if one["action"] == "hold" and one["fired"] and day == rules[0]["partition"]:
            advice = f"nightshift monitor explain {use_case} {day}"
            problems.append(Problem(f"rule {one['rule']} holds promotions since {one['since']}", advice, page))
    return problems


def headline(overview: Overview) -> str:
    """One sentence: whether the newest delivered partition is published, how many problems and alarms there are."""
    count, alarms = len(overview.problems), len(overview.drifts)
    problems = f"{count or 'no'} problem{'' if count == 1 else 's'}"
    if alarms:
        problems += f", {alarms} open alarm{'' if alarms == 1 else 's'}"
    if not overview.nights:
        return "Nothing has been published yet" + (f"; {problems}" if count else "")
    newest = overview.nights[0].partition
    if overview.delivered is None or newest >= overview.delivered:
        return f"{newest} is published; {problems}"
    if overview.delivered in overview.under_way:
        return f"{overview.delivered} is under way, {newest} is published; {problems}"
    return f"{overview.delivered} is delivered and not published; {problems}"
