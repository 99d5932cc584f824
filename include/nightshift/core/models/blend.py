"""A weighted mean of log odds of an additive model with levels, boosted trees and, possibly, a two-level model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from nightshift.core.models.level_additive import LevelAdditive
from nightshift.core.models.two_level import TwoLevel

Float64s = npt.NDArray[np.float64]


class LogOddsBlend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """log odds = (1 - s) * scale * ((1 - share) * additive + share * trees) + s * two_level, with s = two_level_share.

    `additive` is a LevelAdditive, `trees` a pipeline of tree_features and an XGBClassifier, `two_level` a TwoLevel, or
    None for the other two alone; they are fitted here, in place. `scale` below 1 accounts for the day's level, which
    is unknown at the cutoff: with its standard deviation d, E[sigmoid(z + d e)] is about
    sigmoid(z / sqrt(1 + pi d^2 / 8)) (MacKay 1992). The two-level model accounts for it itself.
    """

    def __init__(
        self,
        additive: LevelAdditive,
        trees: Pipeline,
        share: float = 0.5,
        scale: float = 1.0,
        two_level: TwoLevel | None = None,
        two_level_share: float = 0.0,
    ) -> None:
        self.additive = additive
        self.trees = trees
        self.share = share
        self.scale = scale
        self.two_level = two_level
        self.two_level_share = two_level_share

    def fit(self, frame: pd.DataFrame, labels: Any, sample_weight: Float64s | None = None) -> LogOddsBlend:
        """Fit the members on the rows, their labels (0 or 1) and weights."""
        self.classes_ = np.array([0, 1])
        self.additive.fit(frame, labels, sample_weight)
        self.trees.fit(frame, labels, model__sample_weight=sample_weight)
        if self.two_level is not None:
            self.two_level.fit(frame, labels, sample_weight)
        return self

    def predict_proba(self, frame: pd.DataFrame) -> Float64s:
        """P(0) and P(1), float64 [n, 2]."""
        positive = self.trees.predict_proba(frame)[:, 1].astype(np.float64)
        trees = np.log(positive) - np.log1p(-positive)
        blended = self.scale * (
            (1 - self.share) * self.additive.log_odds(frame).astype(np.float64) + self.share * trees
        )
        if self.two_level is not None:
            levels = self.two_level.log_odds(frame).astype(np.float64)
            blended = (1 - self.two_level_share) * blended + self.two_level_share * levels
        probability = 1 / (1 + np.exp(-blended))
        return np.column_stack([1 - probability, probability])
