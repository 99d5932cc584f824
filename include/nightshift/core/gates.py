"""The gates that a version passes before it may serve: their names, which are mandatory, and what no result means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nightshift.deployment import GateResult

VERSION_GATES = (
    "runtime",
    "memory",
    "latency",
    "throughput",
    "parity_fitted",
    "parity_batch",
    "leakage",
    "stability",
    "behaviour",
    "calibration",
    "constant_rate",
    "new_rows",
    "feature_values",
    "change",
)
"""Every version is judged by these in `verify`."""

TIMED_GATES = ("memory", "latency", "throughput")
"""What they observe differs from run to run."""

ALWAYS = (
    "runtime",
    "parity_fitted",
    "parity_batch",
    "leakage",
    "constant_rate",
    "new_rows",
    "feature_values",
    "change",
)
"""Mandatory whatever the risk; the others are from `RiskPolicy.every_gate_from` on."""


def complete(results: Sequence[GateResult], verdict: Any, reason: str) -> list[GateResult]:
    """A result for each of VERSION_GATES, in that order: those given, and `verdict` with `reason` for the others."""
    known = {result.gate: result for result in results}
    return [known.get(gate) or GateResult(gate=gate, verdict=verdict, reason=reason) for gate in VERSION_GATES]


def failures(results: Sequence[GateResult], mandatory: Iterable[str]) -> list[GateResult]:
    """Why a version is rejected: each mandatory gate that failed or left no result; [] if it passes."""
    by_gate = {result.gate: result for result in results}
    no_result = {gate: GateResult(gate=gate, verdict="fail", reason="it left no result") for gate in mandatory}
    found = [by_gate.get(gate, no_result[gate]) for gate in no_result]
    return [result for result in found if result.verdict == "fail"]
