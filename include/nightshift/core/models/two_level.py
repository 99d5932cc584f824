"""A two-level model: the level of a day and place by a Gaussian process, its rows relative to each other by a ranker.

    log odds of a row = ranker(x) + L0 + L1 * t

with x the row-level columns, t the standardised column `tilt`, and L0, L1 the level of the row's day and place and its
slope. The ranker is fitted with the realised levels as free effects, so that it cannot learn days. The realised levels
of the past, a few hundred, are the observations of two Gaussian processes over the level columns. For new rows the
levels are random with the processes' predictive means and variances, and the probability is the mean over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from nightshift.core.models.level_additive import fit_penalised, grouped
from nightshift.core.models.level_classifier import Float32s, Float64s, LevelClassifier, matrix_of, with_constant
from nightshift.core.models.preprocessing import BoundedScaler

MOST_GROUPS = 1200
"""Groups that a model learns from at most: a fit takes memory in their number squared, and time in it cubed."""

DIRECTIONS = 32
"""Directions of the training groups that the predictive variance is computed from, see LevelProcess."""

PRIOR_LEVEL = (0.05, 0.1, 1.0, 0.3, 0.05)
PRIOR_SLOPE = (0.02, 0.03, 1.0, 0.1, 0.02)
"""Prior medians of a process's hyperparameters, in the order of LevelProcess.hyperparameters_: L0 and L1."""
PRIOR_DEVIATIONS = (1.0, 1.0, 0.5, 1.0, 1.0)
"""Prior standard deviations of their logarithms."""


@dataclass(frozen=True)
class Groups:
    """Observations of one process, one for each group (day and place).

    `levels` float64 [G, q] are standardised, `indicators` float64 [G, c] are 0 or 1; `day` [G] numbers the days.
    `values` [G] are realised levels with the sampling variances `variance` [G]; `weight` [G] is in (0, 1].
    """

    levels: Float64s
    indicators: Float64s
    day: npt.NDArray[np.int64]
    values: Float64s
    variance: Float64s
    weight: Float64s


class LevelProcess:
    """Gaussian process regression (Rasmussen & Williams 2006, sections 2.2 and 5.4.1) of a level.

        value = mean + f(g) + day effect + own effect + sampling error
        cov f(g), f(h) = 1 + cal * c(g)'c(h) + rbf * exp(-|l(g) - l(h)|^2 / (2 q length^2))

    with l the standardised level columns and c the indicators. Places of one day share the day effect. All noise
    variances of a group are divided by its weight. `hyperparameters_`: cal, rbf, length, and the variances of day and
    own effects: the maximum of the marginal likelihood times log-normal priors.

    The predictive variance is k(g, g) - |P k(g)|^2 + day + own, with P [DIRECTIONS, G] the leading left singular
    vectors of inv(C) K times inv(C), C the Cholesky factor of the observations' covariance. Leaving out the
    others gives at most the exact variance plus what they explain.
    """

    def fit(self, groups: Groups, prior: Sequence[float]) -> LevelProcess:
        """Learn from groups; `prior`: medians of the hyperparameters."""
        # A value differs from the mean by its sampling error, too: large in groups of few rows.
        precision = groups.weight / (groups.variance + prior[4])
        self.mean_ = float(np.average(groups.values, weights=precision))
        centred = groups.values - self.mean_
        both = groups.indicators @ groups.indicators.T
        distance = _distances(groups.levels, groups.levels)
        scale = 1 / np.sqrt(groups.weight)
        same_day = (groups.day[:, None] == groups.day[None]) * np.outer(scale, scale)
        identity = np.eye(len(centred))
        median, deviation = np.log(np.array(prior)), np.array(PRIOR_DEVIATIONS)

        def covariance(at: Float64s) -> tuple[Float64s, Float64s]:
            near = np.exp(-distance / (2 * at[2] ** 2))
            total = 1 + at[0] * both + at[1] * near + at[3] * same_day
            total[np.diag_indices(len(total))] += (at[4] + groups.variance) * scale**2
            return total, near

        def loss(logarithms: Float64s) -> tuple[float, Float64s]:
            at = np.exp(logarithms)
            total, near = covariance(at)
            factor = cho_factor(total, lower=True)
            weights = cho_solve(factor, centred)
            inner = np.outer(weights, weights) - cho_solve(factor, identity)
            slopes = np.array(
                [
                    at[0] * np.sum(inner * both),
                    at[1] * np.sum(inner * near),
                    at[1] * np.sum(inner * near * distance) / at[2] ** 2,
                    at[3] * np.sum(inner * same_day),
                    at[4] * np.sum(np.diag(inner) * scale**2),
                ]
            )
            off = (logarithms - median) / deviation
            value = 0.5 * centred @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * off @ off
            return float(value), off / deviation - 0.5 * slopes

        optimum = minimize(loss, median, jac=True, method="L-BFGS-B", options={"maxiter": 25, "ftol": 1e-6}).x
        self.hyperparameters_ = np.exp(optimum)
        cal, rbf, length, day, own = (float(value) for value in self.hyperparameters_)
        total, near = covariance(self.hyperparameters_)
        factor, _ = cho_factor(total, lower=True)
        factor = np.tril(factor)
        kernel = 1 + cal * both + rbf * near
        explained = solve_triangular(factor, kernel, lower=True)
        _, vectors = np.linalg.eigh(explained @ explained.T)
        projection = solve_triangular(factor, vectors[:, ::-1][:, :DIRECTIONS], lower=True, trans=1)
        # Of the mean, and of the directions: [G, 1 + directions].
        weights = np.column_stack([cho_solve((factor, True), centred), projection])
        self.levels_ = groups.levels.T.astype(np.float32)
        self.squares_ = (groups.levels**2).sum(axis=1).astype(np.float32)[None]
        self.steepness_ = np.float32(-1 / (2 * max(groups.levels.shape[1], 1) * length**2))
        # The constant and calendar parts of the kernel are summed over the groups here, in float64.
        self.weights_ = (rbf * weights).astype(np.float32)
        self.indicator_weights_ = (cal * groups.indicators.T @ weights).astype(np.float32)
        bias = weights.sum(axis=0)
        bias[0] += self.mean_
        self.bias_ = bias.astype(np.float32)
        self.cal_ = np.float32(cal)
        self.noise_ = np.float32(1 + rbf + day + own)
        return self

    def moments(self, levels: Float32s, indicators: Float32s) -> tuple[Float32s, Float32s]:
        """Predictive mean and variance float32 [n] for standardised levels [n, q] and indicators [n, c]."""
        squares = (levels**2).sum(axis=1, keepdims=True)
        distance = np.maximum(squares + self.squares_ - np.float32(2) * (levels @ self.levels_), np.float32(0))
        near = np.exp(self.steepness_ * distance)
        both = near @ self.weights_ + indicators @ self.indicator_weights_ + self.bias_
        variance = self.noise_ + self.cal_ * (indicators**2).sum(axis=1) - (both[:, 1:] ** 2).sum(axis=1)
        return both[:, 0], np.maximum(variance, np.float32(0))


class TwoLevel(LevelClassifier):
    """P = E[sigmoid(ranker(x) + L0 + L1 * t)] over the predictive distribution of the levels; see the module.

    With mean m and variance v of the log odds this is about sigmoid(m / sqrt(1 + pi v / 8)) (MacKay 1992, "The evidence
    framework applied to classification networks", section 3.2); v = v0 + t^2 v1.

    `level` columns are equal in all rows of a day and place, `calendar` columns have few values and `place` are
    categories: rows with equal values of all of them are a group (without any of these, all rows are one). Of more
    than MOST_GROUPS groups, ranker and processes learn from the rows of those with the largest weights only, chosen at
    random (with a fixed seed) among equal weights. `day`: those of the level columns that are equal everywhere on a
    day, and tell days apart (none, or no different values: each group is a day of its own). `level_variance`: prior
    variance of the realised levels while the ranker is fitted; the processes then observe levels that are not shrunken
    by it: one Newton step of each group's own likelihood, with its curvature as precision (a Laplace approximation).

    Frames have float32 columns `numeric` with NaN for missing, and string columns `categorical`.
    """

    def __init__(
        self,
        numeric: tuple[str, ...] = (),
        categorical: tuple[str, ...] = (),
        level: tuple[str, ...] = (),
        calendar: tuple[str, ...] = (),
        place: tuple[str, ...] = (),
        day: tuple[str, ...] = (),
        tilt: str | None = None,
        knots: int = 3,
        row_penalty: float = 300.0,
        level_variance: float = 0.6,
    ) -> None:
        self.numeric = numeric
        self.categorical = categorical
        self.level = level
        self.calendar = calendar
        self.place = place
        self.day = day
        self.tilt = tilt
        self.knots = knots
        self.row_penalty = row_penalty
        self.level_variance = level_variance

    def fit(self, frame: pd.DataFrame, labels: Any, sample_weight: Float64s | None = None) -> TwoLevel:
        """Fit on rows, their labels (0 or 1) and weights (1 by default)."""
        target = np.asarray(labels, dtype=np.float64)
        weight = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._fit_columns(frame)
        places = [np.unique(frame[name], return_inverse=True)[1].astype(np.float32) for name in self.place]
        order, starts = grouped(
            np.column_stack([matrix_of(frame, (*self.level, *self.calendar)), *places]).astype(np.float32)
        )
        order, starts = _heaviest(order, starts, weight)
        rows = with_constant(self._row_values(frame.iloc[order]))
        tilt = self._tilt(frame)[order].astype(np.float64)
        group_frame = frame.iloc[order[starts]]
        coefficients = fit_penalised(
            rows,
            np.eye(len(starts)),
            starts,
            tilt,
            target[order],
            weight[order],
            self.row_penalty,
            1 / self.level_variance,
            tilted=self.tilt is not None,
        )
        width = rows.shape[1]
        self.intercept_ = np.float32(coefficients[0])
        self.row_weights_ = coefficients[1:width].astype(np.float32)
        values, variances = _realised_levels(rows, coefficients, starts, tilt, target[order])

        self.level_scaler_ = BoundedScaler().fit(matrix_of(group_frame, self.level))
        group_weight = weight[order[starts]]
        levels = self._levels(group_frame).astype(np.float64)
        indicators = self._indicators(group_frame).astype(np.float64)
        day = _numbered(matrix_of(group_frame, self.day))
        if not day.any():
            day = np.arange(len(starts))
        priors = (PRIOR_LEVEL, PRIOR_SLOPE)[: values.shape[1]]
        self.processes_ = [
            LevelProcess().fit(Groups(levels, indicators, day, values[:, i], variances[:, i], group_weight), prior)
            for i, prior in enumerate(priors)
        ]
        return self

    def log_odds(self, frame: pd.DataFrame) -> Float32s:
        """Log odds of the probability of each row, float32 [n]."""
        rows = self._row_values(frame)
        levels, indicators, tilt = self._levels(frame), self._indicators(frame), self._tilt(frame)
        order, starts = grouped(np.hstack([levels, indicators]))
        group = np.empty(len(order), dtype=np.int64)
        group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
        mean, variance = self.intercept_ + rows @ self.row_weights_, np.zeros(len(frame), dtype=np.float32)
        for power, process in enumerate(self.processes_):
            group_mean, group_variance = process.moments(levels[order[starts]], indicators[order[starts]])
            mean = mean + group_mean[group] * tilt**power
            variance = variance + group_variance[group] * tilt ** (2 * power)
        return np.asarray(mean / np.sqrt(np.float32(1) + np.float32(np.pi / 8) * variance), dtype=np.float32)

    @property
    def categories(self) -> list[npt.NDArray[np.object_]]:
        """The categories of each categorical column that have a weight."""
        if not self.categorical:
            return []
        return list(self.rows_.named_transformers_["categorical"].categories_)

    def _levels(self, frame: pd.DataFrame) -> Float32s:
        """Standardised level columns, missing ones at their mean: float32 [n, q]."""
        return self.level_scaler_.transform(matrix_of(frame, self.level))[:, : len(self.level)]

    def _indicators(self, frame: pd.DataFrame) -> Float32s:
        """Calendar and place one-hot: float32 [n, c]."""
        parts = self._calendar(frame)
        for name in self.place:
            categories = self.categories[self.categorical.index(name)]
            parts.append(frame[name].to_numpy()[:, None] == categories[None])
        return np.hstack([np.zeros((len(frame), 0)), *parts]).astype(np.float32)


def _heaviest(
    order: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], weight: Float64s
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Order and starts, as of `grouped`, of the MOST_GROUPS groups with the largest weights."""
    if len(starts) <= MOST_GROUPS:
        return order, starts
    shuffled = np.random.default_rng(0).permutation(len(starts))
    by_weight = shuffled[np.argsort(-weight[order[starts]][shuffled], kind="stable")]
    chosen = np.isin(np.arange(len(starts)), by_weight[:MOST_GROUPS])
    sizes = np.diff(np.append(starts, len(order)))
    return order[np.repeat(chosen, sizes)], np.cumsum(sizes[chosen]) - sizes[chosen]


def _realised_levels(
    rows: Float32s,
    coefficients: Float64s,
    starts: npt.NDArray[np.int64],
    tilt: Float64s,
    target: Float64s,
) -> tuple[Float64s, Float64s]:
    """Each group's level (and slope) and their sampling variances, not shrunken: float64 [G, 1 or 2] each."""
    width = rows.shape[1]
    shrunken = coefficients[width:].reshape(-1, len(starts)).T
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
    log_odds = (rows @ coefficients[:width].astype(np.float32)).astype(np.float64)
    powers = shrunken.shape[1]
    for power in range(powers):
        log_odds += shrunken[group, power] * tilt**power
    probability = 1 / (1 + np.exp(-log_odds))
    curvature, residual = probability * (1 - probability), target - probability
    precision, gradient = np.zeros((len(starts), powers, powers)), np.zeros((len(starts), powers))
    for i in range(powers):
        gradient[:, i] = np.bincount(group, residual * tilt**i, len(starts))
        for j in range(powers):
            precision[:, i, j] = np.bincount(group, curvature * tilt ** (i + j), len(starts))
    # Groups of one or two rows say next to nothing of a slope.
    precision += 1e-3 * np.eye(powers)
    step = np.linalg.solve(precision, gradient[..., None])[..., 0]
    variance = np.diagonal(np.linalg.inv(precision), axis1=1, axis2=2)
    return shrunken + step, np.asarray(variance)


def _numbered(values: Float32s) -> npt.NDArray[np.int64]:
    """Equal rows get equal numbers [n]."""
    order, starts = grouped(values)
    number = np.empty(len(values), dtype=np.int64)
    number[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    return number


def _distances(left: Float64s, right: Float64s) -> Float64s:
    """Mean squared difference over the columns, [n, m]."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0) / max(left.shape[1], 1))
