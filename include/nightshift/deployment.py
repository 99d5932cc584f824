"""Recorded decisions about specs and versions, with reasons. Plain values; stored append-only in the warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Self

from pydantic import Field

from nightshift.artifact import ArtifactRef, Value
from nightshift.declare.models import ModelSpec

VersionAction = Literal["registered", "rejected", "failed"]
SpecAction = Literal[
    "backtest_failed",
    "shadow",
    "canary",
    "awaiting_approval",
    "approved",
    "declined",
    "approval_timed_out",
    "promoted",
    "confirmed",
    "withdrawn",
    "rolled_back",
    "held",
    "killed",
    "restored",
    "retired",
    "annulled",
]
Action = Literal[VersionAction, SpecAction]
Role = Literal["champion", "challenger", "former", "fallback"]
"""Role of a spec."""
ScoringRole = Literal[Role, "frozen"]
"""Role of a version that scores. `frozen`: the first version of the champion's spec, which nothing is decided by."""
Verdict = Literal["pass", "fail", "not applicable"]

VERSION_ACTIONS = ("registered", "rejected", "failed")
"""Actions about one version; the others are about a spec, or about all of them."""


class Deployment(Value):
    """One decision. Never changed once recorded; a later decision is another row.

    It takes effect for partitions after `partition`; `nightshift.core.lifecycle.state` derives the state from all
    decisions. `reason` holds the numbers behind the decision; it must be JSON-safe. `decided_by` is a step,
    `rule:<monitoring rule>`, or `hand:<user>`.

    About a version: registered (it passed the version gates and may serve; `model` is its artifact, `role` what
    its spec was), rejected (a version gate failed), failed (the training fitted none; spec_id is empty).

    About a spec: backtest_failed, shadow (scored, not published), canary (`reason["share"]` of the rows is
    published from it), awaiting_approval, approved, declined, approval_timed_out, promoted (champion, in place of
    `replaces`), confirmed (the former champion is no longer scored), withdrawn, rolled_back (champion again,
    in place of `replaces`), held (revokes another decision of the same step for this partition),
    retired (a spec, or the one version named by `model_version`, never serves again).

    About everything: killed, restored (the fallback is primary, or no longer).

    About the decision `annuls` (its `deployment_id`): annulled (it has no effect on partitions after this one).

    `deployment_id`: the number of the row, in the order of recording; None until it is recorded.
    """

    deployment_id: int | None = None
    partition: date
    action: Action
    role: Role
    spec_id: str = ""
    spec: ModelSpec | None = None
    model_version: str = ""
    model: ArtifactRef | None = None
    replaces: str | None = None
    annuls: int | None = None
    reason: Mapping[str, Any] = Field(default_factory=dict)
    decided_by: str


class GateResult(Value):
    """The result of one gate for one model: the number observed, the bound for it and the reason in words.

    `code`: `<gate>.<rule>`, the first rule that it fails, or why it is not applicable; "" if it passes.
    """

    gate: str
    verdict: Verdict
    observed: float | None = None
    bound: float | None = None
    reason: str = ""
    code: str = ""

    @classmethod
    def evaluated(
        cls, gate: str, failed: str, reason: str, *, observed: float | None = None, bound: float | None = None
    ) -> Self:
        """A fail by the rule `failed`, or a pass if that is ""."""
        verdict: Verdict = "fail" if failed else "pass"
        code = f"{gate}.{failed}" if failed else ""
        return cls(gate=gate, verdict=verdict, observed=observed, bound=bound, reason=reason, code=code)

    @classmethod
    def not_applicable(cls, gate: str, rule: str, reason: str, **numbers: float) -> Self:
        """Neither, by `rule`; `numbers`: observed and bound, if any."""
        return cls(gate=gate, verdict="not applicable", reason=reason, code=f"{gate}.{rule}", **numbers)

    def __str__(self) -> str:
        return f"{self.code or self.gate}: {self.reason}"


def model_version(partition: date, model: ArtifactRef) -> str:
    """The name of a version in tables and reports: `<training partition>-<first 8 hex digits of its hash>`."""
    return f"{partition}-{model.sha256[:8]}"
