"""Choose the versions that score a partition: the primary, whose scores are published, and shadows.

The primary is the champion's newest version from an earlier partition, or the fallback's if there is no champion
or the kill switch is on. Shadows are the challenger, the former champion while it is watched, the fallback, and the
first version of the champion's spec (frozen).
The training of the partition itself can neither delay nor change its predictions.
"""

from __future__ import annotations

import logging
from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import State, Version
from nightshift.deployment import ScoringRole
from nightshift.documents.predict import ModelChoice, ScoredModel
from nightshift.errors import UnknownModel
from nightshift.services.night_before import undecided_before
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, allow_undecided: bool = False) -> ArtifactRef:
    """Commit a ModelChoice; its inputs are the versions.

    Raises PartitionNotReady if training, review or predictions of the partition before are undecided and
    `allow_undecided` is False; older ones are not waited for. (The calibration uses those predictions.)
    Raises UnknownModel if neither a champion nor a fallback has a version.
    """
    use_case, partition = context.use_case, context.partition
    warehouse = context.warehouse
    undecided = undecided_before(
        partition,
        ("register", "advance", "publish_predictions"),
        use_case,
        context.store,
        warehouse,
        allow_undecided=allow_undecided,
    )
    state = warehouse.state_as_of(partition)
    if state.primary is None:
        raise UnknownModel(
            "NS-PREDICT-002",
            f"{use_case.name} has no version for partition {partition} ({_why_fallback(state)}, and the fallback has "
            f"none). Run {use_case.name}.backfill_history up to a partition before it, and {use_case.name}.train.",
        )
    share = state.challenge.share if state.challenge and state.challenge.stage == "canary" else 0.0
    role, version = state.primary
    # One version may have two roles, for instance challenger and fallback; it scores once, in the first.
    shadows: dict[str, tuple[ScoringRole, Version]] = {}
    for shadow in state.shadows:
        shadows.setdefault(shadow[1].model_version, shadow)
    choice = ModelChoice(
        primary=_scored(role, version, 1.0),
        shadows=tuple(_scored(r, v, share if r == "challenger" else 0.0) for r, v in shadows.values()),
        why=_why(state, partition, role, version),
    )
    if undecided:
        log.warning("%s %s: %s is undecided and not waited for", use_case.name, partition, undecided)
    shadow_names = ", ".join(f"{one.role} {one.model_version}" for one in choice.shadows) or "none"
    log.info("%s %s: %s; shadows: %s", use_case.name, partition, choice.why, shadow_names)
    return context.commit(
        "resolve_model",
        kind="model_choice",
        files=choice.to_files(),
        inputs={"model": [version.model], "shadows": [one.model for one in choice.shadows]},
        parameters={"undecided": undecided.isoformat()} if undecided else {},
        metrics={"version_age_days": (partition - version.partition).days},
    )


def _scored(role: ScoringRole, version: Version, share: float) -> ScoredModel:
    return ScoredModel(
        role=role,
        spec_id=version.spec_id,
        model_version=version.model_version,
        model=version.model,
        trained_on=version.partition,
        share=share,
    )


def _why(state: State, partition: date, role: ScoringRole, version: Version) -> str:
    """Which version is primary, how old it is, and, of the fallback, why."""
    days = (partition - version.partition).days
    age = f"trained on partition {version.partition}, {days} day{'' if days == 1 else 's'} old"
    serves = f"{role} {version.spec_id} serves with version {version.model_version}, {age}"
    return serves if role == "champion" else f"{serves}, because {_why_fallback(state)}"


def _why_fallback(state: State) -> str:
    if state.killed is not None:
        return f"the kill switch is on since partition {state.killed.partition}, by {state.killed.decided_by}"
    if state.champion is None:
        return "no spec is champion"
    return f"champion {state.champion} has no version that is not retired"
