"""Which training rows count as of a partition, and which of them are held out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.feature_computation import PARTITION
from nightshift.errors import TerminalError

SPLIT = "split"
KNOWN_ON = "known_on"
"""Column of training rows: the partition (date32) whose deliveries made the label known."""


def newest_rows(rows: pa.Table, key: Sequence[str], as_of: date) -> pa.Table:
    """Of the rows known by partition `as_of`, the one known last for each prediction key; by partition, then key."""
    known = rows.filter(pc.less_equal(rows[KNOWN_ON], pa.scalar(as_of, pa.date32())))
    order = [(PARTITION, "ascending"), *((name, "ascending") for name in key), (KNOWN_ON, "descending")]
    known = known.sort_by(order).combine_chunks()
    if known.num_rows < 2:
        return known
    same = [pc.equal(known[name].slice(1), known[name].slice(0, known.num_rows - 1)) for name in key]
    repeats = same[0]
    for column in same[1:]:
        repeats = pc.and_(repeats, column)
    keep = pa.concat_arrays([pa.array([True]), pc.invert(repeats.combine_chunks())])
    return known.filter(keep)


def with_split(rows: pa.Table, *, holdout_days: int, minimum_days: int) -> pa.Table:
    """The rows with `split` (string): 'holdout' for the newest `holdout_days` partitions, 'train' for the rest.

    Raises TerminalError with fewer than `minimum_days` partitions, or none left to train on.
    """
    days: Sequence[date] = sorted(rows[PARTITION].unique().to_pylist())
    needed = max(minimum_days, holdout_days + 1)
    if len(days) < needed:
        span = f" ({days[0]} to {days[-1]})" if days else ""
        raise TerminalError(
            f"There are {len(days)} days with features and labels{span}; a training set takes at least {needed}. "
            f"Load more history with backfill_history, or wait."
        )
    held_out = pc.is_in(rows[PARTITION], value_set=pa.array(days[len(days) - holdout_days :], pa.date32()))
    return rows.append_column(SPLIT, pc.if_else(held_out, "holdout", "train"))
