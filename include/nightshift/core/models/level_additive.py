"""A logistic additive model with separate penalties for day-level and row-level columns.

All rows of a day and place share their level columns, so these have hundreds of observations where row-level
columns have hundreds of thousands: one penalty does not suit both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nightshift.core.models.level_classifier import Float32s, Float64s, LevelClassifier, matrix_of, with_constant
from nightshift.core.models.preprocessing import PiecewiseLinearScaler

ITERATIONS = 8
"""Newton steps at most; four to five are enough."""

CONVERGED = 1e-4
"""Largest step of a coefficient at which Newton's method stops."""


class LevelAdditive(LevelClassifier):
    """log odds = rows(x) + level(g) + tilt(g) * t, all of them sums of piecewise linear functions of one column each.

    x are the numeric columns that are not level columns and the categories (one-hot); g are the `level` columns
    (numeric, piecewise linear) and the `calendar` columns (numeric with few values, one-hot); t is the column `tilt`,
    bounded and standardised: the effect of the day's level differs between its morning and its evening. Without
    `tilt`, the last term is left out.

    Fitted by penalised Newton steps (IRLS: Hastie, Tibshirani, Friedman 2009, section 4.4.1; the ridge penalty is a
    Gaussian prior of precision `row_penalty` and `level_penalty` for each coefficient of standardised columns, none
    for the intercept). Equal rows of g form groups, so that their part of the normal equations is computed once per
    group.

    Frames have float32 columns `numeric` with NaN for missing, and string columns `categorical`.
    """

    def __init__(
        self,
        numeric: tuple[str, ...] = (),
        categorical: tuple[str, ...] = (),
        level: tuple[str, ...] = (),
        calendar: tuple[str, ...] = (),
        tilt: str | None = None,
        knots: int = 3,
        level_knots: int = 2,
        row_penalty: float = 300.0,
        level_penalty: float = 10000.0,
    ) -> None:
        self.numeric = numeric
        self.categorical = categorical
        self.level = level
        self.calendar = calendar
        self.tilt = tilt
        self.knots = knots
        self.level_knots = level_knots
        self.row_penalty = row_penalty
        self.level_penalty = level_penalty

    def fit(self, frame: pd.DataFrame, labels: Any, sample_weight: Float64s | None = None) -> LevelAdditive:
        """Fit on rows, their labels (0 or 1) and weights (1 by default)."""
        target = np.asarray(labels, dtype=np.float64)
        weight = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._fit_columns(frame)
        self.level_scaler_ = PiecewiseLinearScaler(self.level_knots).fit(matrix_of(frame, self.level))

        order, starts = grouped(matrix_of(frame, (*self.level, *self.calendar)))
        rows = with_constant(self._row_values(frame)[order])
        group_values = self._group_values(frame.iloc[order[starts]]).astype(np.float64)
        tilt = self._tilt(frame)[order].astype(np.float64)
        coefficients = fit_penalised(
            rows,
            group_values,
            starts,
            tilt,
            target[order],
            weight[order],
            self.row_penalty,
            self.level_penalty,
            tilted=self.tilt is not None,
        )
        width, levels = rows.shape[1], group_values.shape[1]
        self.intercept_ = np.float32(coefficients[0])
        self.row_weights_ = coefficients[1:width].astype(np.float32)
        # [q, 2]: the weight of a level column, and its weight per unit of the tilt.
        both = coefficients[width:].reshape(1 if self.tilt is None else 2, levels).T
        self.level_weights_ = np.zeros((levels, 2), dtype=np.float32)
        self.level_weights_[:, : both.shape[1]] = both
        return self

    def log_odds(self, frame: pd.DataFrame) -> Float32s:
        """Log odds of each row, float32 [n]."""
        parts = self._group_values(frame) @ self.level_weights_
        log_odds = (
            self.intercept_
            + self._row_values(frame) @ self.row_weights_
            + parts[:, 0]
            + parts[:, 1] * self._tilt(frame)
        )
        return np.asarray(log_odds, dtype=np.float32)

    def _group_values(self, frame: pd.DataFrame) -> Float32s:
        """Scaled level columns, their hinges and missing-value indicators, calendar one-hot: float32 [n, q]."""
        scaled = self.level_scaler_.transform(matrix_of(frame, self.level))
        return np.hstack([scaled, *(one.astype(np.float32) for one in self._calendar(frame))])


def grouped(values: Float32s) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """An order of the rows in which equal rows are adjacent, and where each group starts."""
    if values.shape[1] == 0:
        return np.arange(len(values)), np.zeros(1, dtype=np.int64)
    # NaN is equal to NaN as bytes; adding 0 makes -0 the same bytes as 0.
    rows = np.ascontiguousarray(values + np.float32(0)).view(np.dtype((np.void, 4 * values.shape[1]))).reshape(-1)
    _, number = np.unique(rows, return_inverse=True)
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    return order, starts


def fit_penalised(
    rows: Float32s,
    levels: Float64s,
    starts: npt.NDArray[np.int64],
    tilt: Float64s,
    target: Float64s,
    weight: Float64s,
    row_penalty: float,
    level_penalty: float,
    *,
    tilted: bool,
) -> Float64s:
    """Coefficients of rows [n, r], levels and, if `tilted`, levels times tilt: float64 [r + q] or [r + 2 q].

    `rows` are sorted into groups that begin at `starts`, with one row of `levels` each; their first column is 1.
    """
    width, many = rows.shape[1], levels.shape[1]
    powers = 2 if tilted else 1
    ends = np.append(starts[1:], len(rows))
    group = np.repeat(np.arange(len(starts)), ends - starts)
    total = width + powers * many
    penalty = np.concatenate([[1e-6], np.full(width - 1, row_penalty), np.full(powers * many, level_penalty)])
    mean = np.average(target, weights=weight)
    coefficients = np.zeros(total)
    coefficients[0] = np.log(mean / (1 - mean))
    for _ in range(ITERATIONS):
        log_odds = (rows @ coefficients[:width].astype(np.float32)).astype(np.float64)
        for power in range(powers):
            at = width + power * many
            log_odds += (levels @ coefficients[at : at + many])[group] * tilt**power
        probability = 1 / (1 + np.exp(-log_odds))
        curvature = weight * probability * (1 - probability)
        residual = weight * (target - probability)
        matrix, gradient = np.zeros((total, total)), np.zeros(total)
        sums = np.zeros((powers, len(starts), width))
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            part = rows[start:end]
            weighted = part * curvature[start:end, None].astype(np.float32)
            matrix[:width, :width] += part.T @ weighted
            for power in range(powers):
                sums[power, number] = (tilt[start:end] ** power).astype(np.float32) @ weighted
        gradient[:width] = rows.T @ residual.astype(np.float32)
        for power in range(powers):
            block = slice(width + power * many, width + (power + 1) * many)
            gradient[block] = levels.T @ np.bincount(group, residual * tilt**power, len(starts))
            matrix[block, :width] = levels.T @ sums[power]
            matrix[:width, block] = matrix[block, :width].T
            for other in range(powers):
                other_block = slice(width + other * many, width + (other + 1) * many)
                in_group = np.bincount(group, curvature * tilt ** (power + other), len(starts))
                matrix[block, other_block] = levels.T @ (in_group[:, None] * levels)
        matrix[np.diag_indices(total)] += penalty
        step = np.linalg.solve(matrix, gradient - penalty * coefficients)
        coefficients += step
        if np.max(np.abs(step)) < CONVERGED:
            break
    return coefficients
