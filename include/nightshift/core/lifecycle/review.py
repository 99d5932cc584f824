"""The review of the specs after a partition: one outcome, with the numbers behind it in words.

Pure functions of the state as of the partition, losses on matured labels, and the declared policies. A partition
counts if labels of at least `least_rows` predictions are known and the kill switch was off.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from nightshift.core.gates.risk import demands
from nightshift.core.lifecycle.e_process import e_values
from nightshift.core.lifecycle.state import Challenge, State
from nightshift.declare.policies import PromotionPolicy, RiskPolicy
from nightshift.deployment import Deployment
from nightshift.documents.promote import Review, ReviewedLoss, ReviewOutcome

ADVANCING: tuple[ReviewOutcome, ...] = ("canary", "ask_approval", "promote")
"""Outcomes that bring a challenger closer to champion."""


@dataclass(frozen=True)
class _Case:
    partition: date
    state: State
    losses: Sequence[ReviewedLoss]
    idle: Collection[date]
    policy: PromotionPolicy
    risk: RiskPolicy

    def finding(self, outcome: ReviewOutcome, spec_id: str, why: str, *, share: float = 0.0, alert: str = "") -> Review:
        """The review with this outcome."""
        return Review(
            partition=self.partition,
            outcome=outcome,
            spec_id=spec_id,
            champion=self.state.champion,
            share=share,
            why=why,
            alert=alert,
            losses=tuple(self.losses),
        )

    def matured(self, after: date) -> list[date]:
        """Partitions after `after` that count, oldest first."""
        return sorted({loss.partition for loss in self.losses if loss.partition > after and self._counts(loss)})

    def losses_of(self, spec_id: str | None, after: date) -> dict[date, ReviewedLoss]:
        """A spec's losses on the partitions that count, by partition."""
        own = [loss for loss in self.losses if loss.spec_id == spec_id and loss.partition > after]
        return {loss.partition: loss for loss in sorted(own, key=lambda one: one.partition) if self._counts(loss)}

    def differences(self, first: str | None, second: str | None, after: date) -> dict[date, float]:
        """The first spec's loss minus the second's, in nats, by partition where both scored the same rows."""
        one, other = self.losses_of(first, after), self.losses_of(second, after)
        both = [day for day in one if day in other and one[day].rows == other[day].rows]
        return {day: one[day].log_loss - other[day].log_loss for day in both}

    def elapsed(self, since: date) -> int:
        """The number of partitions after `since` and before the reviewed one, without those under the kill switch."""
        days = (since + timedelta(days=n) for n in range(1, (self.partition - since).days))
        return sum(day not in self.idle for day in days)

    def _counts(self, loss: ReviewedLoss) -> bool:
        return loss.rows >= self.policy.least_rows and loss.partition not in self.idle


def review_partition(
    partition: date,
    state: State,
    losses: Sequence[ReviewedLoss],
    *,
    policy: PromotionPolicy,
    risk: RiskPolicy,
    idle: Collection[date] = (),
    hold: str = "",
) -> Review:
    """The outcome of a partition's review.

    `state` is as of the partition; `losses` are of earlier partitions, on labels delivered up to this one; `idle`
    are partitions for which the kill switch was on; `hold`: why a challenger whose outcome is one of ADVANCING is
    held, or "". The outcome is the first that applies of: roll_back, the challenger's next action, confirm, hold,
    nothing.
    """
    case = _Case(partition, state, losses, idle, policy, risk)
    challenger = _challenger(case)
    if hold and challenger and challenger.outcome in ADVANCING:
        challenger = case.finding("hold", challenger.spec_id, f"{challenger.why}; {hold}")
    champion = _champion(case) if state.killed is None else None
    holds = [one for one in (challenger, champion) if one is not None]
    if state.killed is not None:
        why = f"the kill switch has been on since partition {state.killed.partition}: nothing else is decided"
        finding = challenger if challenger and challenger.outcome == "time_out" else case.finding("hold", "", why)
    elif champion and champion.outcome == "roll_back":
        finding = champion
    elif challenger and challenger.outcome != "hold":
        finding = challenger
    elif champion and champion.outcome == "confirm":
        finding = champion
    elif holds:
        finding = case.finding("hold", holds[0].spec_id, "; ".join(one.why for one in holds))
    else:
        finding = case.finding("nothing", "", "no spec is on its way to champion or watched")
    return finding.model_copy(update={"alert": champion.alert if champion else ""})


# The champion


def _champion(case: _Case) -> Review | None:
    """Roll back if it does significantly worse, confirm after the watch, hold during it; None otherwise."""
    state, policy = case.state, case.policy
    if state.champion is None:
        return None
    harm = _worse_than_fallback(case)
    former = state.former[-1] if state.former else None
    former = former if state.version(former) is not None else None
    if harm and former:
        return case.finding("roll_back", former, f"{harm}; {former} is the newest former champion")
    if state.watched_since is None:
        none_left = f"{harm}. There is no former champion to roll back to: decide about the kill switch"
        return case.finding("hold", state.champion, harm, alert=none_left) if harm else None
    if former is None:
        return case.finding("confirm", state.champion, "no former champion is left to compare with", alert=harm)
    differences = case.differences(state.champion, former, state.watched_since)
    if harm_shown := _harm(differences, former, policy):
        return case.finding("roll_back", former, f"{state.champion}: {harm_shown}")
    numbers = (
        f"{state.champion}: {len(differences)} of {policy.watch_partitions} watched partitions compared with {former}"
    )
    if differences:
        values = np.array(list(differences.values()))
        evidence = e_values(values, policy.rollback_clip)[-1]
        numbers += f", mean log loss {values.mean():+.4f}, e-value {evidence:.2f} of {1 / policy.rollback_error:.0f}"
    over = case.elapsed(state.watched_since) >= policy.watch_partitions + policy.longest_partitions
    return case.finding(
        "confirm" if over or len(differences) >= policy.watch_partitions else "hold", state.champion, numbers
    )


def _worse_than_fallback(case: _Case) -> str:
    """Why the champion is worse than the fallback by the emergency margin on the newest partition it served; or ""."""
    state = case.state
    served = {loss.partition for loss in case.losses if loss.role == "champion" and loss.spec_id == state.champion}
    both = case.differences(state.champion, state.fallback, date.min) if state.fallback != state.champion else {}
    newest = sorted(day for day in both if day in served)[-1:]
    harm = _emergency({day: both[day] for day in newest}, "the fallback", case.policy)
    return f"{state.champion}: {harm}" if harm else ""


def _harm(differences: Mapping[date, float], rival: str, policy: PromotionPolicy) -> str:
    """Why a spec is significantly worse than `rival`, by their loss differences, oldest first; "" if it is not."""
    if emergency := _emergency(differences, rival, policy):
        return emergency
    values = np.array(list(differences.values()))
    evidence = e_values(values, policy.rollback_clip)
    if not len(evidence) or evidence.max() < 1 / policy.rollback_error:
        return ""
    first = int(np.argmax(evidence >= 1 / policy.rollback_error))
    return (
        f"the e-value of its loss against that of {rival} reached {evidence[first]:.1f} on {list(differences)[first]}, "
        f"after {first + 1} partitions (bound {1 / policy.rollback_error:.0f}); mean difference of log loss "
        f"{values[: first + 1].mean():+.4f}"
    )


def _emergency(differences: Mapping[date, float], rival: str, policy: PromotionPolicy) -> str:
    worst = max(differences, key=lambda day: differences[day], default=None)
    if worst is None or differences[worst] <= policy.emergency_margin:
        return ""
    return (
        f"on {worst} its log loss was {differences[worst]:.4f} above that of {rival}, beyond the emergency "
        f"margin of {policy.emergency_margin}"
    )


# The challenger


def _challenger(case: _Case) -> Review | None:
    """The next action for the challenger; None if there is none."""
    state, policy, challenge = case.state, case.policy, case.state.challenge
    if challenge is None:
        return None
    spec_id, elapsed = challenge.spec_id, case.elapsed(challenge.began or challenge.since)
    if overdue := _overdue(case, challenge):
        return case.finding("time_out", spec_id, overdue)
    rival = state.champion or state.fallback
    differences = case.differences(spec_id, rival, challenge.since) if challenge.stage == "canary" else {}
    if shown := _emergency(differences, rival or "", policy):
        return case.finding("withdraw", spec_id, f"{spec_id}: {shown}")
    ready, numbers = _live_equals_backtest(case, challenge)
    if ready == "no":
        return case.finding("withdraw", spec_id, numbers)
    if ready == "yes":
        return _onward(case, challenge, numbers)
    if elapsed >= policy.longest_partitions and challenge.awaiting is None:
        late = f"not champion within {policy.longest_partitions} partitions ({elapsed} have passed): {numbers}"
        return case.finding("withdraw", spec_id, late)
    return case.finding("hold", spec_id, numbers)


def _overdue(case: _Case, challenge: Challenge) -> str:
    """Why the request for approval has timed out; "" while it is open or if there is none."""
    if challenge.awaiting is None:
        return ""
    limit = max(math.ceil(case.risk.approval_hours / 24) + 1, case.policy.longest_partitions)
    age = (case.partition - challenge.awaiting).days
    if age <= limit:
        return ""
    return (
        f"{challenge.spec_id}: approval was requested on {challenge.awaiting}, {age} partitions ago, and no answer was "
        f"recorded; after {limit} partitions the place is free for another spec"
    )


def _live_equals_backtest(case: _Case, challenge: Challenge) -> tuple[str, str]:
    """Whether live losses of the newest partitions equal the backtest's: ("yes", "no" or "open", the numbers).

    The partitions are the newest ones of the stage that count, up to the first one that the challenger did not score.
    """
    policy, spec_id = case.policy, challenge.spec_id
    needed = policy.shadow_partitions if challenge.stage == "shadow" else policy.canary_partitions
    own = case.losses_of(spec_id, challenge.since)
    days = case.matured(challenge.since)
    # The backtest has the labels of a partition's predictions one partition later than the review.
    while days and days[-1] in own and own[days[-1]].backtest_log_loss is None:
        days.pop()
    newest: list[ReviewedLoss] = []
    for day in reversed(days):
        if day not in own or len(newest) == needed:
            break
        newest.append(own[day])
    progress = f"{spec_id}: {len(newest)} of {needed} partitions in {challenge.stage} scored one after another"
    if len(newest) < needed:
        return "open", f"{progress}, with labels known for at least {policy.least_rows} rows"
    differences = [
        one.raw_log_loss - one.backtest_log_loss
        for one in newest
        if one.raw_log_loss is not None and one.backtest_log_loss is not None
    ]
    if len(differences) < needed:
        missing = sorted(str(one.partition) for one in newest if one.backtest_log_loss is None)
        return "open", f"{progress}; the backtest has no loss for {', '.join(missing[:5])}"
    difference = float(np.mean(differences))
    numbers = f"{progress}, mean log loss {difference:+.4f} from the backtest's (band {policy.live_band})"
    return ("yes" if abs(difference) <= policy.live_band else "no"), numbers


def _onward(case: _Case, challenge: Challenge, numbers: str) -> Review:
    """The next action for a challenger whose live losses equal those of its backtest."""
    state, spec_id, demanded = case.state, challenge.spec_id, demands(case.risk)
    if state.version(spec_id) is None:
        return case.finding("hold", spec_id, f"{numbers}; it has no version that was not retired")
    if challenge.stage == "shadow" and demanded.canary:
        share = case.policy.canary_share
        return case.finding("canary", spec_id, f"{numbers}; its risks demand a canary, of {share:.0%}", share=share)
    if challenge.awaiting is not None:
        return case.finding("hold", spec_id, f"{numbers}; approval was requested on {challenge.awaiting}")
    if state.watched_since is not None:
        return case.finding("hold", spec_id, f"{numbers}; {state.champion} is watched and not confirmed yet")
    if demanded.approval:
        return case.finding("ask_approval", spec_id, f"{numbers}; its risks demand approval")
    return case.finding("promote", spec_id, numbers)


def approval_decisions(decisions: Sequence[Deployment], spec_id: str, asked_on: date) -> list[Deployment]:
    """The recorded decisions on the approval of a spec that was requested by the review of partition `asked_on`."""
    return [
        one
        for one in decisions
        if (one.decided_by, one.spec_id) == ("record_approval", spec_id)
        and one.reason.get("asked_on") == asked_on.isoformat()
    ]


def approval_summary(title: str, review: Review, *, hours: float, page_uri: str) -> str:
    """The request for approval of a spec, as Markdown for the approver."""
    days = sorted({loss.partition for loss in review.losses})
    rival = review.champion or next((loss.spec_id for loss in review.losses if loss.role == "fallback"), "")
    own, other = (
        {loss.partition: loss for loss in review.losses if loss.spec_id == spec_id}
        for spec_id in (review.spec_id, rival)
    )

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    rows = [
        f"| {day} | {own[day].rows} of {own[day].predictions} | {cell(own[day].log_loss)} "
        f"| {cell(other[day].log_loss if day in other else None)} | {cell(own[day].raw_log_loss)} "
        f"| {cell(own[day].backtest_log_loss)} |"
        for day in days
        if day in own
    ]
    place = f"in place of `{review.champion}`" if review.champion else "as the first champion"
    return "\n".join(
        [
            f"**{title}**: shall `{review.spec_id}` become champion {place}, after partition {review.partition}?",
            "",
            f"{review.why}.",
            "",
            "| partition | labels known | log loss | of the champion | uncalibrated | in a backtest |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Evidence: {page_uri}. Without an answer within {hours:g} hours the spec is withdrawn.",
        ]
    )
