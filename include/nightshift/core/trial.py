"""Is the model on trial no worse than the one it is held against? Decided by nights, not by rows.

Rows of one night share its weather and its luck, so a night is one observation: the difference of
two mean log losses on the same rows. The nights' differences go through a one-sided paired t-test
against the declared margin (a non-inferiority test: Lakens 2017, Equivalence Tests, Social
Psychological and Personality Science 8(4)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from nightshift.core.evaluation import log_loss
from nightshift.core.model_life import Stage
from nightshift.policies import TrialPolicy

TrialDecision = Literal["nothing", "hold", "canary", "promote", "withdraw", "roll_back", "confirm"]

ONWARD: dict[Stage, TrialDecision] = {"shadow": "canary", "canary": "promote", "standby": "confirm"}
BACK: dict[Stage, TrialDecision] = {"shadow": "withdraw", "canary": "withdraw", "standby": "roll_back"}

LEAST_NIGHTS = 2
"""One night has no spread, so nothing but an emergency can be told from it."""

ROUNDING = 1e-12
"""Log losses are of order 1: what differs by less does not differ."""


@dataclass(frozen=True)
class TrialNight:
    """One night on which both models were asked about the same rows. Log losses in nats; `difference` is of the
    model that is judged minus its rival's: positive means that it did worse."""

    partition: date
    rows: int
    serving_log_loss: float
    beside_log_loss: float
    difference: float

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self) | {"partition": self.partition.isoformat()}


@dataclass(frozen=True)
class Judgement:
    """What follows from the nights. `mean_difference`, its upper confidence `bound` and the `p_value` of being worse
    than the margin are None where there are too few nights; `reason` says it in words."""

    decision: TrialDecision
    reason: str
    mean_difference: float | None = None
    bound: float | None = None
    p_value: float | None = None


def compare_night(
    partition: date,
    labels: npt.NDArray[np.int64],
    serving: npt.NDArray[np.float64],
    beside: npt.NDArray[np.float64],
    *,
    beside_is_judged: bool,
) -> TrialNight:
    """One night's comparison, from labels (0 or 1) and both models' scores of the same rows, at least one."""
    a, b = log_loss(labels, serving), log_loss(labels, beside)
    return TrialNight(partition, len(labels), a, b, b - a if beside_is_judged else a - b)


def judge_trial(stage: Stage, nights: Sequence[TrialNight], elapsed: int, policy: TrialPolicy) -> Judgement:
    """Decide on the model that is judged: the challenger, or in `standby` the fresh champion.

    `nights` are those of the stage that count, oldest first; `elapsed` is how many nights the stage
    has lasted, with those that do not count, without those under the kill switch. Decisions: `hold`;
    `canary` or `promote` once it is shown to be no worse than the margin; `withdraw` or `roll_back` if it
    is shown to be worse, if a single night of a canary or a fresh champion is beyond the emergency margin,
    or if nothing was shown for `longest_nights`; `confirm` for a fresh champion that did no worse.
    """
    needed = {"shadow": policy.shadow_nights, "canary": policy.canary_nights, "standby": policy.standby_nights}[stage]
    onward, back = ONWARD[stage], BACK[stage]
    differences = np.array([night.difference for night in nights], dtype=np.float64)
    mean = float(differences.mean()) if len(differences) else None
    counted = f"{len(nights)} of {elapsed} nights count"

    worst = max(nights, key=lambda night: night.difference, default=None)
    if stage != "shadow" and worst is not None and worst.difference > policy.emergency_margin:
        reason = (
            f"on {worst.partition} its log loss was {worst.difference:.4f} above its rival's, beyond the emergency "
            f"margin of {policy.emergency_margin}"
        )
        return Judgement(back, reason, mean)

    if mean is None or len(differences) < LEAST_NIGHTS:
        if elapsed < policy.longest_nights:
            return Judgement("hold", f"{counted}; it takes {max(needed, LEAST_NIGHTS)}", mean)
        return _out_of_time(stage, counted, mean, policy)

    no_worse, worse, bound = margin_test(differences, policy.margin_log_loss, policy.confidence)
    numbers = (
        f"{counted}, mean difference of log loss {mean:+.4f}, upper bound {bound:+.4f} at {policy.confidence:.0%} "
        f"confidence, margin {policy.margin_log_loss}, p {no_worse:.3f}"
    )
    tested = {"mean_difference": mean, "bound": bound, "p_value": no_worse}
    alpha = 1 - policy.confidence
    if worse < alpha:
        return Judgement(back, f"shown to be worse than the margin: {numbers}", **tested)
    if len(nights) >= needed and no_worse < alpha:
        return Judgement(onward, f"shown to be no worse than the margin: {numbers}", **tested)
    if elapsed < policy.longest_nights:
        why = f"it takes {needed} nights" if len(nights) < needed else "neither shown to be worse nor to be no worse"
        return Judgement("hold", f"{why}: {numbers}", **tested)
    ended = _out_of_time(stage, numbers, mean, policy)
    return Judgement(ended.decision, ended.reason, **tested)


def margin_test(differences: npt.NDArray[np.float64], margin: float, confidence: float) -> tuple[float, float, float]:
    """One-sided paired t-tests of the nights' differences, at least two, against the margin.

    Returns the p-value of "its mean is below the margin", the p-value of "it is above", and the
    upper confidence bound of the mean. Nights that all differ alike leave no doubt.
    """
    mean = float(differences.mean())
    if float(np.ptp(differences)) <= ROUNDING:
        return float(mean > margin - ROUNDING), float(mean < margin + ROUNDING), mean
    below = stats.ttest_1samp(differences, margin, alternative="less")
    above = stats.ttest_1samp(differences, margin, alternative="greater")
    return float(below.pvalue), float(above.pvalue), float(below.confidence_interval(confidence).high)


def _out_of_time(stage: Stage, numbers: str, mean: float | None, policy: TrialPolicy) -> Judgement:
    """After the longest time a stage may take. A challenger has to prove itself; a champion has done so."""
    late = f"nothing was shown within {policy.longest_nights} nights"
    if stage != "standby":
        return Judgement("withdraw", f"{late}: {numbers}", mean)
    if mean is not None and mean > policy.margin_log_loss:
        return Judgement("roll_back", f"{late}, and on average it did worse than the margin: {numbers}", mean)
    return Judgement("confirm", f"{late}, and nothing speaks against it: {numbers}", mean)
