"""How good scores are on parts of the rows: one slice for each value of each declared column.

Rows of one day share their weather and their jams, so they are no independent observations. Intervals
are therefore of a bootstrap over blocks of days: days are drawn with replacement, each with all its
rows (Efron and Tibshirani 1993, ch. 8.6; percentile intervals, ch. 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.evaluation import Floats, Labels, auc_or_none, row_losses
from nightshift.errors import ConfigurationError
from nightshift.policies import SlicePolicy

MISSING = "(missing)"
"""The value of the slice whose rows have none."""

LEAST_DAYS = 5
"""Fewer days than this have too few different resamples for an interval (five have 126)."""


@dataclass(frozen=True)
class _Slices:
    """The slices of one column: its values, and for each row the position of its value."""

    column: str
    values: Sequence[str]
    codes: npt.NDArray[np.int64]


def slice_metrics(
    table: pa.Table, labels: Labels, scores: Floats, policy: SlicePolicy, days: npt.ArrayLike, seed: int
) -> list[dict[str, Any]]:
    """Metrics of scores [n] against labels (0 or 1) [n] in each slice of the table's n rows.

    In order of column and value. `days` [n] is the block that each row belongs to. Each slice has:
    column, value, rows, auc (None with one class only), log_loss (nats) with log_loss_low and
    log_loss_high, the bounds of its interval at `policy.confidence`, label_rate, mean_score, and
    verdict: "judged", or "too small" with fewer than `policy.least_rows` rows or LEAST_DAYS days.
    Equal arguments give equal numbers.
    Raises ConfigurationError for a column that the table lacks.
    """
    losses = row_losses(labels, scores)
    found = []
    for part in _slices(table, policy):
        loss, rows, low, high = _intervals(losses, part, days, policy, seed)
        for position, value in enumerate(part.values):
            members = part.codes == position
            known = labels[members]
            found.append(
                {
                    "column": part.column,
                    "value": value,
                    "rows": len(known),
                    "auc": auc_or_none(known, scores[members]),
                    "log_loss": float(loss[:, position].sum() / len(known)),
                    "log_loss_low": float(low[position]),
                    "log_loss_high": float(high[position]),
                    "label_rate": float(known.mean()),
                    "mean_score": float(scores[members].mean()),
                    "verdict": "judged" if _large_enough(rows[:, position], policy) else "too small",
                }
            )
    return found


def worst_slice(slices: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Column, value and log loss of the judged slice with the highest log loss; None if none was judged."""
    judged = [one for one in slices if one["verdict"] == "judged"]
    if not judged:
        return None
    worst = max(judged, key=lambda one: one["log_loss"])
    return {name: worst[name] for name in ("column", "value", "log_loss")}


def _slices(table: pa.Table, policy: SlicePolicy) -> list[_Slices]:
    found = []
    for column in policy.columns:
        if column not in table.column_names:
            raise ConfigurationError(
                f"Slices are declared by {column!r}, but the rows have no such column, only "
                f"{table.column_names[:5]} and more. Name a feature in the use case's `slices`."
            )
        text = pc.fill_null(pc.cast(table[column], pa.string()), MISSING).to_numpy(zero_copy_only=False)
        values, codes = np.unique(text.astype(str), return_inverse=True)
        found.append(_Slices(column, values.tolist(), codes))
    return found


def _intervals(
    amounts: Floats, part: _Slices, days: npt.ArrayLike, policy: SlicePolicy, seed: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Sums of amounts [n] and numbers of rows, both [days, slices], and the bounds [slices] of each slice's mean."""
    known, day = np.unique(np.asarray(days), return_inverse=True)
    shape = (len(known), len(part.values))
    cell, cells = day * shape[1] + part.codes, shape[0] * shape[1]
    sums = np.asarray(np.bincount(cell, weights=amounts, minlength=cells), dtype=np.float64).reshape(shape)
    rows = np.asarray(np.bincount(cell, minlength=cells), dtype=np.float64).reshape(shape)
    drawn = np.random.default_rng(seed).multinomial(shape[0], np.full(shape[0], 1 / shape[0]), size=policy.resamples)
    # Not a matrix product: BLAS adds in another order on another number of cores.
    drawn_sums, drawn_rows = np.einsum("rd,ds->rs", drawn, sums), np.einsum("rd,ds->rs", drawn, rows)
    with np.errstate(invalid="ignore"):
        # A resample without any of the slice's days says nothing about it.
        means = np.where(drawn_rows > 0, drawn_sums / drawn_rows, np.nan)
    means[0] = np.where(np.isnan(means).all(axis=0), sums.sum(axis=0) / rows.sum(axis=0), means[0])
    tail = (1 - policy.confidence) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return sums, rows, low, high


def _large_enough(rows_by_day: Floats, policy: SlicePolicy) -> bool:
    return bool(rows_by_day.sum() >= policy.least_rows and (rows_by_day > 0).sum() >= LEAST_DAYS)
