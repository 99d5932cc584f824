"""Training rows as of a partition, and their split into training and holdout rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.features.feature_computation import PARTITION
from nightshift.errors import TerminalError

SPLIT = "split"
KNOWN_ON = "known_on"
"""Column of training rows: the partition (date32) whose deliveries made the label known."""


def newest_rows(rows: pa.Table, key: Sequence[str], as_of: date) -> pa.Table:
    """For each prediction key, the newest of the rows known by partition `as_of`; sorted by partition, then key."""
    ordered, repeats = with_label_order(rows.filter(pc.less_equal(rows[KNOWN_ON], pa.scalar(as_of, pa.date32()))), key)
    return ordered.filter(pa.array(~repeats))


def with_label_order(rows: pa.Table, key: Sequence[str]) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """The rows sorted by partition, key and newest label first; and whether each row repeats the key before it [n]."""
    order = [(PARTITION, "ascending"), *((name, "ascending") for name in key), (KNOWN_ON, "descending")]
    ordered = rows.sort_by(order).combine_chunks()
    repeats = np.zeros(ordered.num_rows, dtype=np.bool_)
    if ordered.num_rows > 1:
        same = [pc.equal(ordered[name].slice(1), ordered[name].slice(0, ordered.num_rows - 1)) for name in key]
        repeats[1:] = np.logical_and.reduce([column.to_numpy() for column in same])
    return ordered, repeats


def without_withdrawn(rows: pa.Table, key: Sequence[str], label: str) -> pa.Table:
    """The rows without those of prediction keys whose newest label is null, which withdraws it, and without nulls."""
    if not rows[label].null_count:
        return rows
    ordered, repeats = with_label_order(rows, key)
    null = pc.is_null(ordered[label]).to_numpy()
    withdrawn = null[~repeats][np.cumsum(~repeats) - 1]
    return ordered.filter(pa.array(~(withdrawn | null)))


def with_split(rows: pa.Table, *, holdout_days: int, minimum_days: int) -> pa.Table:
    """The rows with `split` (string): 'holdout' for the newest `holdout_days` partitions, 'train' for the rest.

    Raises TerminalError with fewer than `minimum_days` partitions, or none left to train on.
    """
    days: Sequence[date] = sorted(rows[PARTITION].unique().to_pylist())
    needed = max(minimum_days, holdout_days + 1)
    if len(days) < needed:
        span = f" ({days[0]} to {days[-1]})" if days else ""
        raise TerminalError(
            "NS-TRAIN-001",
            f"There are {len(days)} days with features and labels{span}; a training set takes at least {needed}. "
            f"Load more history with backfill_history, or wait.",
        )
    held_out = pc.is_in(rows[PARTITION], value_set=pa.array(days[len(days) - holdout_days :], pa.date32()))
    return rows.append_column(SPLIT, pc.if_else(held_out, "holdout", "train"))
