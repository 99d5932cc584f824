"""What was decided about models, and why. Plain values; the warehouse keeps them (append-only)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nightshift.artifact import ArtifactRef

Action = Literal["promoted", "rejected", "failed", "bootstrap"]
Role = Literal["champion", "fallback"]
Verdict = Literal["pass", "fail", "not applicable"]


class Deployment(BaseModel):
    """One decision about one model. Never changed once recorded; a later decision is another row.

    `partition` is the training partition that decided it. A `promoted` champion serves every
    later partition until the next one is promoted. `bootstrap` puts the fallback in place, from
    its own partition on. `failed` says that the training ended without a model (`model` is None).
    `reason` holds the numbers that decided; it must be JSON-safe.
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
