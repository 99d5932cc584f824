"""What the risks a use case declares demand of its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nightshift.core.gates import ALWAYS, VERSION_GATES
from nightshift.policies import RiskPolicy


@dataclass(frozen=True)
class Demands:
    """`score`: the highest likelihood times impact, 0 without risks. `mandatory`: gates that must not fail."""

    score: int
    mandatory: tuple[str, ...]
    approval: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"score": self.score, "mandatory": list(self.mandatory), "approval": self.approval}


def demands(policy: RiskPolicy) -> Demands:
    """What the highest of the declared risks demands."""
    score = max((risk.score for risk in policy.risks), default=0)
    mandatory = VERSION_GATES if score >= policy.every_gate_from else ALWAYS
    return Demands(score, mandatory, approval=score >= policy.approval_from)
