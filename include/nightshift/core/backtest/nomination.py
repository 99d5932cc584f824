"""The gates that a spec's backtest has to pass before shadow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from nightshift.declare.policies import PromotionPolicy, SlicePolicy
from nightshift.deployment import GateResult
from nightshift.documents.backtest import BacktestResult, BacktestSeries

NAMED = 5


def backtest_gates(
    result: BacktestResult, spec_id: str, policy: PromotionPolicy, slices: SlicePolicy
) -> list[GateResult]:
    """Results of the gates on a spec's backtest: enough recent partitions, loss, calibration, slices.

    See PromotionPolicy. Raises ArtifactCorrupt if the backtest has no series of the spec or of the champion.
    """
    spec, champion = result.one(spec_id), result.one(result.champion)
    return [
        _recent_partitions(result, spec, policy),
        *(_no_worse(spec, name, policy.margin_log_loss) for name in ("champion", "fallback")),
        _calibration(spec, champion, policy.margin_calibration),
        _slices(spec, slices),
    ]


def passed(gates: Sequence[GateResult]) -> bool:
    """Whether no gate failed."""
    return all(gate.verdict != "fail" for gate in gates)


def drawn_partition(partitions: Sequence[date], seed: str) -> date:
    """One of the partitions, selected by the hash of `seed`: the same for the same arguments."""
    return sorted(partitions)[int(hashlib.sha256(seed.encode()).hexdigest(), 16) % len(partitions)]


def scrambled(later: pa.Table, known: pa.Table, kept: Sequence[str], seed: int) -> pa.Table:
    """`later` with every column but `kept` replaced by values drawn from that column of `known`, independently.

    Values of any type are plausible and wrong: dates are in the past, keys are those of other rows.
    If `known` has no rows, none are returned.
    """
    random = np.random.default_rng(seed)
    if not known.num_rows:
        return later.slice(0, 0)
    for position, name in enumerate(later.column_names):
        if name not in kept:
            drawn = pa.array(random.integers(0, known.num_rows, later.num_rows))
            later = later.set_column(position, later.schema.field(name), known[name].combine_chunks().take(drawn))
    return later


def _recent_partitions(result: BacktestResult, spec: BacktestSeries, policy: PromotionPolicy) -> GateResult:
    # Some partitions have no rows, and the labels of the newest are not known yet.
    oldest = result.partition - timedelta(days=2 * policy.backtest_partitions)
    recent = spec.partitions if result.first >= oldest else max(0, (result.last - oldest).days + 1)
    recent, bound = min(recent, spec.partitions), policy.backtest_partitions
    reason = (
        f"the backtest from {result.first} to {result.last} has {recent} partitions with rows from {oldest} on; "
        f"at least {bound} are needed"
    )
    rule = "" if recent >= bound else "few"
    return GateResult.evaluated("backtest_partitions", rule, reason, observed=recent, bound=bound)


def _no_worse(spec: BacktestSeries, other: str, margin: float) -> GateResult:
    gate, paired = f"no_worse_than_{other}", spec.differences[other]
    if paired.high is None:
        reason = "there are too few partitions for an interval of the difference; run a longer backtest"
        return GateResult.evaluated(gate, "no_interval", reason, observed=paired.mean, bound=margin)
    reason = (
        f"log loss differs from the {other}'s by {paired.mean:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}]; "
        f"the upper bound may be at most {margin:g}"
    )
    rule = "" if paired.high <= margin else "margin"
    return GateResult.evaluated(gate, rule, reason, observed=paired.high, bound=margin)


def _calibration(spec: BacktestSeries, champion: BacktestSeries, margin: float) -> GateResult:
    gap, champions = abs(spec.worst_calibration_gap), abs(champion.worst_calibration_gap)
    bound = champions + margin
    reason = (
        f"the mean score is off the share of positives by {gap:.4f} in the worst month, the champion's by "
        f"{champions:.4f}; the margin is {margin:g}"
    )
    rule = "" if gap <= bound else "gap"
    return GateResult.evaluated("calibration_relative_to_champion", rule, reason, observed=gap, bound=bound)


def _slices(spec: BacktestSeries, policy: SlicePolicy) -> GateResult:
    gate, margin = "slices_no_worse_than_champion", policy.margin_log_loss
    low = {f"{one.column} {one.value}": one.difference.low for one in spec.slices if one.difference is not None}
    lower_bounds = {name: bound for name, bound in low.items() if bound is not None}
    if not lower_bounds:
        reason = f"no slice has {policy.least_rows} rows over enough days" if spec.slices else "no slices are declared"
        return GateResult.not_applicable(gate, "few_rows" if spec.slices else "none_declared", reason, bound=margin)
    worst = sorted(lower_bounds, key=lambda name: -lower_bounds[name])
    worse = [f"{name} (by at least {lower_bounds[name]:.4f})" for name in worst if lower_bounds[name] > margin]
    more = f" and {len(worse) - NAMED} more" if len(worse) > NAMED else ""
    shown = f"{', '.join(worse[:NAMED])}{more} fall behind" if worse else f"none falls behind, nearest is {worst[0]}"
    reason = (
        f"of {len(lower_bounds)} slices {shown}: lower bounds of the difference in log loss from the champion, "
        f"together at {policy.confidence:.0%}, may be at most {margin:g}"
    )
    rule = "margin" if worse else ""
    return GateResult.evaluated(gate, rule, reason, observed=lower_bounds[worst[0]], bound=margin)
