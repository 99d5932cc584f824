"""What a partition's drift is computed from: the steps with summaries, and performance by slice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date

import numpy as np

from nightshift.core.monitoring.outcome_drift import EVERYTHING, SliceDay
from nightshift.declare.use_case import UseCase
from nightshift.documents.check_drift import DriftKind
from nightshift.io.warehouse.warehouse import Warehouse

SUMMARIES: Mapping[DriftKind, str] = {"data": "build_features", "prediction": "score"}
"""The step whose summaries are compared."""
PUBLISHED = "published"
MEANS = ("label_rate", "mean_score", "log_loss", "expected_log_loss")


def slice_days(warehouse: Warehouse, use_case: UseCase, first: date, last: date) -> dict[str, list[SliceDay]]:
    """Days with known labels by slice (`name=value`, or EVERYTHING), ascending, over all versions that scored them.

    Slices of a day with fewer rows than the drift policy's `least_slice_rows` are left out.
    """
    rows = warehouse.performance(first, last, PUBLISHED).to_pandas()
    rows = rows[rows["expected_log_loss"].notna()]
    result: dict[str, list[SliceDay]] = defaultdict(list)
    for (column, value, partition), of_day in rows.groupby(["slice_column", "slice_value", "partition"]):
        weights = of_day["rows"].to_numpy(np.float64)
        if column and weights.sum() < use_case.drift.least_slice_rows:
            continue
        mean = {name: float(np.average(of_day[name], weights=weights)) for name in MEANS}
        result[f"{column}={value}" if column else EVERYTHING].append(
            SliceDay(
                partition=partition,
                rows=int(weights.sum()),
                label_rate=mean["label_rate"],
                residual=mean["label_rate"] - mean["mean_score"],
                excess_loss=mean["log_loss"] - mean["expected_log_loss"],
            )
        )
    return dict(result)
