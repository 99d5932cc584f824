"""Which models serve, stand on trial and stand by, as it follows from the recorded decisions alone.

Nothing here is stored: the decisions are the state, and the state of any partition can be asked for
at any time. A decision of partition P takes effect for partitions after P. Of what one step decided
for one partition, the last row counts, so that a step that is run again replaces what it said;
what people decide by hand is kept row by row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

from nightshift.deployment import Deployment, Role

Stage = Literal["shadow", "canary", "standby"]

STEP_ORDER = {"register_fallback": 0, "train": 1, "register": 1, "advance_model": 2}
"""Order of decisions of one partition; by hand comes last."""

BY_HAND = "hand:"


@dataclass(frozen=True)
class Trial:
    """A model scored beside the one that serves: a challenger (`shadow`, `canary`), or the former
    champion while the fresh one is watched (`standby`).

    `since`: its first night is the partition after. `share`: of the rows, published from it.
    """

    deployment: Deployment
    stage: Stage
    since: date
    share: float = 0.0


@dataclass(frozen=True)
class Life:
    """The models of a use case as of one partition. `former` are earlier champions that may be
    rolled back to, the newest last."""

    champion: Deployment | None = None
    fallback: Deployment | None = None
    trial: Trial | None = None
    killed: Deployment | None = None
    former: tuple[Deployment, ...] = ()
    retired: frozenset[str] = field(default_factory=frozenset)

    @property
    def serving(self) -> Deployment | None:
        """The model that answers: the champion, unless there is none or the kill switch is on."""
        return self.champion if self.champion is not None and self.killed is None else self.fallback

    @property
    def serving_role(self) -> Role:
        """The role in which it answers."""
        return "champion" if self.champion is not None and self.killed is None else "fallback"


def life_as_of(decisions: Iterable[Deployment], partition: date) -> Life:
    """The life of the models as of a partition, from decisions in the order they were recorded.

    Decisions of the partition itself and later are left out, but for the fallback's, which may serve
    the partition that put it in place.
    """
    life = Life()
    for decision in _standing(decisions):
        if decision.partition < partition or (decision.role == "fallback" and decision.partition == partition):
            life = _after(life, decision)
    return life


def _standing(decisions: Iterable[Deployment]) -> list[Deployment]:
    """The decisions that count, in the order they take effect."""
    kept: dict[tuple[object, ...], Deployment] = {}
    for position, decision in enumerate(decisions):
        by_hand = decision.decided_by.startswith(BY_HAND)
        step = position if by_hand else STEP_ORDER.get(decision.decided_by, 1)
        # The last row of a step for a partition; dict order keeps rows by hand as they came.
        kept[(decision.partition, by_hand, step)] = decision
    return [kept[key] for key in sorted(kept)]  # type: ignore[type-var]


def _after(life: Life, decision: Deployment) -> Life:
    version = decision.model_version
    trial = life.trial
    on_trial = trial is not None and trial.stage != "standby" and trial.deployment.model_version == version
    match decision.action:
        case "bootstrap":
            return replace(life, fallback=decision)
        case "shadow":
            return life if trial is not None else replace(life, trial=Trial(decision, "shadow", decision.partition))
        case "canary" if on_trial:
            share = float(decision.reason.get("share", 0.0))
            return replace(life, trial=Trial(decision, "canary", decision.partition, share))
        case "withdrawn" if on_trial:
            return replace(life, trial=None)
        case "promoted":
            return _promoted(life, decision)
        case "confirmed" if trial is not None and trial.stage == "standby":
            return replace(life, trial=None)
        case "rolled_back":
            former = tuple(f for f in life.former if f.model_version not in (version, decision.replaces))
            return replace(life, champion=decision, trial=None, former=former)
        case "killed":
            return replace(life, killed=decision)
        case "restored":
            return replace(life, killed=None)
        case "retired":
            trial = None if trial is not None and trial.deployment.model_version == version else trial
            former = tuple(f for f in life.former if f.model_version != version)
            return replace(life, trial=trial, former=former, retired=life.retired | {version})
    return life


def _promoted(life: Life, decision: Deployment) -> Life:
    before = life.champion
    if before is None or before.model_version == decision.model_version:
        return replace(life, champion=decision, trial=None)
    standby = Trial(before, "standby", decision.partition)
    return replace(life, champion=decision, trial=standby, former=(*life.former, before))
