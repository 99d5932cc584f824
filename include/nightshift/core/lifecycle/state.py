"""The specs and versions that serve a partition: a fold over the recorded decisions.

Nothing here is stored: the state of any partition can be computed from the decisions at any time. A decision of
partition P takes effect for partitions after P. Of one step's decisions about one spec for one partition the last
row counts, so that a step that is run again replaces its decision; every decision by hand counts. A decision that
is annulled on partition P has no effect on partitions after P; for P and those before it counts as it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Literal

from nightshift.artifact import ArtifactRef
from nightshift.declare.models import ModelSpec
from nightshift.deployment import VERSION_ACTIONS, Deployment, Role, ScoringRole
from nightshift.errors import ConfigurationError

Stage = Literal["shadow", "canary"]

BY_HAND = "hand:"
"""Prefix of `decided_by` for decisions by a person."""

BY_RULE = "rule:"
"""Prefix of `decided_by` for decisions by a monitoring rule."""

STEP_ORDER = {"record_failure": 0, "register": 0, "nominate": 1, "advance": 2, "record_approval": 3}
"""Order of one partition's decisions by step; then those by rules, and last those by hand, in recorded order."""


@dataclass(frozen=True)
class Version:
    """A spec fitted by the training of `partition`, which passed the version gates."""

    spec_id: str
    model_version: str
    model: ArtifactRef
    partition: date


@dataclass(frozen=True)
class Challenge:
    """The challenger. `since`: the partition before its first one in this stage.

    `began`: the same for its first stage.
    `awaiting`: the partition whose review requested approval, if no answer is recorded.
    """

    spec_id: str
    stage: Stage
    since: date
    share: float = 0.0
    awaiting: date | None = None
    began: date | None = None


@dataclass(frozen=True)
class State:
    """Specs (by id) and their versions as of one partition. `former`: earlier champions, the newest last.

    `watched_since`: the champion's promotion, while the newest former champion is still scored as a shadow.
    `retired` holds spec ids and model versions. `versions`: by spec id, the newest last.
    """

    champion: str | None = None
    fallback: str | None = None
    challenge: Challenge | None = None
    former: tuple[str, ...] = ()
    watched_since: date | None = None
    killed: Deployment | None = None
    retired: frozenset[str] = frozenset()
    specs: Mapping[str, ModelSpec] = field(default_factory=dict)
    versions: Mapping[str, tuple[Version, ...]] = field(default_factory=dict)

    def version(self, spec_id: str | None) -> Version | None:
        """The newest version of a spec that is not retired, or None."""
        ready = self._ready(spec_id)
        return ready[-1] if ready else None

    @property
    def frozen(self) -> Version | None:
        """The oldest version of the champion's spec that is not retired, or None."""
        ready = self._ready(self.champion)
        return ready[0] if ready else None

    def _ready(self, spec_id: str | None) -> list[Version]:
        """The versions of a spec that are not retired, the newest last."""
        if spec_id is None or spec_id in self.retired:
            return []
        return [v for v in self.versions.get(spec_id, ()) if v.model_version not in self.retired]

    @property
    def watched(self) -> str | None:
        """The former champion that is still scored as a shadow of the champion, or None."""
        return self.former[-1] if self.former and self.watched_since else None

    @property
    def _roles(self) -> list[tuple[Role, str | None]]:
        challenger = self.challenge.spec_id if self.challenge else None
        return [
            ("champion", self.champion),
            ("challenger", challenger),
            ("former", self.watched),
            ("fallback", self.fallback),
        ]

    @property
    def primary(self) -> tuple[Role, Version] | None:
        """The version whose scores are published: the champion's, or the fallback's; None if there is neither."""
        champion = self.version(self.champion) if self.killed is None else None
        if champion is not None:
            return "champion", champion
        fallback = self.version(self.fallback)
        return None if fallback is None else ("fallback", fallback)

    @property
    def shadows(self) -> list[tuple[ScoringRole, Version]]:
        """The versions scored as shadows of the primary: challenger, watched former champion, fallback, frozen.

        While the kill switch is on only the fallback is scored.
        """
        if self.killed is not None or self.primary is None:
            return []
        versions: list[tuple[ScoringRole, Version | None]] = [
            *((role, self.version(spec_id)) for role, spec_id in self._roles[1:]),
            ("frozen", self.frozen),
        ]
        return [(role, one) for role, one in versions if one is not None and one != self.primary[1]]

    @property
    def trained(self) -> dict[str, Role]:
        """The specs to fit in each partition, with their roles; independent of the kill switch."""
        roles: dict[str, Role] = {}
        for role, spec_id in self._roles:
            if spec_id is not None and spec_id not in self.retired:
                roles.setdefault(spec_id, role)
        return roles


def state_as_of(decisions: Iterable[Deployment], partition: date) -> State:
    """The state for a partition, from decisions in the order they were recorded; those of earlier partitions count."""
    state = State()
    for decision in standing(in_force(decisions, partition)):
        if decision.partition < partition:
            state = _after(state, decision)
    return state


def in_force(decisions: Iterable[Deployment], partition: date) -> list[Deployment]:
    """The decisions without those that were annulled before a partition, in recorded order."""
    decisions = list(decisions)
    annulled = {one.annuls for one in decisions if one.annuls is not None and one.partition < partition}
    return [one for one in decisions if one.deployment_id is None or one.deployment_id not in annulled]


def state_after(decisions: Iterable[Deployment], partition: date) -> State:
    """The state for the partition after `partition`, when all of its decisions have taken effect."""
    return state_as_of(decisions, partition + timedelta(days=1))


def by_hand(decision: Deployment) -> bool:
    """Whether a person took the decision. Raises ConfigurationError if no person, rule or known step did."""
    if decision.decided_by.startswith(BY_HAND):
        return True
    if not decision.decided_by.startswith(BY_RULE) and decision.decided_by not in STEP_ORDER:
        raise ConfigurationError(
            "NS-DEPLOY-002",
            f"deployments holds a decision by {decision.decided_by!r}, which is neither {BY_HAND}<user>, "
            f"{BY_RULE}<rule> nor one of {sorted(STEP_ORDER)}: add the step to "
            "nightshift.core.lifecycle.state.STEP_ORDER.",
        )
    return False


def repeated(decisions: Sequence[Deployment], new: Sequence[Deployment]) -> bool:
    """Whether `new` (decisions of one step or person for one partition) equal the last ones recorded for it."""
    last = new[-1]
    if by_hand(last):
        recorded = [one for one in decisions if one.partition == last.partition]
        return [_content(one) for one in recorded[-len(new) :]] == [_content(one) for one in new]
    slots = {_slot(one) for one in new}
    newest = {_slot(one): _content(one) for one in decisions if not by_hand(one) and _slot(one) in slots}
    return newest == {_slot(one): _content(one) for one in new}


def standing(decisions: Iterable[Deployment]) -> list[Deployment]:
    """The decisions that count, in the order in which they take effect."""
    kept: dict[tuple[object, ...], tuple[tuple[date, int, int], Deployment]] = {}
    for position, decision in enumerate(decisions):
        hand = by_hand(decision)
        slot: tuple[object, ...] = (position,) if hand else _slot(decision)
        first = kept[slot][0][2] if slot in kept else position
        by_rule = len(STEP_ORDER)
        order = by_rule + 1 if hand else STEP_ORDER.get(decision.decided_by, by_rule)
        kept[slot] = ((decision.partition, order, first), decision)
    return [decision for _, decision in sorted(kept.values(), key=lambda item: item[0])]


def _slot(decision: Deployment) -> tuple[object, ...]:
    """The slot of a step's decision, in which the last row counts; separate for versions and specs."""
    about = "version" if decision.action in VERSION_ACTIONS else "spec"
    # A review has one outcome, whichever spec it names; the other steps decide about each spec.
    spec_id = "" if decision.decided_by == "advance" else decision.spec_id
    return decision.partition, decision.decided_by, about, spec_id


def _content(decision: Deployment) -> tuple[object, ...]:
    return (
        decision.action,
        decision.role,
        decision.spec_id,
        decision.model_version,
        decision.model.sha256 if decision.model else None,
        decision.annuls,
        decision.decided_by,
    )


def _after(state: State, decision: Deployment) -> State:
    spec_id = decision.spec_id
    if decision.spec is not None:
        state = replace(state, specs={**state.specs, spec_id: decision.spec})
    challenged = state.challenge is not None and state.challenge.spec_id == spec_id
    match decision.action:
        case "registered":
            return _registered(state, decision)
        case "shadow" if state.challenge is None and spec_id not in state.retired and spec_id != state.champion:
            return replace(state, challenge=Challenge(spec_id, "shadow", decision.partition, began=decision.partition))
        case "canary" if challenged:
            share = float(decision.reason.get("share", 0.0))
            began = state.challenge.began if state.challenge else None
            return replace(state, challenge=Challenge(spec_id, "canary", decision.partition, share, began=began))
        case "awaiting_approval" if challenged and state.challenge is not None:
            return replace(state, challenge=replace(state.challenge, awaiting=decision.partition))
        case "withdrawn" | "declined" | "approval_timed_out" if challenged:
            return replace(state, challenge=None)
        case "promoted" if spec_id not in state.retired:
            return _promoted(state, decision)
        case "confirmed":
            return replace(state, watched_since=None)
        case "rolled_back" if spec_id not in state.retired:
            former = tuple(one for one in state.former if one not in (spec_id, decision.replaces))
            return replace(state, champion=spec_id, former=former, watched_since=None, challenge=None)
        case "killed":
            return replace(state, killed=decision)
        case "restored":
            return replace(state, killed=None)
        case "retired":
            return _retired(state, decision.model_version or spec_id)
    return state


def _registered(state: State, decision: Deployment) -> State:
    if decision.model is None:
        return state
    version = Version(decision.spec_id, decision.model_version, decision.model, decision.partition)
    versions = {**state.versions, decision.spec_id: (*state.versions.get(decision.spec_id, ()), version)}
    fallback = decision.spec_id if decision.role == "fallback" else state.fallback
    return replace(state, versions=versions, fallback=fallback)


def _promoted(state: State, decision: Deployment) -> State:
    spec_id, before = decision.spec_id, state.champion
    challenge = None if state.challenge and state.challenge.spec_id == spec_id else state.challenge
    if before == spec_id:
        return replace(state, challenge=challenge)
    former = tuple(one for one in state.former if one != spec_id)
    if before is None:
        return replace(state, champion=spec_id, challenge=challenge, former=former)
    return replace(
        state,
        champion=spec_id,
        challenge=challenge,
        former=(*former, before),
        watched_since=decision.partition,
    )


def _retired(state: State, name: str) -> State:
    """The state without a spec or a version. A retired champion is replaced by the newest former champion."""
    former = tuple(one for one in state.former if one != name)
    challenge = None if state.challenge and state.challenge.spec_id == name else state.challenge
    champion, watched = state.champion, state.watched_since
    if champion == name:
        champion, former, watched = (former[-1], former[:-1], None) if former else (None, (), None)
    if not former or former[-1] != state.former[-1]:
        watched = None
    return replace(
        state,
        champion=champion,
        former=former,
        challenge=challenge,
        watched_since=watched,
        retired=state.retired | {name},
    )
