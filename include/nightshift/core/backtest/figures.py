"""Metrics of a backtest: losses by partition, by month and by slice, and paired differences between walks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nightshift.core.backtest.walk import EPOCH, Walk
from nightshift.core.evaluation import auc_or_none, log_loss, quality, row_losses
from nightshift.core.gates.slices import slices_of
from nightshift.core.paired_differences import clustered, moving_blocks
from nightshift.declare.policies import SlicePolicy
from nightshift.documents.backtest import BacktestMonth, BacktestSeries, BacktestSlice, PairedDifference

LOSSES_SCHEMA = pa.schema(
    [
        ("spec_id", pa.string()),
        ("baseline", pa.string()),
        ("partition", pa.date32()),
        ("prediction_date", pa.date32()),
        ("trained_on", pa.date32()),
        ("rows", pa.int64()),
        ("log_loss", pa.float64()),
        ("brier", pa.float64()),
        ("auc", pa.float64()),
        ("mean_score", pa.float64()),
        ("label_rate", pa.float64()),
    ]
)


def partition_losses(walks: Sequence[Walk]) -> pa.Table:
    """One row per walk and partition with rows; see LOSSES_SCHEMA. auc is null if all labels are alike."""
    rows = []
    for walk in walks:
        for day, part in _groups(walk.partition):
            labels, scores = walk.labels[part], walk.scores[part]
            partition = EPOCH + timedelta(days=int(day))
            rows.append(
                {
                    "spec_id": walk.spec.spec_id,
                    "baseline": walk.baseline,
                    "partition": partition,
                    "prediction_date": partition + timedelta(days=1),
                    "trained_on": walk.trained_on[partition],
                    "rows": len(labels),
                    **dict(quality(labels, scores)),
                }
            )
    return pa.Table.from_pylist(rows, schema=LOSSES_SCHEMA)


def months(walk: Walk) -> tuple[BacktestMonth, ...]:
    """Metrics by calendar month of the predicted day, which is the one after the partition."""
    month = (walk.partition + 1).astype("datetime64[D]").astype("datetime64[M]")
    return tuple(
        BacktestMonth(
            month=str(name),
            rows=part.stop - part.start,
            log_loss=log_loss(walk.labels[part], walk.scores[part]),
            auc=auc_or_none(walk.labels[part], walk.scores[part]),
            calibration_gap=float((walk.scores[part] - walk.labels[part]).mean()),
        )
        for name, part in _groups(month)
    )


def difference(walk: Walk, other: Walk, *, block_days: int, confidence: float, seed: int) -> PairedDifference:
    """Log loss of a walk minus that of another over the same rows, with moving-block interval."""
    paired = row_losses(walk.labels, walk.scores) - row_losses(other.labels, other.scores)
    return moving_blocks(paired, walk.partition, block_days=block_days, confidence=confidence, seed=seed)


def slices(
    walk: Walk, champion: Walk | None, features: pa.Table, policy: SlicePolicy, *, block_days: int
) -> tuple[BacktestSlice, ...]:
    """Each value of each of the policy's columns, compared with the champion where it has `policy.least_rows` rows.

    `features`: the walk's rows, in order. The intervals are clustered by blocks of days and hold, at
    `policy.confidence`, for all compared slices at once (Bonferroni); see `paired_differences`. Raises
    ConfigurationError for a column that the features lack.
    """
    losses = row_losses(walk.labels, walk.scores)
    paired = losses - row_losses(champion.labels, champion.scores) if champion is not None else None
    parts = list(slices_of(features, policy))
    comparisons = sum(int(members.sum()) >= policy.least_rows for _, _, members in parts)

    def compared(members: npt.NDArray[np.bool_]) -> PairedDifference | None:
        if paired is None or members.sum() < policy.least_rows:
            return None
        return clustered(
            paired[members],
            walk.partition[members],
            block_days=block_days,
            confidence=policy.confidence,
            comparisons=comparisons,
        )

    return tuple(
        BacktestSlice(
            column=column,
            value=value,
            rows=int(members.sum()),
            log_loss=float(losses[members].mean()),
            difference=compared(members),
        )
        for column, value, members in parts
    )


def series(
    walk: Walk,
    role: Literal["champion", "fallback", "challenger"],
    differences: Mapping[str, PairedDifference],
    by_slice: tuple[BacktestSlice, ...] = (),
) -> BacktestSeries:
    """All metrics of one walk, as stored in backtest.json."""
    by_month = months(walk)
    overall = quality(walk.labels, walk.scores)
    return BacktestSeries(
        role=role,
        spec_id=walk.spec.spec_id,
        baseline=walk.baseline,
        spec=walk.spec,
        partitions=len(walk.trained_on),
        rows=len(walk.labels),
        log_loss=overall.log_loss,
        brier=overall.brier,
        auc=overall.auc,
        worst_calibration_gap=max((one.calibration_gap for one in by_month), key=abs),
        months=by_month,
        slices=by_slice,
        differences=differences,
        graph_difference=walk.graph_difference,
    )


def _groups(sorted_values: npt.NDArray[Any]) -> list[tuple[Any, slice]]:
    """The distinct values of a sorted array [n], each with its positions."""
    values, starts = np.unique(sorted_values, return_index=True)
    ends = [*starts[1:].tolist(), len(sorted_values)]
    return [(value, slice(start, end)) for value, start, end in zip(values, starts.tolist(), ends, strict=True)]
