"""How certain a prediction is, from how far the levels of past days were from what their scores promised.

The unit is the day: its rows share weather and traffic, so their errors are not independent, and intervals that count
rows are far too narrow. The shift of a past day is the constant on the log odds that would have made the mean of its
scores, calibrated as they were then, equal to the share of positive labels:

    mean over its labelled rows of  s(z + shift)  =  label rate,    z = log odds of the score, s the logistic function

If the coming day is exchangeable with the last n days, its shift is as likely to lie between any two neighbours of the
n sorted shifts, or beyond the outermost, as between any other (conformal prediction: Vovk, Gammerman & Shafer 2005,
"Algorithmic learning in a random world"; with days in place of rows).

- certainty of a row: the share of the n shifts with which its probability stays on its side of the decision threshold
- band: from s(z + l) to s(z + u), l and u the k-th smallest and the k-th largest shift, k = floor((n + 1) (1 - band) /
  2). The label rate of a day lies between the means of its rows' bounds if, and only if, its shift lies in [l, u]: for
  exchangeable days with a probability of at least `band`. It is a band of the day's level, not of a single label.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Floats
from nightshift.core.evaluation import log_odds
from nightshift.core.inference.calibration import LabelledScores, level_shift
from nightshift.declare.policies import CertaintyPolicy

if TYPE_CHECKING:
    from nightshift.core.inference.domain import Position

DIGITS = 6
"""Decimals of a shift that are kept."""

CERTAINTY_SCHEMA = pa.schema(
    [
        pa.field("out_of_range", pa.int64()),
        pa.field("out_of_domain", pa.bool_()),
        pa.field("certainty", pa.float64()),
        pa.field("score_low", pa.float64()),
        pa.field("score_high", pa.float64()),
    ]
)
"""Columns of published predictions. Null: of a version without a domain, or with too few matured days."""


def certainty_columns(
    scores: Floats, shifts: Sequence[float], position: Position | None, threshold: float, policy: CertaintyPolicy
) -> pa.Table:
    """The columns of CERTAINTY_SCHEMA of calibrated scores [n]; `position`: of their rows, if there is a domain."""
    columns = dict.fromkeys(CERTAINTY_SCHEMA.names, pa.nulls(len(scores)))
    if position is not None:
        columns["out_of_range"] = pa.array(position.out_of_range)
        if position.out_of_domain is not None:
            columns["out_of_domain"] = pa.array(position.out_of_domain)
    if len(shifts) >= max(policy.least_days, 1):
        columns["certainty"] = pa.array(certainty(shifts, scores, threshold))
        columns["score_low"], columns["score_high"] = map(pa.array, level_band(shifts, scores, policy.band))
    return pa.table({name: column.cast(CERTAINTY_SCHEMA.field(name).type) for name, column in columns.items()})


def matured_shifts(history: Sequence[LabelledScores], policy: CertaintyPolicy) -> dict[date, float]:
    """The shift of each matured partition, the newest `policy.days`, ascending.

    `history`: calibrated scores. A partition whose labels are known for less than `policy.least_labelled` of its
    predictions has not matured.
    """
    matured = [
        one
        for one in sorted(history, key=lambda one: one.partition)
        if len(one.labels) and len(one.labels) >= policy.least_labelled * one.predictions
    ]
    return {
        one.partition: round(level_shift(one.scores, one.labels), DIGITS)
        for one in matured[max(len(matured) - policy.days, 0) :]
    }


def certainty(shifts: Sequence[float], scores: Floats, threshold: float) -> Floats:
    """The certainty [n] of scores [n]; 1 if all `shifts` leave a score on its side of the threshold."""
    ordered = np.sort(np.asarray(shifts, dtype=np.float64))
    # The shift from which on the probability reaches the threshold.
    needed = log_odds(np.array([threshold])) - log_odds(scores)
    negative = np.searchsorted(ordered, needed, side="left") / len(ordered)
    return np.asarray(np.where(scores >= threshold, 1 - negative, negative), dtype=np.float64)


def level_band(shifts: Sequence[float], scores: Floats, share: float) -> tuple[Floats, Floats]:
    """Lower and upper bound [n] of the band of scores [n]. With too few shifts for the share, 0 and 1."""
    ordered = np.sort(np.asarray(shifts, dtype=np.float64))
    # A product such as 20 * 0.1 may be a little less than the whole number it stands for.
    rank = int((len(ordered) + 1) * (1 - share) / 2 + 1e-9)
    if rank < 1:
        return np.zeros_like(scores), np.ones_like(scores)
    odds = log_odds(scores)
    low, high = (1 / (1 + np.exp(-(odds + shift))) for shift in (ordered[rank - 1], ordered[-rank]))
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
