"""A weighted mean of log odds of an additive model with levels and boosted trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from nightshift.core.models.level_additive import LevelAdditive

Float64s = npt.NDArray[np.float64]


class LogOddsBlend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """log odds = scale * ((1 - share) * additive + share * trees).

    `additive` is a LevelAdditive, `trees` a pipeline of tree_features and an XGBClassifier; both are fitted here, in
    place. `scale` below 1 accounts for the day's level, which is unknown at the cutoff: with its standard
    deviation s, E[sigmoid(z + s e)] is about sigmoid(z / sqrt(1 + pi s^2 / 8)) (MacKay 1992).
    """

    def __init__(self, additive: LevelAdditive, trees: Pipeline, share: float = 0.5, scale: float = 1.0) -> None:
        self.additive = additive
        self.trees = trees
        self.share = share
        self.scale = scale

    def fit(self, frame: pd.DataFrame, labels: Any, sample_weight: Float64s | None = None) -> LogOddsBlend:
        """Fit both members on the rows, their labels (0 or 1) and weights."""
        self.classes_ = np.array([0, 1])
        self.additive.fit(frame, labels, sample_weight)
        self.trees.fit(frame, labels, model__sample_weight=sample_weight)
        return self

    def predict_proba(self, frame: pd.DataFrame) -> Float64s:
        """P(0) and P(1), float64 [n, 2]."""
        positive = self.trees.predict_proba(frame)[:, 1].astype(np.float64)
        trees = np.log(positive) - np.log1p(-positive)
        blended = self.scale * (
            (1 - self.share) * self.additive.log_odds(frame).astype(np.float64) + self.share * trees
        )
        probability = 1 / (1 + np.exp(-blended))
        return np.column_stack([1 - probability, probability])
