"""Decisions about models, short to write: partitions are numbers, versions are named by spec and partition."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.state import state_as_of
from nightshift.deployment import Deployment

STEPS = {"registered": "register", "rejected": "register", "failed": "record_failure"}
STEPS |= {"shadow": "nominate", "backtest_failed": "nominate"}
STEPS |= dict.fromkeys(("killed", "restored", "retired"), "hand:ann")
STEPS |= dict.fromkeys(("approved", "declined"), "record_approval")
CHAMPION = ("promoted", "rolled_back", "confirmed", "killed", "restored")


def day(number: int) -> date:
    return date(2013, 5, 1) + timedelta(days=number - 1)


def decide(partition: int, action: str, spec_id: str = "", by: str = "", **more: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "partition": day(partition),
            "action": action,
            "role": "champion" if action in CHAMPION else "challenger",
            "spec_id": spec_id,
            "decided_by": by or STEPS.get(action, "advance"),
            **more,
        }
    )


def register(partition: int, spec_id: str, role: str = "champion", build: str = "") -> Deployment:
    """A version named <spec><partition><build>."""
    name = f"{spec_id}{partition}{build}"
    ref = ArtifactRef(uri=f"s3://bucket/{name}/", sha256=name, kind="version")
    return decide(partition, "registered", spec_id, role=role, model_version=name, model=ref)


START = [register(1, "f", "fallback"), register(1, "a"), decide(1, "promoted", "a", "register")]
CHALLENGED = [*START, register(3, "b", "challenger"), decide(3, "shadow", "b")]
WATCHED = [*CHALLENGED, decide(6, "promoted", "b", replaces="a")]


def primary(decisions: list[Deployment], *partitions: int) -> list[str | None]:
    states = [state_as_of(decisions, day(number)) for number in partitions]
    return [state.primary[1].model_version if state.primary else None for state in states]
