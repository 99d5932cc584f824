"""The type of a version gate, and of the result of scoring in a clean process. All gates: `verification.GATES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from nightshift.deployment import GateResult

Subject = TypeVar("Subject")

TOO_SLOW = "it did not answer in the time that the declared rows per second allow"


@dataclass(frozen=True)
class RuntimeResult:
    """The result of scoring in a clean process. `scores` (float64 [n]), or None with the reason in `error`;
    the error of a process that was too slow names no seconds, so that it is the same on every machine.

    `costs`: load_ms, rows_per_second, single_row_p50_ms, single_row_p99_ms, peak_memory_mb (MiB).
    """

    version: str
    scores: npt.NDArray[np.float64] | None
    costs: Mapping[str, float]
    error: str = ""
    out_of_memory: bool = False

    @property
    def too_slow(self) -> bool:
        """Whether the process was ended by the timeout."""
        return self.error == TOO_SLOW


@dataclass(frozen=True)
class Gate(Generic[Subject]):
    """A gate and the function that gives its result for a version.

    `always`: mandatory at any risk; the others are from `RiskPolicy.every_gate_from` on. `timed`: what it observes
    differs from run to run. `needs`: what it evaluates, each implying the ones before: results of clean processes,
    scores in this process, scores that are probabilities. Without them, the gate fails.
    """

    name: str
    check: Callable[[Subject], GateResult]
    always: bool = False
    timed: bool = False
    needs: Literal["runtimes", "scores", "probabilities"] = "probabilities"


def failures(results: Sequence[GateResult], mandatory: Iterable[str]) -> list[GateResult]:
    """The mandatory gates for which a version is rejected: those that failed or have no result; [] if it passes."""
    by_gate = {result.gate: result for result in results}
    mandatory_results = [
        by_gate.get(gate) or GateResult.evaluated(gate, "no_result", "it left no result") for gate in mandatory
    ]
    return [result for result in mandatory_results if result.verdict == "fail"]
