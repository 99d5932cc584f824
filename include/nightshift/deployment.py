"""What was decided about models, and why. Plain values; the warehouse keeps them (append-only)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nightshift.artifact import ArtifactRef

Action = Literal[
    "bootstrap",
    "failed",
    "rejected",
    "shelved",
    "held",
    "awaiting_approval",
    "approved",
    "declined",
    "approval_timed_out",
    "shadow",
    "canary",
    "promoted",
    "confirmed",
    "withdrawn",
    "rolled_back",
    "killed",
    "restored",
    "retired",
]
Role = Literal["champion", "challenger", "fallback"]
Verdict = Literal["pass", "fail", "not applicable"]


class Deployment(BaseModel):
    """One decision about one model. Never changed once recorded; a later decision is another row.

    It takes effect for partitions after `partition`; `nightshift.core.model_life` says what follows
    from all of them. `model` is None where there is no model to name (`failed`). `replaces` is the
    version that a `promoted` or `rolled_back` model takes over from. `reason` holds the numbers that
    decided; it must be JSON-safe. `decided_by` is a step, or `hand:<user>`.

    bootstrap: the fallback is in place. failed: the training made no model. rejected: gates refused
    it. shelved: it passed, but another model is on trial. held: its trial goes on as it is, whatever
    the same step said for the partition before. shadow, canary: it is on trial from the
    next partition on. promoted: it is champion. confirmed: its predecessor no longer stands by.
    withdrawn: its trial ended without promotion. rolled_back: it is champion again, in place of
    `replaces`. killed, restored: the fallback answers, or no longer. retired: it never serves again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: date
    action: Action
    role: Role
    model_version: str
    model: ArtifactRef | None = None
    replaces: str | None = None
    reason: Mapping[str, Any] = Field(default_factory=dict)
    decided_by: str


class GateResult(BaseModel):
    """What one gate said about one model: the number it observed and the bound it had to keep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    verdict: Verdict
    observed: float | None = None
    bound: float | None = None
    reason: str = ""


def model_version(partition: date, model: ArtifactRef) -> str:
    """The name of a model in tables and reports: `<training partition>-<first 8 hex digits of its hash>`."""
    return f"{partition}-{model.sha256[:8]}"
