"""Gates that compare a version with the one of the same spec that it replaces, and the newest day's rows with earlier.

A version differs from the one before by one day of rows. Scores that change more than between ordinary partitions,
labels that the earlier version ranks in reverse, and feature values unlike those of every day before point to a fault
of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats, Labels, evenly
from nightshift.core.evaluation import area_under_curve, log_odds
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.features.training_rows import KNOWN_ON
from nightshift.declare.policies import ChangePolicy
from nightshift.deployment import GateResult

NAMED = 5


@dataclass(frozen=True)
class ReferenceRows:
    """`newest`: rows whose labels one partition delivered. `earlier`: rows of earlier days, known before."""

    earlier: pa.Table
    newest: pa.Table

    def scored(self, most: int) -> pa.Table:
        """At most `most` of the earlier rows, evenly spread, and all of the newest."""
        chosen = evenly(self.earlier.num_rows, most)
        return pa.concat_tables([self.earlier.take(pa.array(chosen)), self.newest])


def reference_rows(rows: pa.Table, partition: date, policy: ChangePolicy) -> ReferenceRows:
    """The training rows to compare versions of `partition` on; `rows` has the columns `partition` and `known_on`."""
    first = pa.scalar(partition - timedelta(days=policy.reference_days), pa.date32())
    newest = pc.equal(rows[KNOWN_ON], pa.scalar(partition, pa.date32()))
    recent = pc.and_(pc.invert(newest), pc.greater_equal(rows[PARTITION], first))
    return ReferenceRows(rows.filter(recent), rows.filter(newest))


def check_change(new: Floats, replaced: Floats, replaced_version: str, policy: ChangePolicy) -> GateResult:
    """Whether the scores [n] of the reference rows changed within the bounds.

    `observed` is the mean shift of the log odds, or their spread (root mean square difference without the shift)
    if that is nearer to, or further beyond, its bound.
    """
    change = log_odds(new) - log_odds(replaced)
    shift, spread = float(change.mean()), float(change.std())
    over_shift, over_spread = abs(shift) / policy.largest_shift, spread / policy.largest_spread
    good = over_shift <= 1 and over_spread <= 1
    shifted = over_shift > over_spread
    observed, bound = (shift, policy.largest_shift) if shifted else (spread, policy.largest_spread)
    reason = (
        f"against {replaced_version}, the log odds of {len(change)} rows moved by {shift:+.3f} on average (bound "
        f"{policy.largest_shift:g}) and spread by {spread:.3f} (bound {policy.largest_spread:g})"
    )
    if not good:
        reason += ": look for features or labels that changed since, also in older rows"
    rule = "" if good else "shift" if shifted else "spread"
    return GateResult.evaluated("change", rule, reason, observed=observed, bound=bound)


def check_new_rows(replaced: Floats, labels: Labels, replaced_version: str, policy: ChangePolicy) -> GateResult:
    """Whether the AUC of the replaced version's scores [n] on the newest day's labels [n] is at least the policy's.

    With few labels the bound is lower: the 5 % quantile of the AUC of random scores, by the standard
    deviation of the Mann-Whitney statistic under the null hypothesis.
    """
    gate, positives = "new_rows", int(labels.sum())
    few = min(positives, len(labels) - positives)
    if few < max(policy.least_day_rows, 1):
        reason = f"the newest day has {positives} positive of {len(labels)} labels; {policy.least_day_rows} of each "
        reason += "class are needed to evaluate them"
        return GateResult.not_applicable(gate, "few_labels", reason)
    auc = area_under_curve(labels, replaced)
    by_chance = np.sqrt((len(labels) + 1) / (12 * positives * (len(labels) - positives)))
    bound = float(min(policy.least_day_auc, 0.5 - 1.645 * by_chance))
    good = auc >= bound
    reason = f"{replaced_version} ranks the {len(labels)} labels of the newest day with an AUC of {auc:.3f}"
    if not good:
        reason += ": labels that were flipped rank backwards; look at the newest delivery"
    return GateResult.evaluated(gate, "" if good else "auc", reason, observed=auc, bound=bound)


def check_feature_values(reference: ReferenceRows, numeric: Sequence[str], policy: ChangePolicy) -> GateResult:
    """Whether each numeric feature's values of the newest partition are like those of the partitions before.

    A feature fails if it is 0 or missing in all rows and was not on any day before, or if it lies outside the range of
    the rows before on many rows. A feature that differs between rows also fails if it is constant all day and was not
    before; if its spread fell; or if its mean left the range of the daily means by more than `largest_jump` times that
    range and more than half a standard deviation within a day. A value that many rows share (such as the weather) is
    one observation a day, for which a constant or calm day is normal. `observed`: the number of features that fail.
    """
    gate = "feature_values"
    newest = _newest_partition(reference.newest)
    days = reference.earlier[PARTITION].to_numpy()
    days_before = len(np.unique(days))
    if newest.num_rows < policy.least_day_rows or days_before < policy.least_reference_days:
        counts = f"{newest.num_rows} rows of the newest partition and {days_before} partitions before it"
        return GateResult.not_applicable(gate, "few_rows", f"{counts} are too few to evaluate")
    failures = {}
    for name in numeric:
        before, now = (_floats(table, name) for table in (reference.earlier, newest))
        if fault := _unlike(_by_day(before, days), before, now, policy):
            failures[name] = fault
    rule, reason = "", f"{len(numeric)} numeric features are like those of the {days_before} partitions before"
    if failures:
        shown = "; ".join(f"{name}: {why}" for name, (_, why) in list(failures.items())[:NAMED])
        rule = next(rule for rule, _ in failures.values())
        reason = f"{shown}. Look at the delivery and the SQL that computes it"
    return GateResult.evaluated(gate, rule, reason, observed=float(len(failures)), bound=0.0)


@dataclass(frozen=True)
class _Days:
    """Per day: mean and standard deviation of the values present (NaN without any), whether all rows are equal, and
    whether all are 0 or missing; and the median over days of the number of distinct values."""

    mean: Floats
    deviation: Floats
    constant: npt.NDArray[np.bool_]
    empty: npt.NDArray[np.bool_]
    distinct: float


def _by_day(values: Floats, days: npt.NDArray[Any]) -> _Days:
    _, codes = np.unique(days, return_inverse=True)
    present = ~np.isnan(values)
    rows, values_or_0 = np.bincount(codes), np.where(present, values, 0.0)
    counted = np.bincount(codes, weights=present)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(codes, weights=values_or_0) / counted
        squares = np.where(present, (values - mean[codes]) ** 2, 0.0)
        deviation = np.sqrt(np.bincount(codes, weights=squares) / counted)
    constant = (counted == 0) | ((counted == rows) & (deviation <= 1e-9 * (np.abs(mean) + 1)))
    empty = np.bincount(codes, weights=present & (values != 0)) == 0
    pairs = np.unique(np.stack([codes[present], values[present]]), axis=1)[0].astype(np.int64)
    distinct = float(np.median(np.bincount(pairs, minlength=len(rows))))
    return _Days(mean, deviation, constant, empty, distinct)


def _unlike(days: _Days, before: Floats, now: Floats, policy: ChangePolicy) -> tuple[str, str] | None:
    """The rule that the newest values break, and how they differ from those of the days before; None if none."""
    today = _by_day(now, np.zeros(len(now)))
    if today.empty[0] and not days.empty.any():
        return "empty", f"it is 0 or missing in all {len(now)} rows, as on no day before"
    shared = days.distinct < policy.least_distinct
    if not shared and today.constant[0] and not days.constant.any():
        return "constant", f"it is {now[0]:g} in all {len(now)} rows, and differed between rows on every day before"
    has_values = ~np.isnan(days.mean)
    now = now[~np.isnan(now)]
    if not has_values.any() or len(now) == 0:
        return None
    low, high = float(np.nanmin(before)), float(np.nanmax(before))
    margin = (policy.shared_margin if shared else policy.outside_margin) * (high - low)
    outside = float(((now < low - margin) | (now > high + margin)).mean())
    if high > low and outside > policy.largest_outside_share:
        return "range", f"{outside:.0%} of its values lie far outside [{low:g}, {high:g}], the range of the rows before"
    if shared:
        return None
    mean, deviation = float(today.mean[0]), float(today.deviation[0])
    least = float(days.deviation[has_values].min())
    if deviation * policy.largest_fall_of_spread < least:
        return "spread", f"its standard deviation within a day fell to {deviation:g}; it was at least {least:g} before"
    lowest, highest = float(days.mean[has_values].min()), float(days.mean[has_values].max())
    jump = max(lowest - mean, mean - highest)
    if (
        jump > max(policy.largest_jump * (highest - lowest), 0.5 * float(np.median(days.deviation[has_values])))
        and highest > lowest
    ):
        return "mean", f"its mean is {mean:g}; on the days before it was {lowest:g} to {highest:g}"
    return None


def _newest_partition(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows[PARTITION], pc.max(rows[PARTITION]))) if rows.num_rows else rows


def _floats(table: pa.Table, name: str) -> Floats:
    values = np.asarray(pc.cast(table[name], pa.float64()).to_numpy(), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)
