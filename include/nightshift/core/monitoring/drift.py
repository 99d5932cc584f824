"""Drift of columns: statistics of the last days compared with those of the days before.

The unit is the day. Rows of a day share its weather, say, so that a test on rows finds drift every day. A statistic of
the last w days is compared with the same statistic of every w consecutive days of the reference: `reference_days`,
which end before these and before the last `recent_days`. It has drifted if it lies outside the range of these by more
than `factor` times the width of that range, and by more than the least change that matters. All statistics are shares
from 0 to 1 (see `window_statistics`), so that one rule fits every column, whatever its unit or distribution. Ranks of
some hundred days cannot give the p-values of one in ten thousand that correcting for a thousand statistics a day needs;
that is what the factor is for, and docs/drift.md has the false alarms it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from nightshift.core.arrays import Floats, Integers
from nightshift.core.monitoring.day_summary import IDENTIFIER
from nightshift.declare.policies import DriftPolicy
from nightshift.documents.check_drift import ColumnDrift, Curve, DriftVerdict, GroupDrift, Statistic

ROWS = ""
"""Column name of the statistic that concerns all columns of a source."""

UPWARDS = frozenset({"nulls", "new", "gone", "commonest", "shape", "unseen", "outside", "repeated"})
"""Statistics of which only a rise is drift."""

LOG_ODDS = frozenset({"rows", "level", "spread", "commonest", "rate"})
"""Statistics whose ordinary range may fill much of 0 to 1: they are compared as log odds."""

LEAST_PROBABILITY = 0.01

SEVERAL = 10
"""A day with fewer different numbers may repeat the day before by chance."""


@dataclass(frozen=True)
class ColumnCounts:
    """Values of a column on consecutive days, the last one the partition that is checked.

    `counts` [day, bin]: rows per value, for numbers in ascending order of `numbers` [bin], which is None for texts.
    `nulls` [day]. `delivered` [day]: whether the column's source has data for the day.
    """

    counts: Integers
    nulls: Integers
    delivered: npt.NDArray[np.bool_]
    numbers: Floats | None = None

    def last(self, days: int) -> ColumnCounts:
        """The same of the last `days` days."""
        return ColumnCounts(self.counts[-days:], self.nulls[-days:], self.delivered[-days:], self.numbers)


def column_counts(summaries: Mapping[date, pa.Table], days: Sequence[date]) -> dict[tuple[str, str], ColumnCounts]:
    """The counts by source and column on `days` (ascending), from summaries (SUMMARY_SCHEMA) by day.

    Columns of identifiers are left out, as are those that the last day does not have.
    """
    position = {day: number for number, day in enumerate(days)}
    frames = [summaries[day].to_pandas().assign(day=position[day]) for day in days if day in summaries]
    if not frames or days[-1] not in summaries:
        return {}
    everything = pd.concat(frames)
    result = {}
    for (source, column), rows in everything.groupby(["source", "column_name"]):
        day, frequency = rows["day"].to_numpy(), rows["rows"].to_numpy()
        missing = (rows["number"].isna() & rows["text"].isna()).to_numpy()
        is_text = rows["text"].notna().any()
        if day.max() < len(days) - 1 or (is_text and (rows["text"] == IDENTIFIER).any()):
            continue
        values, code = np.unique(rows["text" if is_text else "number"].to_numpy()[~missing], return_inverse=True)
        counts = np.zeros((len(days), len(values)), np.int64)
        np.add.at(counts, (day[~missing], code), frequency[~missing])
        nulls = np.bincount(day[missing], frequency[missing], len(days)).astype(np.int64)
        delivered = np.isin(np.arange(len(days)), day)
        numbers = None if is_text else values.astype(np.float64)
        result[str(source), str(column)] = ColumnCounts(counts, nulls, delivered, numbers)
    return result


def drift_of_columns(columns: Mapping[tuple[str, str], ColumnCounts], policy: DriftPolicy) -> list[ColumnDrift]:
    """The statistic of each column, and of the rows of each source, that is furthest from drifting or beyond it.

    In the order of sources and columns. Columns without a judgement are left out: too few days of reference, or values.
    """
    result = []
    rows_of: set[str] = set()
    for (source, name), column in sorted(columns.items(), key=lambda item: item[0]):
        if source not in rows_of:
            rows_of.add(source)
            result += _largest(source, ROWS, column, policy)
        result += _largest(source, name, column, policy)
    return result


def _largest(source: str, name: str, column: ColumnCounts, policy: DriftPolicy) -> list[ColumnDrift]:
    judged = [one for days in policy.windows for one in _judgements(source, name, column, days, policy)]
    return [max(judged, key=lambda one: abs(one.excess))] if judged else []


def _judgements(source: str, name: str, column: ColumnCounts, days: int, policy: DriftPolicy) -> list[ColumnDrift]:
    """Every statistic of the last `days` days that can be judged."""
    column = column.last(policy.outside_reference(days) + policy.reference_days)
    reference = len(column.delivered) - policy.outside_reference(days)
    if column.delivered[:reference].sum() < max(policy.least_reference_days, 4 * days):
        return []
    if name == ROWS:
        statistics: dict[Statistic, Floats] = {"rows": window_rows(column, days, reference)}
    else:
        statistics = window_statistics(column, days, reference, policy.least_values)
    complete = _windows(column.delivered.astype(np.int64), days) > 0
    judged = []
    for statistic, values in statistics.items():
        earlier = values[: reference - days + 1]
        earlier = earlier[np.isfinite(earlier) & complete[: len(earlier)]]
        if len(earlier) > policy.least_reference_days - days and np.isfinite(values[-1]):
            judged.append(compare(source, name, statistic, days, float(values[-1]), earlier, policy))
    return judged


def compare(
    source: str, column: str, statistic: Statistic, days: int, value: float, earlier: Floats, policy: DriftPolicy
) -> ColumnDrift:
    """Compare a value of a statistic with those of earlier windows [n], by the rule of the policy."""
    low, high = float(earlier.min()), float(earlier.max())
    beyond = max(value - high, 0.0) if value > high or statistic in UPWARDS else min(value - low, 0.0)
    excess = beyond / policy.least_change(statistic)
    scale = _log_odds if statistic in LOG_ODDS else float
    if width := scale(high) - scale(low):
        distance = scale(value) - scale(high if beyond > 0 else low)
        excess = min(excess, distance / (policy.factor * width), key=abs)
    return ColumnDrift(
        source=source, column=column, statistic=statistic, days=days, value=value, low=low, high=high, excess=excess
    )


def curve(
    columns: Mapping[tuple[str, str], ColumnCounts], one: ColumnDrift, days: Sequence[date], policy: DriftPolicy
) -> Curve:
    """The statistic of a comparison in every window of the policy's days.

    `columns` and `days` as in `column_counts`. Windows of too few values are left out.
    """
    # The number of rows of a source is that of any of its columns.
    key = (one.source, one.column) if one.column else next(name for name in sorted(columns) if name[0] == one.source)
    column = columns[key].last(policy.outside_reference(one.days) + policy.reference_days)
    reference = len(column.delivered) - policy.outside_reference(one.days)
    if one.column:
        values = window_statistics(column, one.days, reference, policy.least_values)[one.statistic]
    else:
        values = window_rows(column, one.days, reference)
    ends = days[len(days) - len(values) :]
    known = [(day, value) for day, value in zip(ends, values.tolist(), strict=True) if np.isfinite(value)]
    return Curve(drift=one, days=tuple(day for day, _ in known), values=tuple(value for _, value in known))


def largest(columns: Sequence[ColumnDrift], most: int) -> list[ColumnDrift]:
    """The columns with the largest excess, at most `most`."""
    return sorted(columns, key=lambda one: (-abs(one.excess), one.name))[:most]


def _log_odds(share: float) -> float:
    bounded = min(max(share, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
    return float(np.log(bounded / (1 - bounded)))


def group(columns: Sequence[ColumnDrift], not_judged: str) -> GroupDrift:
    """The verdict on columns of one kind; `not_judged`: the reason if there are none."""
    ordered = tuple(largest(columns, len(columns)))
    if not ordered:
        return GroupDrift(verdict="not judged", reason=not_judged, columns=())
    drifted = [one for one in ordered if one.drifted]
    reason = f"{len(drifted)} of {len(ordered)} drifted"
    if drifted:
        reason += f": {describe(drifted[0])}"
    return GroupDrift(verdict="drifted" if drifted else "stable", reason=reason, columns=ordered)


def describe(one: ColumnDrift) -> str:
    """What moved, in a phrase."""
    if one.statistic == "skew":
        return f"{one.name}: {one.value:.3g} of the rows were scored with another value than training has"
    window = "1 day" if one.days == 1 else f"{one.days} days"
    return f"{one.name}: {one.statistic} {one.value:.3g} over {window}, {one.low:.3g} to {one.high:.3g} before"


def overall_verdict(groups: Sequence[GroupDrift]) -> DriftVerdict:
    """Drifted if any group is, stable if none is and at least one was judged, else not judged."""
    verdicts = {one.verdict for one in groups}
    for verdict in ("drifted", "stable"):
        if verdict in verdicts:
            return verdict
    return "not judged"


def window_rows(column: ColumnCounts, days: int, reference: int) -> Floats:
    """n / (n + usual n) of every window of `days` days: 0.5 is usual, 1/3 half of it, 2/3 twice as many rows.

    Usual is the median of the windows of the first `reference` days, those without a delivered day left out.
    """
    rows = _windows(column.counts.sum(axis=1) + column.nulls, days).astype(np.float64)
    earlier = slice(0, reference - days + 1)
    usual = np.median(rows[earlier][_windows(column.delivered.astype(np.int64), days)[earlier] > 0])
    return np.asarray(rows / np.maximum(rows + usual, 1))


def window_statistics(column: ColumnCounts, days: int, reference: int, least_values: int) -> dict[Statistic, Floats]:
    """Statistics of every window of `days` consecutive days [windows]; NaN for one with fewer than `least_values`.

    The reference is the first `reference` days; a window inside of it is compared with its other days.

    - nulls: share of null cells
    - new: share of texts that the reference does not have
    - gone: share of the reference's texts that do not occur
    - shape: total variation distance from the reference: the share of values that would have to differ
    - commonest: share of the value that is most frequent: 1 if a column is constant
    - unseen: share of numbers between the reference's smallest and largest that it does not have
    - outside: share of numbers beyond the reference's range by more than half of its width
    - level: probability that a number is larger than one of the reference, 0.5 without change (Mann and Whitney 1947)
    - spread: mean of |2 u - 1|, u a number's rank in the reference: 0.5 without change
    - repeated: share of days whose numbers are those of the day before, each in the same frequency, and not few
    """
    counts = _windows(column.counts, days)
    nulls = _windows(column.nulls, days)
    filled = counts.sum(axis=1)
    pool = column.counts[:reference].sum(axis=0)
    total = max(int(pool.sum()), 1)
    others = np.broadcast_to(pool, counts.shape).copy()
    others[: reference - days + 1] -= counts[: reference - days + 1]
    seen = others > 0
    values, cells = np.maximum(filled, 1), np.maximum(filled + nulls, 1)
    expected = others / np.maximum(others.sum(axis=1), 1)[:, None]
    result: dict[Statistic, Floats] = {
        "commonest": counts.max(axis=1, initial=0) / values,
        "shape": np.asarray(np.abs(counts / values[:, None] - expected).sum(axis=1) / 2),
    }
    if column.numbers is None:
        result["new"] = np.where(seen, 0, counts).sum(axis=1) / values
        result["gone"] = ((counts == 0) @ pool) / total
    else:
        between = np.maximum.accumulate(seen, axis=1) & np.maximum.accumulate(seen[:, ::-1], axis=1)[:, ::-1]
        result["unseen"] = np.where(between & ~seen, counts, 0).sum(axis=1) / values
        smallest = np.where(seen, column.numbers, np.inf).min(axis=1, initial=np.inf)
        largest = np.where(seen, column.numbers, -np.inf).max(axis=1, initial=-np.inf)
        half = (largest - smallest)[:, None] / 2
        far = (column.numbers < smallest[:, None] - half) | (column.numbers > largest[:, None] + half)
        result["outside"] = np.where(far, counts, 0).sum(axis=1) / values
        rank = (np.cumsum(pool) - pool / 2) / total
        result["level"] = counts @ rank / values
        result["spread"] = counts @ np.abs(2 * rank - 1) / values
    result = {name: np.where(filled >= least_values, found, np.nan) for name, found in result.items()}
    enough = filled + nulls >= least_values
    result["nulls"] = np.where(enough, nulls / cells, np.nan)
    if column.numbers is not None:
        same = (column.counts[1:] == column.counts[:-1]).all(axis=1) & (column.nulls[1:] == column.nulls[:-1])
        several = (column.counts[1:] > 0).sum(axis=1) >= SEVERAL
        repeated = _windows(np.concatenate([[0], same & several]).astype(np.int64), days)
        result["repeated"] = np.where(enough, repeated / days, np.nan)
    return result


def _windows(values: Integers, days: int) -> Integers:
    """Sums over every `days` consecutive days, the oldest first: [n - days + 1, ...]."""
    running = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    return np.asarray(running[days:] - running[:-days], dtype=np.int64)
