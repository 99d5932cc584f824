"""Fits the domain of a version (core.inference.domain) on its training rows.

The covariance is shrunk as by Ledoit & Wolf (2004, "A well-conditioned estimator for large-dimensional covariance
matrices", Journal of Multivariate Analysis 88): most features of a row are those of its day, so there are few
independent observations.

The threshold is set on days that are held out, because the rows of a day are not exchangeable: a day whose weather is
new has many rows beyond any quantile of the rows of other days. Blocks of consecutive days are held out in turn, with
a margin on both sides, because features of the last weeks hardly change from one day to the next; the distances of a
day's rows are from the other days. Of each day the quantile counts beyond which the declared share of its rows lies,
and of the days the conformal quantile (Vovk, Gammerman & Shafer 2005): the k-th smallest of n,
k = ceil((n + 1) * (1 - days_beyond)), or the largest if k > n.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.covariance import LedoitWolf
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from nightshift.core.arrays import Floats, Integers, evenly
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.inference.domain import Domain, NumericDomain, distances, standardised
from nightshift.core.inference.onnx_model import ABSENT_CATEGORY, Signature, numeric_matrix
from nightshift.declare.policies import CertaintyPolicy

MOST_ROWS = 30_000
"""Rows that distances are fitted on: spread evenly over the days, whose number, not that of the rows, matters."""
BLOCKS = 8
RIDGE = 1e-6
"""Least variance in any direction, that of a feature being 1."""
DIGITS = 12
"""Significant digits kept: sums of floats may differ in the last digits between machines."""


def fit_domain(rows: pa.Table, signature: Signature, policy: CertaintyPolicy) -> Domain:
    """The domain of a version fitted on `rows` (the signature's features and `partition`, sorted by partition).

    The same rows give the same domain. With fewer than `policy.least_days` partitions, or without numeric features,
    it has no threshold.
    """
    numeric = {}
    for name in signature.numeric:
        column = numeric_matrix(rows, (name,))[:, 0]
        present = column[~np.isnan(column)]
        low, high = (float(present.min()), float(present.max())) if len(present) else (None, None)
        numeric[name] = NumericDomain(low=low, high=high, missing=len(present) < len(column))
    categories = {
        name: tuple(sorted(pc.fill_null(pc.cast(rows[name], pa.string()), ABSENT_CATEGORY).unique().to_pylist()))
        for name in signature.categorical
    }
    sample = rows.take(pa.array(evenly(rows.num_rows, MOST_ROWS)))
    matrix = numeric_matrix(sample, signature.numeric)
    _, day = np.unique(pc.cast(sample[PARTITION], pa.date32()).to_numpy(), return_inverse=True)
    fitted, threshold, days = _Distance.of(matrix), None, int(day.max()) + 1 if len(day) else 0
    if signature.numeric and days >= policy.least_days:
        threshold = _threshold(matrix, day, policy)
    return Domain(
        numeric=numeric,
        categories=categories,
        mean=tuple(fitted.mean.tolist()),
        scale=tuple(fitted.scale.tolist()),
        whitening=tuple(tuple(row) for row in fitted.whitening.tolist()),
        threshold=threshold,
        days=days,
    )


class _Distance:
    """Mean, scale [k] and whitening [k, k] of numeric features."""

    def __init__(self, mean: Floats, scale: Floats, whitening: Floats) -> None:
        self.mean, self.scale, self.whitening = mean, scale, whitening

    @classmethod
    def of(cls, matrix: npt.NDArray[np.float32]) -> _Distance:
        """Fitted on rows [n, k], NaN for missing."""
        present = ~np.isnan(matrix)
        counted = np.maximum(present.sum(axis=0), 1)
        values = np.where(present, matrix, 0.0).astype(np.float64)
        mean = _digits(values.sum(axis=0) / counted)
        spread = np.sqrt((np.where(present, values - mean, 0.0) ** 2).sum(axis=0) / counted)
        # A feature that is constant in training has no scale of its own: out_of_range counts its other values.
        scale = np.where(spread > 1e-9 * (np.abs(mean) + 1), _digits(spread), 0.0)
        if not matrix.size:
            return cls(mean, scale, np.zeros((len(mean), len(mean))))
        with threadpool_limits(limits=1, user_api="blas"):
            covariance = LedoitWolf(assume_centered=True).fit(standardised(matrix, mean, scale)).covariance_
            # Features that are constant, or copies of each other, have no inverse covariance.
            covariance = covariance + RIDGE * np.eye(len(mean))
            whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(mean, scale, _digits(whitening))

    def __call__(self, matrix: npt.NDArray[np.float32]) -> Floats:
        return distances(standardised(matrix, self.mean, self.scale), self.whitening)


def _threshold(matrix: npt.NDArray[np.float32], day: Integers, policy: CertaintyPolicy) -> float:
    """See the module docstring; `day` [n]: the number of the day of each row, ascending from 0."""
    days = int(day.max()) + 1
    quantiles = []
    for held_out in np.array_split(np.arange(days), min(BLOCKS, days)):
        first, last = held_out[0], held_out[-1]
        others = (day < first - policy.margin_days) | (day > last + policy.margin_days)
        others = others if others.any() else (day < first) | (day > last)
        lengths = _Distance.of(matrix[others])
        for number in held_out:
            quantiles.append(
                float(np.quantile(lengths(matrix[day == number]), 1 - policy.rows_beyond, method="higher"))
            )
    rank = math.ceil((days + 1) * (1 - policy.days_beyond))
    return sorted(quantiles)[min(rank, days) - 1]


def _digits(values: Floats) -> Floats:
    """Values rounded to DIGITS significant digits."""
    return np.array([float(f"{value:.{DIGITS - 1}e}") for value in values.ravel()]).reshape(values.shape)
