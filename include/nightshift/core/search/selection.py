"""Selection of the specs of a race for full verification, and of the chosen one.

Quality is the objective, cost the constraint: the spec with the lowest log loss is the best; specs that are not
shown to be worse contend with it, and the cheapest contender is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from nightshift.core.paired_differences import moving_blocks
from nightshift.declare.policies import CompressionBudget, PromotionPolicy
from nightshift.documents.search import ComparedSpec, Comparison, PartitionScore, Race, RacedSpec
from nightshift.errors import DataContractError

EQUALLY_FAST = 0.8
"""Measured speeds within this ratio count as equal, and the smaller model is chosen."""

SEED = 20130101


def compare(races: Sequence[Race], budget: CompressionBudget, policy: PromotionPolicy) -> Comparison:
    """Compare all specs over all origins by paired differences per partition.

    A spec contends if the lower bound of its interval of (its log loss - the best's) is at most 0 and its mean
    losses of log loss and AUC are within the budget; with too few partitions there is no interval. The chosen one is
    the cheapest contender: for the objective "bytes" the smallest, for "rows_per_second" the smallest of those nearly
    as fast as the fastest (EQUALLY_FAST); then the lower log loss. Raises DataContractError if no spec has scores at
    every origin.
    """
    races = sorted(races, key=lambda race: race.origin)
    newest = races[-1]
    scores, absent = _joined(races)
    if not scores:
        raise DataContractError("NS-SEARCH-005", f"No spec could be fitted at every origin: {absent}.")
    losses = {spec_id: {s.partition: s.log_loss for s in own} for spec_id, own in scores.items()}
    means = {spec_id: float(np.mean(list(own.values()))) for spec_id, own in losses.items()}
    best = min(means, key=lambda spec_id: (means[spec_id], spec_id))
    aucs = {spec_id: _mean_auc(own) for spec_id, own in scores.items()}
    compared: dict[str, ComparedSpec] = {}
    for raced in newest.specs:
        spec_id = raced.spec.spec_id
        if spec_id in absent:
            compared[spec_id] = ComparedSpec(spec=raced.spec, reason=f"not applicable: {absent[spec_id]}")
            continue
        days = sorted(losses[spec_id])
        differences = np.array([losses[spec_id][day] - losses[best][day] for day in days])
        paired = moving_blocks(
            differences,
            np.arange(len(days)),
            block_days=policy.block_days,
            confidence=policy.confidence,
            seed=SEED,
        )
        interval = None if paired.low is None or paired.high is None else (paired.low, paired.high)
        reason = _worse(means[spec_id] - means[best], interval, aucs[spec_id], aucs[best], budget)
        compared[spec_id] = ComparedSpec(
            spec=raced.spec,
            reason=reason,
            log_loss=means[spec_id],
            auc=aucs[spec_id],
            difference=means[spec_id] - means[best],
            interval=interval,
            bytes=raced.bytes,
            rows_per_second=raced.rows_per_second,
            contends=not reason,
        )
    return _chosen(compared, best, newest, scores[best], budget)


def _joined(races: Sequence[Race]) -> tuple[dict[str, list[PartitionScore]], dict[str, str]]:
    """Scores of all origins by spec id, and why a spec has none at some origin."""
    by_spec: dict[str, list[RacedSpec]] = {}
    for race in races:
        for raced in race.specs:
            by_spec.setdefault(raced.spec.spec_id, []).append(raced)
    missing = {
        spec_id: next((one.not_applicable for one in own if one.not_applicable), "it was not raced at every origin")
        for spec_id, own in by_spec.items()
        if len(own) < len(races) or any(one.not_applicable for one in own)
    }
    return {
        spec_id: [score for one in own for score in one.scores]
        for spec_id, own in by_spec.items()
        if spec_id not in missing
    }, missing


def _mean_auc(scores: Sequence[PartitionScore]) -> float:
    aucs = [score.auc for score in scores if score.auc is not None]
    return float(np.mean(aucs)) if aucs else 0.5


def _worse(
    difference: float, interval: tuple[float, float] | None, auc: float, best_auc: float, budget: CompressionBudget
) -> str:
    """Why a spec does not contend, or ""."""
    if interval and interval[0] > 0:
        return f"worse than the best by {difference:.4f} of log loss ({interval[0]:+.4f} to {interval[1]:+.4f})"
    if difference > budget.largest_log_loss_increase:
        return f"loses {difference:.4f} of log loss, more than the budget of {budget.largest_log_loss_increase:g}"
    if best_auc - auc > budget.largest_auc_loss:
        return f"loses {best_auc - auc:.4f} of AUC, more than the budget of {budget.largest_auc_loss:g}"
    return ""


def _chosen(
    compared: Mapping[str, ComparedSpec],
    best: str,
    newest: Race,
    scores: Sequence[PartitionScore],
    budget: CompressionBudget,
) -> Comparison:
    contenders = {spec_id: one for spec_id, one in compared.items() if one.contends}
    fastest = max(_costs(one)[1] for one in contenders.values())
    front = {spec_id for spec_id, one in contenders.items() if not any(_dominates(o, one) for o in contenders.values())}
    cheap = contenders
    if budget.objective == "rows_per_second":
        cheap = {i: one for i, one in contenders.items() if _costs(one)[1] >= EQUALLY_FAST * fastest}
    chosen = min(cheap, key=lambda i: (-_costs(cheap[i])[2], -_costs(cheap[i])[0], -_costs(cheap[i])[1], i))
    specs = []
    for spec_id, one in compared.items():
        reason = one.reason
        if one.contends:
            cost = "chosen: the cheapest contender" if spec_id == chosen else "contends, and costs more"
            reason = f"the lowest log loss; {cost}" if spec_id == best else cost
        specs.append(one.model_copy(update={"reason": reason, "on_front": spec_id in front}))
    days: tuple[date, ...] = tuple(sorted(score.partition for score in scores))
    return Comparison(
        partitions=days,
        best=best,
        chosen=chosen,
        baseline=newest.baseline,
        native=newest.native,
        specs=tuple(specs),
    )


def _costs(one: ComparedSpec) -> tuple[float, float, float]:
    """Minus log loss, rows per second, minus bytes: more is better. Missing measurements count as worst."""
    infinite = float("inf")
    return (
        -(one.log_loss if one.log_loss is not None else infinite),
        one.rows_per_second or 0.0,
        -(one.bytes if one.bytes is not None else infinite),
    )


def _dominates(one: ComparedSpec, other: ComparedSpec) -> bool:
    pairs = list(zip(_costs(one), _costs(other), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
