"""What the risks a use case declares demand of its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nightshift.core.gates import ALWAYS, VERSION_GATES
from nightshift.policies import RiskPolicy


@dataclass(frozen=True)
class Demands:
    """`score`: the highest likelihood times impact, 0 without risks. `mandatory`: gates that must not fail.

    `canary`: a spec publishes a share of the rows before it becomes champion. `approval`: a person must agree.
    """

    score: int
    mandatory: tuple[str, ...]
    canary: bool
    approval: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "score": self.score,
            "mandatory": list(self.mandatory),
            "canary": self.canary,
            "approval": self.approval,
        }


def demands(policy: RiskPolicy) -> Demands:
    """What the highest of the declared risks demands."""
    score = max((risk.score for risk in policy.risks), default=0)
    mandatory = VERSION_GATES if score >= policy.every_gate_from else ALWAYS
    return Demands(score, mandatory, canary=score >= policy.canary_from, approval=score >= policy.approval_from)
