"""What classifiers with day-level and row-level columns share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer

from nightshift.core.inference.onnx_model import Signature
from nightshift.core.models.preprocessing import PiecewiseLinearScaler, piecewise_linear_features

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


class LevelClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Row-level columns, calendar columns and a tilt, of frames with float32 and string columns; see the subclasses."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    level: tuple[str, ...]
    calendar: tuple[str, ...]
    tilt: str | None
    knots: int

    @property
    def row_columns(self) -> tuple[str, ...]:
        """Numeric columns that differ between the rows of a day."""
        apart = {*self.level, *self.calendar}
        return tuple(name for name in self.numeric if name not in apart)

    @abstractmethod
    def log_odds(self, frame: pd.DataFrame) -> Float32s:
        """Log odds of the probability of each row, float32 [n]."""

    def predict_proba(self, frame: pd.DataFrame) -> Float64s:
        """P(0) and P(1), float64 [n, 2]."""
        positive = 1 / (1 + np.exp(-self.log_odds(frame).astype(np.float64)))
        return np.column_stack([1 - positive, positive])

    def _fit_columns(self, frame: pd.DataFrame) -> None:
        """Fit what turns row-level, calendar and tilt columns into numbers."""
        self.classes_ = np.array([0, 1])
        signature = Signature(
            numeric=self.row_columns, categorical=self.categorical, feature_service="", score="probability"
        )
        rows = frame[[*self.row_columns, *self.categorical]]
        self.rows_: ColumnTransformer = piecewise_linear_features(rows, signature, self.knots).fit(rows)
        self.calendar_values_ = [
            np.unique(column[~np.isnan(column)]) for column in matrix_of(frame, self.calendar).T.astype(np.float32)
        ]
        if self.tilt is not None:
            self.tilt_scaler_ = PiecewiseLinearScaler(0).fit(matrix_of(frame, (self.tilt,)))

    def _row_values(self, frame: pd.DataFrame) -> Float32s:
        """Scaled row-level columns and one-hot categories: float32 [n, p]."""
        return np.asarray(self.rows_.transform(frame[[*self.row_columns, *self.categorical]]), dtype=np.float32)

    def _calendar(self, frame: pd.DataFrame) -> list[npt.NDArray[np.bool_]]:
        """One-hot calendar columns, [n, values] of each."""
        values = matrix_of(frame, self.calendar)
        return [values[:, [i]] == known[None] for i, known in enumerate(self.calendar_values_)]

    def _tilt(self, frame: pd.DataFrame) -> Float32s:
        """The standardised tilt, float32 [n]; zeros without one."""
        if self.tilt is None:
            return np.zeros(len(frame), dtype=np.float32)
        return self.tilt_scaler_.transform(matrix_of(frame, (self.tilt,)))[:, 0]


def matrix_of(frame: pd.DataFrame, names: Sequence[str]) -> Float32s:
    """The named columns, float32 [n, k]."""
    return np.asarray(frame[list(names)].to_numpy(dtype=np.float32))


def with_constant(rows: Float32s) -> Float32s:
    """A column of ones before the columns of the rows."""
    return np.hstack([np.ones((len(rows), 1), dtype=np.float32), rows])
