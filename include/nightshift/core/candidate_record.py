"""What is known of one candidate of a training: the same for each, so that they can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightshift.core.candidates import RECIPES


@dataclass(frozen=True)
class CandidateRecord:
    """Quality on the holdout rows, costs, and what stands against a candidate.

    `source` is what it was made from ("" for an estimator, "estimators" for a student), `techniques` how.
    `log_loss` in nats; `worst_slice` as `column=value` ("" where none could be judged); `disagreement` is the
    mean |p - p of the teacher|; `rows_per_second` of one core in batches. Where `not_applicable` has a
    reason, there is no model and all numbers are NaN. `refused` are the refusals of mandatory gates.
    """

    name: str
    source: str = ""
    techniques: tuple[str, ...] = ()
    not_applicable: str = ""
    auc: float = float("nan")
    log_loss: float = float("nan")
    brier: float = float("nan")
    calibration_error: float = float("nan")
    worst_slice: str = ""
    worst_slice_log_loss: float = float("nan")
    disagreement: float = float("nan")
    bytes: float = float("nan")
    rows_per_second: float = float("nan")
    single_row_p50_ms: float = float("nan")
    single_row_p99_ms: float = float("nan")
    peak_memory_mb: float = float("nan")
    refused: tuple[str, ...] = ()

    @property
    def eligible(self) -> bool:
        """Whether there is such a model and no gate refused it."""
        return not self.not_applicable and not self.refused

    @classmethod
    def from_verification(cls, verification: Mapping[str, Any], metrics: Mapping[str, Any]) -> CandidateRecord:
        """From what `verify` committed: verification.json, and its manifest's metrics (for what a clock measured).

        Numbers that are not there stay NaN. Refusals depend on the use case's risk and are the caller's.
        """
        name = str(verification["candidate"])
        recipe = RECIPES.get(name)
        source = recipe.source if recipe else "estimators" if name.startswith("distilled_") else ""
        techniques = recipe.techniques if recipe else (name,) if source else ()
        if reason := verification.get("not_applicable"):
            return cls(name, source, techniques, not_applicable=str(reason))
        holdout = verification["holdout"]
        worst = verification.get("worst_slice")
        disagreement = verification.get("disagreement") or {}

        def cost(what: str) -> float:
            value = metrics.get(what)
            return float("nan") if value is None else float(value)

        return cls(
            name,
            source,
            techniques,
            auc=float(holdout["auc"]),
            log_loss=float(holdout["log_loss"]),
            brier=float(holdout["brier"]),
            calibration_error=float(holdout["calibration_error"]),
            worst_slice=f"{worst['column']}={worst['value']}" if worst else "",
            worst_slice_log_loss=float(worst["log_loss"]) if worst else float("nan"),
            disagreement=float(disagreement.get("mean", "nan")),
            bytes=float(verification["bytes"]),
            rows_per_second=cost("rows_per_second"),
            single_row_p50_ms=cost("single_row_p50_ms"),
            single_row_p99_ms=cost("single_row_p99_ms"),
            peak_memory_mb=cost("peak_memory_mb"),
        )
