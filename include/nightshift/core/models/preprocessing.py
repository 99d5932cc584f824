"""The preprocessing of all models. Each part has a counterpart in ONNX (`onnx_export`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder

from nightshift.core.arrays import Float32s
from nightshift.core.inference.onnx_model import Signature, categorical_matrix, numeric_matrix

MOST_CATEGORIES = 32
"""Categories of one feature that get a column; the rarer ones have too few rows to learn from."""

TAIL_PERCENT = 0.5
"""Share of training values, in percent, beyond the bounds of BoundedScaler on either side."""


class BoundedScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clip each column to the range of its training values, standardise it, and add missing-value indicators.

    Linear models and networks extrapolate without limit outside their training values: there the score is that
    at the bound. A missing value becomes the mean, and columns that had any in training get an indicator.
    Input float32 [n, k] with NaN for missing; output float32 [n, k + columns with an indicator].
    """

    def fit(self, values: Any, labels: Any = None) -> BoundedScaler:  # noqa: ARG002
        """Learn bounds, mean and standard deviation of each column; a column without values becomes 0."""
        matrix = np.asarray(values, dtype=np.float32)
        absent = np.isnan(matrix)
        width = matrix.shape[1]
        lower, upper, mean, deviation = np.zeros(width), np.zeros(width), np.zeros(width), np.ones(width)
        for column in range(width):
            present = matrix[~absent[:, column], column].astype(np.float64)
            if len(present) == 0:
                continue
            lower[column], upper[column] = np.percentile(present, [TAIL_PERCENT, 100 - TAIL_PERCENT])
            bounded = np.clip(present, lower[column], upper[column])
            mean[column], deviation[column] = bounded.mean(), bounded.std() or 1.0
        self.lower_, self.upper_ = lower.astype(np.float32), upper.astype(np.float32)
        self.mean_, self.deviation_ = mean.astype(np.float32), deviation.astype(np.float32)
        self.indicated_ = np.flatnonzero(absent.any(axis=0))
        return self

    def transform(self, values: Any) -> Float32s:
        """Scaled columns, then the indicators."""
        matrix = np.asarray(values, dtype=np.float32)
        filled = np.where(np.isnan(matrix), self.mean_, matrix)
        scaled = (np.minimum(np.maximum(filled, self.lower_), self.upper_) - self.mean_) / self.deviation_
        return np.hstack([scaled, np.isnan(matrix[:, self.indicated_]).astype(np.float32)])


class PiecewiseLinearScaler(BoundedScaler):
    """BoundedScaler, then for each column and knot the distance of the scaled value beyond the knot (0 before it).

    A linear model on this is a sum of piecewise linear functions of one feature each. Knots are
    quantiles of the training values. Output float32 [n, k + columns with an indicator + knots * k].
    """

    def __init__(self, knots: int = 3) -> None:
        self.knots = knots

    def fit(self, values: Any, labels: Any = None) -> PiecewiseLinearScaler:
        """As BoundedScaler, and the knots: float32 [knots, k], in scaled units."""
        super().fit(values, labels)
        scaled = super().transform(values)[:, : len(self.mean_)].astype(np.float64)
        levels = np.arange(1, self.knots + 1) / (self.knots + 1)
        self.knots_ = np.quantile(scaled, levels, axis=0).astype(np.float32)
        return self

    def transform(self, values: Any) -> Float32s:
        """Scaled columns, the indicators, then the columns beyond the first knots, the second ones, ..."""
        bounded = super().transform(values)
        scaled = bounded[:, : len(self.mean_)]
        return np.hstack([bounded, *(np.maximum(scaled - knots, np.float32(0)) for knots in self.knots_)])


def feature_frame(table: pa.Table, signature: Signature) -> pd.DataFrame:
    """The features as models are fitted and scored on: numeric float32 (missing is NaN), then strings."""
    frame = pd.DataFrame(numeric_matrix(table, signature.numeric), columns=list(signature.numeric))
    strings = categorical_matrix(table, signature.categorical)
    for position, name in enumerate(signature.categorical):
        frame[name] = strings[:, position]
    return frame


def tree_features(frame: pd.DataFrame, signature: Signature) -> ColumnTransformer:
    """Numeric features as they are (trees learn where missing goes), categories one-hot. Not yet fitted."""
    return _features("passthrough", frame, signature)


def bounded_features(frame: pd.DataFrame, signature: Signature) -> ColumnTransformer:
    """Numeric features through BoundedScaler, categories one-hot. Not yet fitted."""
    return _features(BoundedScaler(), frame, signature)


def piecewise_linear_features(frame: pd.DataFrame, signature: Signature, knots: int) -> ColumnTransformer:
    """Numeric features through PiecewiseLinearScaler, categories one-hot. Not yet fitted."""
    return _features(PiecewiseLinearScaler(knots), frame, signature)


def _features(numeric: Any, frame: pd.DataFrame, signature: Signature) -> ColumnTransformer:
    # Positions, not names, because skl2onnx resolves them across the graph's two inputs.
    split, width = len(signature.numeric), len(signature.numeric) + len(signature.categorical)
    parts = [("numeric", numeric, list(range(split)))]
    if signature.categorical:
        one_hot = OneHotEncoder(
            categories=[_frequent(frame[name]) for name in signature.categorical],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
        )
        parts.append(("categorical", one_hot, list(range(split, width))))
    return ColumnTransformer(parts)


def _frequent(column: pd.Series[str]) -> npt.NDArray[np.object_]:
    """The most frequent values, ties broken by name, sorted."""
    counted = [(-count, str(value)) for value, count in column.value_counts().items()]
    return np.array(sorted(value for _, value in sorted(counted)[:MOST_CATEGORIES]), dtype=object)
