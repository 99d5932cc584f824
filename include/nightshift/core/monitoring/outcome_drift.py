"""Drift of outcomes: of the share of positive labels, and of the relation of labels to scores (concept drift).

Put here: sequential statistics of days whose labels are known. Keep out: columns of feeds, features and scores (drift).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from nightshift.core.arrays import Floats
from nightshift.core.monitoring.drift import compare
from nightshift.declare.policies import DriftPolicy
from nightshift.documents.check_drift import ColumnDrift, Statistic

SOURCE = "outcomes"
EVERYTHING = ""
"""Name of the slice with all rows."""


@dataclass(frozen=True)
class SliceDay:
    """The rows of a slice with known labels that one partition predicted.

    `residual`: share of positive labels minus mean score. `excess_loss`: log loss minus the loss that the scores
    promise, the mean of their entropies. `auc`: None if all labels are alike.
    """

    partition: date
    rows: int
    label_rate: float
    residual: float
    excess_loss: float
    auc: float | None


def label_drift(days: Sequence[SliceDay], label: str, policy: DriftPolicy) -> list[ColumnDrift]:
    """The share of positive labels in each window of the policy, compared with earlier windows of the same length.

    `days`: those with known labels, ascending. The one with the largest excess; none with too few days.
    """
    rows = np.array([one.rows for one in days], np.float64)
    positive = rows * np.array([one.label_rate for one in days])
    judged = []
    for window in policy.windows:
        own = slice(-policy.outside_reference(window) - policy.reference_days, None)
        reference = len(days[own]) - policy.outside_reference(window)
        if reference < max(policy.least_reference_days, 4 * window):
            continue
        ones = np.ones(window)
        rates = np.convolve(positive[own], ones, "valid") / np.convolve(rows[own], ones, "valid")
        earlier = rates[: reference - window + 1]
        judged.append(compare(SOURCE, label, "rate", window, float(rates[-1]), earlier, policy))
    return sorted(judged, key=lambda one: -abs(one.excess))[:1]


def concept_drift(slices: Mapping[str, Sequence[SliceDay]], policy: DriftPolicy) -> list[ColumnDrift]:
    """Cumulative sums of residuals and of excess losses, overall and by slice, and overall of AUC that is lost.

    A day's weather moves its loss by more than the order of its rows does; the AUC of a day does not depend on its
    level, and falls when scores no longer tell its rows apart. That of a slice also moves with the season.

    `slices`: by `name=value`, and EVERYTHING; days with known labels, ascending. The last `cusum_days` of a slice are
    summed (Page 1954, "Continuous inspection schemes"): S = max(0, S + z - cusum_slack), z being the day's value
    standardised by mean and standard deviation of the days before these, at most `cusum_clip`. S drifts beyond
    `cusum_bound`; of residuals also in the other direction. Slices with less than `least_reference_days` before are
    not judged.
    """
    result = []
    for name, days in sorted(slices.items()):
        series = {
            "residual": np.array([one.residual for one in days], np.float64),
            "loss": np.array([one.excess_loss for one in days], np.float64),
        }
        if name == EVERYTHING:
            series["ranking"] = np.array([-one.auc for one in days if one.auc is not None], np.float64)
        judged = [one for statistic, values in series.items() for one in _cusum(name, statistic, values, policy)]  # type: ignore[arg-type]
        result += sorted(judged, key=lambda one: -abs(one.excess))[:1]
    return result


def _cusum(name: str, statistic: Statistic, values: Floats, policy: DriftPolicy) -> list[ColumnDrift]:
    reference = values[-policy.cusum_days - policy.reference_days : -policy.cusum_days]
    if len(reference) < policy.least_reference_days or not (deviation := float(reference.std(ddof=1))):
        return []
    z = np.clip((values[-policy.cusum_days :] - reference.mean()) / deviation, -policy.cusum_clip, policy.cusum_clip)
    up = down = 0.0
    for one in z.tolist():
        up, down = max(0.0, up + one - policy.cusum_slack), max(0.0, down - one - policy.cusum_slack)
    bound = policy.cusum_bound
    value = -down if statistic == "residual" and down > up else up
    low = -bound if statistic == "residual" else 0.0
    return [
        ColumnDrift(
            source=SOURCE,
            column=name,
            statistic=statistic,
            days=policy.cusum_days,
            value=value,
            low=low,
            high=bound,
            excess=value / bound,
        )
    ]
