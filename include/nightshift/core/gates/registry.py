"""What a gate of versions is, and what clean processes tell gates. The gates there are: `verification.GATES`."""

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
class RuntimeAnswer:
    """What a clean process said. `answers` (float64 [n]) is None and `error` says why if it did not answer; the
    error of one that was too slow names no seconds, so that it reads the same on every machine.

    `costs`: load_ms, rows_per_second, single_row_p50_ms, single_row_p99_ms, peak_memory_mb (MiB).
    """

    version: str
    answers: npt.NDArray[np.float64] | None
    costs: Mapping[str, float]
    error: str = ""
    out_of_memory: bool = False

    @property
    def too_slow(self) -> bool:
        """Whether it was ended for want of time."""
        return self.error == TOO_SLOW


@dataclass(frozen=True)
class Gate(Generic[Subject]):
    """A gate and the function that gives its result for a version.

    `always`: it is mandatory whatever the risk; the others are from `RiskPolicy.every_gate_from` on. `timed`: what it
    observes differs from run to run. `needs`: what there must be to judge by, each implying the ones before: answers
    of clean processes, scores in this process, scores that are probabilities. Without, the gate fails.
    """

    name: str
    check: Callable[[Subject], GateResult]
    always: bool = False
    timed: bool = False
    needs: Literal["answers", "scores", "probabilities"] = "probabilities"


def failures(results: Sequence[GateResult], mandatory: Iterable[str]) -> list[GateResult]:
    """Why a version is rejected: each mandatory gate that failed or left no result; [] if it passes."""
    by_gate = {result.gate: result for result in results}
    no_result = {gate: GateResult(gate=gate, verdict="fail", reason="it left no result") for gate in mandatory}
    found = [by_gate.get(gate, no_result[gate]) for gate in no_result]
    return [result for result in found if result.verdict == "fail"]
