"""Which specs a partition's training fits, and what becomes of the first champion."""

from __future__ import annotations

from nightshift.core.lifecycle.state import State
from nightshift.declare.models import ModelSpec
from nightshift.documents import ScoringRole
from nightshift.errors import ConfigurationError
from nightshift.usecase import UseCase


def specs_to_fit(state: State, use_case: UseCase) -> list[tuple[ModelSpec, ScoringRole]]:
    """Each spec that a state has in service or scored, with its role; the declared champion while there is none.

    The declared fallback always: a fallback declared earlier is no longer fitted. Raises ConfigurationError for a
    spec in service that neither the decisions nor the use case declares.
    """
    declared = use_case.fallback.spec_id
    wanted: dict[str, ScoringRole] = {
        spec_id: role for spec_id, role in state.trained.items() if role != "fallback" or spec_id == declared
    }
    if state.champion is None:
        wanted.setdefault(use_case.champion.spec_id, "champion")
    wanted.setdefault(declared, "fallback")
    known = {**use_case.specs, **state.specs}
    if unknown := [spec_id for spec_id in wanted if spec_id not in known]:
        raise ConfigurationError(
            f"{use_case.name}: deployments puts {unknown} in service, but no row says what they declare; retire them."
        )
    return [(known[spec_id], role) for spec_id, role in wanted.items() if spec_id not in state.retired]
