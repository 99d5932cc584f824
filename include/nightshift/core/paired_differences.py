"""Paired differences of two forecasters' losses on the same rows, with intervals for dependent rows and days.

Rows of one day are correlated, and so are consecutive days: neither rows nor days are independent. Two intervals are
used. Both are of a ratio: the sum of the differences over the number of rows.

`moving_blocks` (Künsch 1989, "The jackknife and the bootstrap for general stationary observations", Annals of
Statistics 17): blocks of consecutive days are drawn with replacement from all that overlap. The percentile interval of
so few blocks is too narrow; it is widened as for a t-test with (days / block_days) - 1 degrees of freedom.

`clustered` is cheaper and conservative, for many slices at once: days are cut into blocks that do not overlap, and the
blocks' sums are taken for G independent observations, with t quantiles of G - 1 degrees of freedom (Bester, Conley &
Hansen 2011, "Inference with dependent data using cluster covariance estimators", Journal of Econometrics 165).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, t

from nightshift.core.arrays import Floats, Integers
from nightshift.documents.backtest import PairedDifference

RESAMPLES = 2000
LEAST_BLOCKS = 3
"""With fewer blocks no interval is computed."""


def daily_sums(differences: Floats, days: Integers) -> tuple[Floats, Floats]:
    """Sums of differences [n] and numbers of rows by day, for every day from the first to the last: two arrays [days].

    A day without rows counts as one, so that blocks are of calendar days.
    """
    day = days - days.min()
    return np.bincount(day, weights=differences).astype(np.float64), np.bincount(day).astype(np.float64)


def moving_blocks(
    differences: Floats, days: Integers, *, block_days: int, confidence: float, seed: int
) -> PairedDifference:
    """Mean of paired differences [n] of the rows of some days [n], with its interval by moving blocks of days.

    With fewer than LEAST_BLOCKS blocks there is no interval. Equal arguments give equal numbers.
    """
    sums, rows = daily_sums(differences, days)
    mean = float(sums.sum() / rows.sum())
    blocks = len(sums) / block_days
    if blocks < LEAST_BLOCKS:
        return PairedDifference(mean=mean, low=None, high=None)
    random = np.random.default_rng(seed)
    starts = random.integers(0, len(sums) - block_days + 1, size=(RESAMPLES, int(np.ceil(blocks))))
    drawn = (starts[:, :, None] + np.arange(block_days)).reshape(RESAMPLES, -1)[:, : len(sums)]
    means = sums[drawn].sum(axis=1) / np.maximum(rows[drawn].sum(axis=1), 1)
    tail = (1 - confidence) / 2
    widen = t.isf(tail, blocks - 1) / norm.isf(tail) * np.sqrt(blocks / (blocks - 1))
    low, high = mean + widen * (np.quantile(means, [tail, 1 - tail]) - means.mean())
    return PairedDifference(mean=mean, low=float(low), high=float(high))


def clustered(
    differences: Floats, days: Integers, *, block_days: int, confidence: float, comparisons: int
) -> PairedDifference | None:
    """Mean of paired differences [n] with an interval that holds for `comparisons` of them at once (Bonferroni).

    None with fewer than LEAST_BLOCKS blocks of days that have rows.
    """
    _, block = np.unique((days - days.min()) // block_days, return_inverse=True)
    sums, rows = np.bincount(block, weights=differences), np.bincount(block).astype(np.float64)
    blocks = len(sums)
    if blocks < LEAST_BLOCKS:
        return None
    mean = float(sums.sum() / rows.sum())
    error = np.sqrt(blocks / (blocks - 1) * ((sums - mean * rows) ** 2).sum()) / rows.sum()
    reach = float(t.isf((1 - confidence) / 2 / comparisons, blocks - 1) * error)
    return PairedDifference(mean=mean, low=mean - reach, high=mean + reach)
