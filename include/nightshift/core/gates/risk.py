"""What the risks a use case declares demand of its models."""

from __future__ import annotations

from dataclasses import dataclass

from nightshift.declare.policies import RiskPolicy


@dataclass(frozen=True)
class Demands:
    """`score`: the highest likelihood times impact, 0 without risks. `every_gate`: no gate of a version may fail.

    `canary`: a spec publishes a share of the rows before it becomes champion. `approval`: a person must agree.
    """

    score: int
    every_gate: bool
    canary: bool
    approval: bool

    @property
    def mandatory(self) -> tuple[str, ...]:
        """Names of the gates that must not fail."""
        # They load the libraries that they judge models with.
        from nightshift.core.gates.verification import GATES

        return tuple(gate.name for gate in GATES if gate.always or self.every_gate)


def demands(policy: RiskPolicy) -> Demands:
    """What the highest of the declared risks demands."""
    score = max((risk.score for risk in policy.risks), default=0)
    return Demands(score, score >= policy.every_gate_from, score >= policy.canary_from, score >= policy.approval_from)
