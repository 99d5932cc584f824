"""Audit of a partition's scores before they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.declare.policies import AuditPolicy

EXAMPLES = 5
PROBABILITY_CHECKS = ("no score is missing", "scores are in [0, 1]")
"""Names of the checks that a shadow's scores have to pass, too: they are stored, but not published."""


@dataclass(frozen=True)
class AuditCheck:
    """One check of one partition's scores: the observed value, its bound, and examples of rows that violate it."""

    name: str
    passed: bool
    observed: float | None
    bound: str
    examples: tuple[str, ...] = ()


def audit_scores(
    scores: pa.Table, *, key: Sequence[str], score: str, scheduled_rows: int, policy: AuditPolicy
) -> list[AuditCheck]:
    """Check one partition's scores.

    `scores` has the key columns and the score (float64); `scheduled_rows` is the expected number of
    rows, counted from the input and not from the scores. All checks are run, whichever fail.
    """
    values = np.asarray(scores[score], dtype=np.float64)
    rows = len(values)
    present = values[~np.isnan(values)]
    keys = scores.select(list(key))
    repeated = keys.append_column("n", pa.array(np.ones(rows, np.int64))).group_by(list(key)).aggregate([("n", "sum")])
    repeated = repeated.filter(pc.greater(repeated["n_sum"], 1))
    missing, outside = np.isnan(values), (values < 0) | (values > 1)
    mean = float(present.mean()) if len(present) else None
    share = len(np.unique(present)) / rows if rows else 0.0
    low, high = policy.mean_score_between
    return [
        AuditCheck("rows equal the schedule's", rows == scheduled_rows, rows, f"= {scheduled_rows}"),
        AuditCheck("there are rows", rows > 0, rows, "> 0"),
        AuditCheck(
            "keys are unique", not repeated.num_rows, repeated.num_rows, "= 0 repeated", _examples(repeated, key)
        ),
        AuditCheck(PROBABILITY_CHECKS[0], not missing.any(), int(missing.sum()), "= 0", _examples(keys, key, missing)),
        AuditCheck(PROBABILITY_CHECKS[1], not outside.any(), int(outside.sum()), "= 0", _examples(keys, key, outside)),
        AuditCheck("mean score is plausible", mean is not None and low <= mean <= high, mean, f"{low} to {high}"),
        AuditCheck("scores differ", share >= policy.least_distinct_share, share, f">= {policy.least_distinct_share}"),
    ]


def _examples(rows: pa.Table, key: Sequence[str], chosen: npt.NDArray[np.bool_] | None = None) -> tuple[str, ...]:
    if chosen is not None:
        rows = rows.filter(pa.array(chosen))
    return tuple("|".join(str(row[name]) for name in key) for row in rows.slice(0, EXAMPLES).to_pylist())
