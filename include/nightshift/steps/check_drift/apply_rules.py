"""Evaluate the use case's monitoring rules for a partition, do what follows, and record it in rules_daily.

Artifact: `rules.json`. A request for a search is carried out by the DAG, a hold by `review`; both read what is recorded
here. The rest is done here: alerts, and the kill switch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import BY_RULE, in_force, state_after
from nightshift.core.monitoring.alerts import Alert
from nightshift.core.monitoring.rules import evaluate
from nightshift.deployment import Deployment
from nightshift.documents.check_drift import Drift
from nightshift.documents.rules import AppliedRules, RuleOutcome
from nightshift.services import rules
from nightshift.services.alerts import send_unsent
from nightshift.services.manual_decisions import newest_chosen
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

NAMED = 5
"""Observations of a rule that a message has."""


def run(context: StepContext, *, drift: ArtifactRef, recorded: ArtifactRef, report: ArtifactRef) -> ArtifactRef:
    """Replace the partition's rows of rules_daily and commit the outcomes of all rules.

    See declare.rules.Rule for what follows when. If rules began, this is logged, and an alert of the partition that is
    recorded with the rows. Alerts that are still to be sent, of this and of earlier partitions, are sent. Raises
    StoreUnavailable, WarehouseUnavailable.
    """
    use_case, partition, warehouse = context.use_case, context.partition, context.warehouse
    evidence = rules.read_evidence(context.store, warehouse, use_case, use_case.rules, partition, partition)
    past = rules.past(warehouse, partition, use_case.drift.quiet_days)
    evaluated = [evaluate(rule, partition, evidence, past) for rule in use_case.rules]
    outcomes = [_carried_out(context, one) for one in evaluated]
    model = context.store.read_document(drift, Drift).model_version
    message = _message(f"{use_case.name} {partition}, model {model}", outcomes, report)
    earlier = rules.recorded(warehouse, partition, partition).get(partition, [])
    began = {one.rule for one in outcomes if one.began}
    log.log(logging.WARNING if began else logging.INFO, message)
    news = sorted(began - {one.rule for one in earlier if one.began})
    rules.record(warehouse, partition, outcomes, Alert(partition, f"rules:{','.join(news)}", message) if news else None)
    send_unsent(context.settings, use_case, warehouse)
    return context.commit(
        "apply_rules",
        kind="rules",
        files=AppliedRules(partition=partition, outcomes=tuple(outcomes), message=message).to_files(),
        inputs={"drift": [drift], "recorded": [recorded], "report": [report]},
        metrics={"fired": sorted(one.rule for one in outcomes if one.fired), "began": sorted(began)},
    )


def _carried_out(context: StepContext, one: RuleOutcome) -> RuleOutcome:
    """The outcome with what was done; of a fallback, after the kill switch has been turned on."""
    if one.then == "search" and one.acted:
        command = rules.search_command(context.use_case, context.partition)
        effect = f"{one.effect}: {context.use_case.name}.search starts by itself; if the DAG is paused: {command}"
        return one.model_copy(update={"effect": effect})
    if one.then != "fallback" or one.since is None:
        return one
    acted, effect = _fall_back(context, one, one.since)
    return one.model_copy(update={"acted": acted, "began": one.began or acted, "effect": effect})


def _fall_back(context: StepContext, one: RuleOutcome, since: date) -> tuple[bool, str]:
    """Turn on the kill switch, unless anyone set it since the rule began to fire: (done for this partition, effect).

    If the versions of a later partition were chosen already, nothing is recorded, and the evaluation of a later
    partition does it: scored partitions do not change.
    """
    use_case, partition, warehouse = context.use_case, context.partition, context.warehouse
    decisions, by = warehouse.decisions(), f"{BY_RULE}{one.rule}"
    effect = f"turns on the kill switch: the fallback serves after {partition}, until {use_case.name}.kill_switch is "
    effect += "triggered with state off"
    counting = in_force(decisions, partition + timedelta(days=1))
    switched = [each for each in counting if each.action in ("killed", "restored") and each.partition >= since]
    if any((each.partition, each.decided_by) == (partition, by) for each in switched):
        return True, effect
    if switched:
        last = switched[-1]
        return False, f"goes on since {since}; {last.action} by {last.decided_by} on {last.partition}: left as it is"
    state = state_after(decisions, partition)
    if state.killed is not None:
        return False, f"the kill switch is on since {state.killed.partition}, by {state.killed.decided_by}"
    if state.version(state.fallback) is None:
        return False, "nothing: there is no version of the fallback; run train, which registers one, or roll back"
    chosen = newest_chosen(use_case, context.store, warehouse, partition)
    if chosen > partition:
        return False, f"nothing yet: the versions of {chosen} were chosen before; the next evaluation decides"
    decision = Deployment(
        partition=partition,
        action="killed",
        role="champion",
        spec_id=state.champion or state.fallback or "",
        reason={"why": _evidence(one), "since": since.isoformat()},
        decided_by=by,
    )
    warehouse.record_deployment(decision)
    return True, effect


def _evidence(one: RuleOutcome) -> str:
    """What a rule matched, the newest day first."""
    found = [
        each.what + (f" (since {each.since})" if each.since else "")
        for match in reversed(one.matches)
        for each in match.observations
    ]
    further = sum(match.further for match in one.matches) + len(found[NAMED:])
    return "; ".join(found[:NAMED]) + (f"; and {further} more" if further else "")


def _message(what: str, outcomes: Sequence[RuleOutcome], report: ArtifactRef) -> str:
    began = [f"{one.rule} {one.effect}. {_evidence(one)}" for one in outcomes if one.began]
    if not began:
        going_on = ", ".join(one.rule for one in outcomes if one.fired)
        return f"{what}: no rule begins to fire" + (f"; firing: {going_on}" if going_on else "")
    return f"{what}: look at the report. Rules: {' | '.join(began)}. Report: {report.uri}report.html"
