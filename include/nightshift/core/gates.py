"""The gates a model passes before it may serve: their names, which are mandatory, and what a missing verdict means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nightshift.deployment import GateResult

CANDIDATE_GATES = (
    "runtime",
    "memory",
    "latency",
    "throughput",
    "parity_fitted",
    "parity_tuned",
    "parity_batch",
    "leakage",
    "stability",
    "behaviour",
    "calibration",
)
"""Each exported candidate is held to these by `verify`, by itself."""

REGISTRATION_GATES = (
    "least_auc",
    "no_worse_than_champion",
    "no_worse_than_fallback",
    "slices_no_worse_than_champion",
)
"""The chosen candidate is held to these by `register`, against the models in service."""

ALWAYS = (
    "runtime",
    "parity_fitted",
    "parity_tuned",
    "parity_batch",
    "leakage",
    "least_auc",
    "no_worse_than_champion",
    "no_worse_than_fallback",
)
"""Mandatory whatever the risk; the others are from `RiskPolicy.every_gate_from` on."""


def refusals(results: Sequence[GateResult], mandatory: Iterable[str]) -> list[GateResult]:
    """Why a model is refused: each mandatory gate that failed or left no verdict; [] if it may pass."""
    by_gate = {result.gate: result for result in results}
    refused = []
    for gate in mandatory:
        result = by_gate.get(gate)
        if result is None:
            refused.append(GateResult(gate=gate, verdict="fail", reason="it left no verdict, which is a refusal"))
        elif result.verdict == "fail":
            refused.append(result)
    return refused
