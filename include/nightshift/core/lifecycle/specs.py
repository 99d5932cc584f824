"""The specs that a partition's training fits, and the promotion of the first champion."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from nightshift.core.lifecycle.state import State, standing, state_as_of
from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment, Role
from nightshift.errors import ConfigurationError


def specs_to_fit(state: State, use_case: UseCase) -> list[tuple[ModelSpec, Role]]:
    """The specs to fit, with their roles: those that serve or are scored, and the declared champion while none serves.

    The declared fallback is always fitted, one declared earlier no longer. Raises ConfigurationError for a
    spec in service that neither the decisions nor the use case declares.
    """
    declared = use_case.fallback.spec_id
    roles: dict[str, Role] = {
        spec_id: role for spec_id, role in state.trained.items() if role != "fallback" or spec_id == declared
    }
    if state.champion is None:
        roles.setdefault(use_case.champion.spec_id, "champion")
    roles.setdefault(declared, "fallback")
    specs = {**use_case.specs, **state.specs}
    if unknown := [spec_id for spec_id in roles if spec_id not in specs]:
        raise ConfigurationError(
            "NS-DEPLOY-001",
            f"{use_case.name}: deployments has {unknown} in service, but no row holds their declaration; retire them.",
        )
    return [(specs[spec_id], role) for spec_id, role in roles.items() if spec_id not in state.retired]


def first_champion(
    decisions: Sequence[Deployment], partition: date, use_case: UseCase, registered: Collection[str], *, approval: bool
) -> Deployment | None:
    """The decision about the declared champion if it was registered and there is no champion as of the partition.

    It is promoted, or with `approval` goes into shadow first. None if there is a champion or a challenger,
    or the spec was declined or withdrawn before: then it needs a backtest like any other.
    """
    state, spec = state_as_of(decisions, partition), use_case.champion
    spec_decisions = [one for one in standing(decisions) if one.spec_id == spec.spec_id and one.partition < partition]
    was_rejected = any(one.action in ("declined", "withdrawn") for one in spec_decisions)
    if state.champion is not None or state.challenge is not None or was_rejected or spec.spec_id not in registered:
        return None
    why = "there is no champion, and its version passed every mandatory gate"
    return Deployment(
        partition=partition,
        action="shadow" if approval else "promoted",
        role="challenger" if approval else "champion",
        spec_id=spec.spec_id,
        spec=spec,
        reason={"why": why + ("; the declared risks demand that a person approves it" if approval else "")},
        decided_by="register",
    )
