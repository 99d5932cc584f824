"""What `verify` left of each candidate, as the steps after it read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nightshift.artifact import ArtifactRef
from nightshift.core.candidate_record import CandidateRecord
from nightshift.core.gates import CANDIDATE_GATES, refusals
from nightshift.core.risk import demands
from nightshift.deployment import GateResult
from nightshift.io.artifact_store import ArtifactStore
from nightshift.policies import RiskPolicy


@dataclass(frozen=True)
class VerifiedCandidate:
    """A verified candidate: its graph's artifact (`exported`), verification.json, and the manifest's metrics."""

    name: str
    exported: ArtifactRef
    verification: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def not_applicable(self) -> str:
        """Why there is no such model, or ""."""
        return str(self.verification.get("not_applicable", ""))

    @property
    def gates(self) -> list[GateResult]:
        """What each gate said about it, those that hold a clock included."""
        return [GateResult.model_validate(result) for result in self.metrics.get("gates", [])]

    @property
    def numbers(self) -> dict[str, float]:
        """The metrics that are plain numbers."""
        return {
            name: float(value)
            for name, value in self.metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def record(self, policy: RiskPolicy) -> CandidateRecord:
        """Its line in the report of all candidates, with each refusal as `<gate>: <reason>`."""
        refused = tuple(f"{result.gate}: {result.reason}" for result in self.refusals(policy))
        return replace(CandidateRecord.from_verification(self.verification, self.metrics), refused=refused)

    def refusals(self, policy: RiskPolicy) -> list[GateResult]:
        """Why it may not be chosen: mandatory gates of `verify` that failed or left no verdict."""
        mandatory = [gate for gate in demands(policy).mandatory if gate in CANDIDATE_GATES]
        return refusals(self.gates, mandatory)


def read_verified(store: ArtifactStore, verified: Sequence[ArtifactRef]) -> dict[str, VerifiedCandidate]:
    """The candidates behind artifacts of `verify`, by name, in their order."""
    found = {}
    for ref in verified:
        manifest = store.manifest(ref)
        found[manifest.variant] = VerifiedCandidate(
            name=manifest.variant,
            exported=manifest.inputs["exported"][0],
            verification=json.loads(store.read(ref, "verification.json")),
            metrics=manifest.metrics,
        )
    return found
