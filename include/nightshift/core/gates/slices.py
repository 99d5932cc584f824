"""Metrics of scores by slice: one slice for each value of each declared column.

Rows of one day are correlated. Intervals are therefore clustered by days: see `paired_differences.clustered`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats, Labels
from nightshift.core.evaluation import quality, row_losses
from nightshift.core.paired_differences import clustered
from nightshift.declare.policies import SlicePolicy
from nightshift.documents.train import SliceQuality, WorstSlice
from nightshift.errors import ConfigurationError

MISSING = "(missing)"
"""The value of the slice of rows without a value."""

LEAST_DAYS = 5
"""A slice with rows on fewer days than this is too small to evaluate."""


def slices_of(table: pa.Table, policy: SlicePolicy) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Column, value and rows (bool [n]) of each slice, by column and value.

    Raises ConfigurationError for a column that the table lacks.
    """
    for column in policy.columns:
        if column not in table.column_names:
            raise ConfigurationError(
                "NS-GATE-003",
                f"Slices are declared by {column!r}, but the rows have no such column, only "
                f"{table.column_names[:5]} and more. Name a feature in the use case's `slices`.",
            )
        text = pc.fill_null(pc.cast(table[column], pa.string()), MISSING).to_numpy(zero_copy_only=False).astype(str)
        yield from ((column, str(value), text == value) for value in np.unique(text))


def slice_metrics(
    table: pa.Table, labels: Labels, scores: Floats, policy: SlicePolicy, days: npt.ArrayLike
) -> tuple[SliceQuality, ...]:
    """Quality of scores [n] against labels (0 or 1) [n] in each slice of the table's n rows.

    In order of column and value. `days` [n] is the day of each row. Intervals are at `policy.confidence`. A slice with
    fewer than `policy.least_rows` rows or LEAST_DAYS days is too small. Raises as `slices_of` does.
    """
    losses, (_, day) = row_losses(labels, scores), np.unique(np.asarray(days), return_inverse=True)
    metrics = []
    for column, value, members in slices_of(table, policy):
        own = quality(labels[members], scores[members])
        days_of = day[members]
        interval = clustered(losses[members], days_of, block_days=1, confidence=policy.confidence, comparisons=1)
        low, high = (interval.low, interval.high) if interval else (None, None)
        large_enough = len(days_of) >= policy.least_rows and len(np.unique(days_of)) >= LEAST_DAYS
        metrics.append(
            SliceQuality(
                column=column,
                value=value,
                rows=len(days_of),
                log_loss_low=own.log_loss if low is None else max(low, 0.0),
                log_loss_high=own.log_loss if high is None else high,
                verdict="judged" if large_enough else "too small",
                **dict(own),
            )
        )
    return tuple(metrics)


def worst_slice(slices: Sequence[SliceQuality]) -> WorstSlice | None:
    """The large enough slice with the highest log loss; None if all are too small."""
    eligible = [one for one in slices if one.verdict == "judged"]
    if not eligible:
        return None
    worst = max(eligible, key=lambda one: one.log_loss)
    return WorstSlice(column=worst.column, value=worst.value, log_loss=worst.log_loss)
