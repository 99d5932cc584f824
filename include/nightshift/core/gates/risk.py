"""Requirements that follow from a use case's declared risks."""

from __future__ import annotations

from dataclasses import dataclass

from nightshift.declare.policies import RiskPolicy


@dataclass(frozen=True)
class Demands:
    """`score`: the highest likelihood times impact, 0 without risks. `every_gate`: every version gate is mandatory.

    `canary`: a spec's scores are published for a share of the rows before it becomes champion. `attacks`: it has to
    keep the bounds on attacks before. `approval`: a person has to approve it.
    """

    score: int
    every_gate: bool
    canary: bool
    attacks: bool
    approval: bool

    @property
    def mandatory(self) -> tuple[str, ...]:
        """Names of the mandatory gates."""
        # Imported here, because it loads the libraries of all gates.
        from nightshift.core.gates.verification import GATES

        return tuple(gate.name for gate in GATES if gate.always or self.every_gate)


def demands(policy: RiskPolicy) -> Demands:
    """The requirements of the highest of the declared risks."""
    score = max((risk.score for risk in policy.risks), default=0)
    return Demands(
        score,
        every_gate=score >= policy.every_gate_from,
        canary=score >= policy.canary_from,
        attacks=score >= policy.attacks_from,
        approval=score >= policy.approval_from,
    )
