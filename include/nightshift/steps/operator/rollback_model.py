"""Roll back by hand: make a former champion spec champion again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import State, by_hand, in_force, standing, state_after, state_as_of
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.errors import ChampionChanged, UnknownModel
from nightshift.services.manual_decisions import check_in_reach, make_known, recorded_by_this_run, stated
from nightshift.steps.context import StepContext

CHAMPIONS = ("promoted", "rolled_back")


def run(context: StepContext, *, reason: str, decided_by: str, to_spec: str = "") -> ArtifactRef:
    """Record that `to_spec` (a spec id; default: the newest former champion) is champion again; commit `rollback.json`.

    Its newest version serves the partitions after `partition`. The decision is an alert, and MLflow's
    aliases are synced. A retry in the same run continues where the earlier try stopped.

    Raises UnknownModel if there is no champion, no former one, or `to_spec` was none, was retired or has no version;
    ChampionChanged if the champion changed on a later partition, or meanwhile; ConfigurationError if the
    partition is later than the newest published one.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    warehouse = context.warehouse
    check_in_reach(use_case, warehouse, partition)
    decisions = warehouse.decisions()
    decision = recorded_by_this_run(decisions, "rolled_back")
    changed = False
    if decision is None:
        decision = _decision(use_case, decisions, partition, to_spec, reason, decided_by)
        changed = warehouse.record_deployment(decision, expected_champion=decision.replaces)
    state = warehouse.state_as_of(partition + timedelta(days=1))
    version = state.version(decision.spec_id)
    killed = ". The kill switch is on: the fallback goes on serving" if state.killed is not None else ""
    return make_known(
        use_case, settings, store, warehouse, partition,
        f"{decision.spec_id} is champion again after partition {partition}, in place of {decision.replaces}{killed}",
        changed=changed,
        result={"spec_id": decision.spec_id, "replaces": decision.replaces, "reason": reason, "decided_by": decided_by},
        step="rollback_model",
        kind="rollback",
        inputs={"model": [version.model] if version else []},
        parameters={"to_spec": to_spec},
    )  # fmt: skip


def _decision(
    use_case: UseCase, decisions: Sequence[Deployment], partition: date, to_spec: str, reason: str, decided_by: str
) -> Deployment:
    state = state_after(decisions, partition)
    if state.champion is None:
        raise UnknownModel(
            "NS-DEPLOY-012",
            f"{use_case.name} has no champion after partition {partition}, so there is nothing to roll back. "
            "To stop a challenger, retire its spec; to let the fallback serve, use the kill switch.",
        )
    _check_latest(use_case, decisions, partition, state.champion)
    return Deployment(
        partition=partition,
        action="rolled_back",
        role="champion",
        spec_id=_target(use_case, decisions, state, to_spec),
        replaces=state.champion,
        reason=stated(reason),
        decided_by=decided_by,
    )


def _target(use_case: UseCase, decisions: Sequence[Deployment], state: State, to_spec: str) -> str:
    earlier = list(dict.fromkeys(one.spec_id for one in standing(decisions) if one.action in CHAMPIONS))
    usable = [one for one in earlier if one != state.champion and state.version(one) is not None]
    former = [one for one in state.former if one in usable]
    if not to_spec:
        if not former:
            raise UnknownModel(
                "NS-DEPLOY-013",
                f"{use_case.name} has no champion before {state.champion} to roll back to. "
                "Use the kill switch to let the fallback serve.",
            )
        return former[-1]
    if to_spec in usable:
        return to_spec
    if to_spec in state.retired:
        problem = "was retired"
    elif to_spec == state.champion:
        problem = "is the champion already"
    else:
        problem = "has no version that was not retired" if to_spec in earlier else "was never champion"
    raise UnknownModel(
        "NS-DEPLOY-014",
        f"{use_case.name}: {to_spec} {problem}, so it cannot be rolled back to. "
        f"Former champions are {', '.join(usable[-5:]) or 'none'}; leave the spec empty for the newest.",
    )


def _check_latest(use_case: UseCase, decisions: Sequence[Deployment], partition: date, champion: str) -> None:
    """Raise ChampionChanged if a decision of a later partition changed the champion, which would override this one."""
    if state_as_of(decisions, date.max).champion == champion:
        return
    counting = standing(in_force(decisions, date.max))
    later = [one for one in counting if one.partition > partition and one.action in (*CHAMPIONS, "retired")]
    if not later:
        raise ChampionChanged(
            "NS-DEPLOY-022",
            f"{use_case.name}: {champion} is champion after partition {partition}, and not after later ones, because a "
            "decision was annulled. Nothing was recorded. Trigger it again with the newest partition.",
        )
    annul = f", or trigger {use_case.name}.annul_decision with {later[-1].deployment_id}" if by_hand(later[-1]) else ""
    raise ChampionChanged(
        "NS-DEPLOY-015",
        f"{use_case.name}: {champion} is champion after partition {partition}, but {later[-1].action} on "
        f"{later[-1].partition} is {later[-1].spec_id}, which a rollback of partition {partition} would leave in "
        f"place. Nothing was recorded. Trigger it again with partition {later[-1].partition}{annul}.",
    )
