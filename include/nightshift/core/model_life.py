"""Which models serve, stand on trial and stand by, as it follows from the recorded decisions alone.

Nothing here is stored: the decisions are the state, and the state of any partition can be asked for
at any time. A decision of partition P takes effect for partitions after P. Of what one step decided
for one partition, the last row counts, so that a step that is run again replaces what it said;
what people decide by hand is kept row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal

from nightshift.deployment import Deployment, Role

Stage = Literal["shadow", "canary", "standby"]

STEP_ORDER = {"register_fallback": 0, "train": 1, "register": 1, "advance_model": 2, "record_approval": 3}
"""Order of one partition's decisions; steps of one number replace each other. By hand comes last, in recorded order."""

BY_HAND = "hand:"
"""Begins `decided_by` of what a person decided."""

ANSWERED = ("approved", "declined", "approval_timed_out", "promoted", "withdrawn")
"""Actions after which nobody need be asked about a model any more."""


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


def approval_asked_for(decisions: Sequence[Deployment], partition: date, version: str) -> date | None:
    """The partition that asked a person about a model and has no answer yet as of a partition; None if there is none.

    However many partitions ago: in a backfill they are minutes apart. Silence is an answer, too, and is recorded.
    """

    def concerns(one: Deployment) -> bool:
        return one.partition < partition and one.model_version == version

    asked = None
    for decision in filter(concerns, _standing(decisions)):
        if decision.action == "awaiting_approval":
            asked = decision.partition
        elif decision.action in ANSWERED:
            asked = None
    # An answer stays one though the same partition's place was taken by the answer to another question.
    answers = [one for one in decisions if concerns(one) and one.decided_by == "record_approval"]
    answered = {one.reason.get("asked_on") for one in answers}
    return asked if asked is None or asked.isoformat() not in answered else None


def overtaken_by(decisions: Iterable[Deployment], partition: date) -> Deployment | None:
    """The first decision of a later partition that put a model on trial or in charge, or None.

    A model that began its trial on this partition by now would take the place of that one.
    """
    later = (one for one in _standing(decisions) if one.partition > partition)
    return next((one for one in later if one.action in ("shadow", "promoted")), None)


def champion_judged_against(decisions: Iterable[Deployment], made: Deployment) -> Deployment | None:
    """The champion after the partition of a decision about to be recorded, but for what it will replace."""
    others = [known for known in decisions if by_hand(known) or _slot(known) != _slot(made)]
    return life_as_of(others, made.partition + timedelta(days=1)).champion


def repeated(decisions: Sequence[Deployment], made: Sequence[Deployment]) -> bool:
    """Whether decisions (of one step, for one partition) are what that step recorded there last.

    Of what is decided by hand, all decisions of the partition are looked at: a kill switch turned
    on again after a step decided something is turned on anew.
    """
    last = made[-1]
    if by_hand(last):
        there = [known for known in decisions if known.partition == last.partition]
    else:
        there = [known for known in decisions if not by_hand(known) and _slot(known) == _slot(last)]
    return [_said(known) for known in there[-len(made) :]] == [_said(one) for one in made]


def by_hand(decision: Deployment) -> bool:
    """Whether a person took the decision, or anyone else who is no step of the nightly run."""
    return decision.decided_by not in STEP_ORDER


def _said(decision: Deployment) -> tuple[str, ...]:
    who = decision.decided_by if by_hand(decision) else ""
    return decision.action, decision.role, decision.model_version, who


def _slot(decision: Deployment) -> tuple[date, int]:
    """The place of a decision among those of all steps; of one place the last row counts."""
    return decision.partition, STEP_ORDER.get(decision.decided_by, len(STEP_ORDER))


def _standing(decisions: Iterable[Deployment]) -> list[Deployment]:
    """The decisions that count, in the order they take effect."""
    kept: dict[tuple[date, int, int], Deployment] = {}
    for position, decision in enumerate(decisions):
        kept[(*_slot(decision), position if by_hand(decision) else 0)] = decision
    return [kept[key] for key in sorted(kept)]


def _after(life: Life, decision: Deployment) -> Life:
    version = decision.model_version
    trial = life.trial
    if version in life.retired and decision.action in ("shadow", "canary", "promoted", "rolled_back"):
        return life
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
        case "confirmed" if trial is not None and trial.stage == "standby" and _version(life.champion) == version:
            return replace(life, trial=None)
        case "rolled_back":
            former = tuple(f for f in life.former if f.model_version not in (version, decision.replaces))
            return replace(life, champion=decision, trial=None, former=former)
        case "killed":
            return replace(life, killed=decision)
        case "restored":
            return replace(life, killed=None)
        case "retired":
            return _retired(life, version)
    return life


def _promoted(life: Life, decision: Deployment) -> Life:
    before = life.champion
    former = tuple(f for f in life.former if f.model_version != decision.model_version)
    if before is None or before.model_version == decision.model_version:
        # Promoted twice, by a run that was late: its predecessor goes on standing by.
        standing_by = life.trial if before is not None and life.trial and life.trial.stage == "standby" else None
        return replace(life, champion=decision, trial=standing_by, former=former)
    standby = Trial(before, "standby", decision.partition)
    return replace(life, champion=decision, trial=standby, former=(*former, before))


def _version(decision: Deployment | None) -> str | None:
    return decision.model_version if decision else None


def _retired(life: Life, version: str) -> Life:
    """Without a model. The champion's place goes to its newest predecessor; a fallback stays: somebody must answer."""
    former = tuple(f for f in life.former if f.model_version != version)
    trial = None if life.trial is not None and life.trial.deployment.model_version == version else life.trial
    champion = life.champion
    if _version(champion) == version:
        champion, former = (former[-1], former[:-1]) if former else (None, ())
        # Whatever was on trial was held against the one that is gone, or is the one that takes its place.
        trial = None
    return replace(life, champion=champion, trial=trial, former=former, retired=life.retired | {version})
