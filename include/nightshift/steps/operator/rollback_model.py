"""Put an earlier champion back in charge, in place of the one there is, on a person's word."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.model_life import Life, life_as_of
from nightshift.deployment import Deployment
from nightshift.errors import ChampionChanged, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.by_hand import chosen_already, make_known, recorded_by_this_run, stated
from nightshift.io.switch import switch_published as switch_night
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

CHAMPIONS = ("promoted", "rolled_back")


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    reason: str,
    decided_by: str,
    to_version: str = "",
    switch_published: bool = False,
) -> ArtifactRef:
    """Record that `to_version` (default: the newest former champion) is champion again; commit `rollback.json`.

    It serves the partitions after `partition`. With `switch_published` the predictions of `partition`
    itself are then published anew from its stored scores; if that cannot be done, the rollback stands.
    The people behind the alert webhook are told, and MLflow's aliases follow. Tried again in the same
    run, it goes on where it stopped.

    Raises UnknownModel if there is no champion, no former one, or `to_version` is none or was
    retired; ChampionChanged if the champion is another one on a later partition, or by now.
    """
    warehouse = Warehouse(settings, use_case)
    decisions = warehouse.decisions()
    made = recorded_by_this_run(decisions, "rolled_back", partition)
    changed = False
    if made is None:
        made = _decision(use_case, decisions, partition, to_version, reason, decided_by)
        changed = warehouse.record_deployment(made, expected_champion=made.replaces)
    message = (
        f"{use_case.name}: {made.model_version} is champion again after partition {partition}, in place of "
        f"{made.replaces}. Decided by {decided_by}: {reason}"
    )
    if warehouse.life_as_of(partition + timedelta(days=1)).killed is not None:
        message += ". The kill switch is on: the fallback goes on answering"
    message += chosen_already(use_case, store, partition)
    make_known(settings, use_case, warehouse, message, changed=changed)
    switched = False
    if switch_published:
        switched = switch_night(use_case, settings, store, warehouse, partition, made.model_version)
    result = {
        "model_version": made.model_version,
        "replaces": made.replaces,
        "reason": reason,
        "decided_by": decided_by,
        "message": message,
    }
    return store.commit(
        use_case=use_case.name,
        step="rollback_model",
        partition=partition,
        kind="rollback",
        files={"rollback.json": canonical_json(result)},
        inputs={"model": [made.model] if made.model else []},
        parameters={"to_version": to_version, "switch_published": switch_published},
        metrics={"changed": changed, "published_night_switched": switched},
    )


def _decision(
    use_case: UseCase, decisions: Sequence[Deployment], partition: date, to_version: str, reason: str, decided_by: str
) -> Deployment:
    life = life_as_of(decisions, partition + timedelta(days=1))
    champion = life.champion
    if champion is None:
        raise UnknownModel(
            f"{use_case.name} has no champion after partition {partition}, so there is nothing to roll back. "
            "To stop a model on trial, retire it; to let the fallback answer, use the kill switch."
        )
    _refuse_overtaken(use_case, decisions, partition, champion)
    target = _target(use_case, decisions, life, champion, to_version)
    return Deployment(
        partition=partition,
        action="rolled_back",
        role="champion",
        model_version=target.model_version,
        model=target.model,
        replaces=champion.model_version,
        reason=stated(reason),
        decided_by=decided_by,
    )


def _target(
    use_case: UseCase, decisions: Sequence[Deployment], life: Life, champion: Deployment, to_version: str
) -> Deployment:
    if not to_version:
        if not life.former:
            raise UnknownModel(
                f"{use_case.name} has no champion before {champion.model_version} to roll back to. "
                "Use the kill switch to let the fallback answer."
            )
        return life.former[-1]
    earlier = {made.model_version: made for made in decisions if made.role == "champion" and made.action in CHAMPIONS}
    refusal = ""
    if to_version in life.retired:
        refusal = "was retired"
    elif to_version == champion.model_version:
        refusal = "is the champion already"
    elif to_version not in earlier:
        refusal = "was never champion"
    if refusal:
        known = [v for v in earlier if v not in life.retired and v != champion.model_version]
        raise UnknownModel(
            f"{use_case.name}: {to_version} {refusal}, so it cannot be rolled back to. "
            f"Former champions are {', '.join(known[-5:]) or 'none'}; leave the version empty for the newest."
        )
    return earlier[to_version]


def _refuse_overtaken(
    use_case: UseCase, decisions: Sequence[Deployment], partition: date, champion: Deployment
) -> None:
    """A rollback as of an earlier partition would be undone by a promotion that was recorded for a later one."""
    latest = life_as_of(decisions, date.max).champion
    if latest is not None and latest.partition > partition:
        raise ChampionChanged(
            f"{use_case.name}: {champion.model_version} is champion after partition {partition}, but {latest.action} "
            f"on {latest.partition} is {latest.model_version}, which a rollback as of {partition} would leave in "
            f"charge. Trigger it again with partition {latest.partition}."
        )
