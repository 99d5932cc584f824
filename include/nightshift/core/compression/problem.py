"""What every compression technique gets beside the model, and the rows it may look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Floats, Integers
from nightshift.core.features.feature_computation import PARTITION
from nightshift.core.models.evaluation import log_odds

VALIDATION_SHARE = 0.15
"""Of the training rows, the newest days with about this share judge how far a technique may go."""

MOST_FITTING_ROWS = 40_000
"""Techniques that only adjust a model look at this many older rows: more change nothing but the time it takes."""


@dataclass(frozen=True)
class Problem:
    """The training rows, the teacher's probabilities for them, and how to work.

    `train`: rows with the column `partition`; `labels` (0 or 1) and `teacher` (P(label = 1)) have one value for
    each. The teacher is always the mean of the log odds of a spec's estimators: an ensemble teaches better than its
    best member (Hinton et al. 2015). `parameters` are hyperparameters by technique, over the technique's own.
    """

    train: pa.Table
    labels: Integers
    teacher: Floats
    seed: int
    threads: int
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def validation(self) -> Integers:
        """Positions of the validation rows: whole days, the newest of `train`, about VALIDATION_SHARE of its rows.

        The models were fitted on them, too: they tell which of two changes costs less, not how good a model is.
        """
        days = pc.cast(self.train[PARTITION], pa.date32()).to_numpy()
        ordered, counts = np.unique(days, return_counts=True)
        newest_first = np.cumsum(counts[::-1])
        taken = int(np.searchsorted(newest_first, VALIDATION_SHARE * len(days))) + 1
        return np.flatnonzero(days >= ordered[max(len(ordered) - taken, min(1, len(ordered) - 1))])

    @cached_property
    def fitting(self) -> Integers:
        """Positions of older rows to adjust a model on: at most MOST_FITTING_ROWS, evenly spread."""
        older = np.setdiff1d(np.arange(self.train.num_rows), self.validation, assume_unique=True)
        if len(older) == 0:
            return self.validation
        spread = np.linspace(0, len(older) - 1, min(len(older), MOST_FITTING_ROWS)).astype(np.int64)
        return np.asarray(older[np.unique(spread)])

    def settings(self, technique: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """A technique's defaults with the use case's own values over them."""
        return {**defaults, **self.parameters.get(technique, {})}


def mean_log_odds(probabilities: Sequence[Floats]) -> Floats:
    """The probabilities [n] that have the mean of the given ones' log odds."""
    answers = np.mean([log_odds(probability) for probability in probabilities], axis=0)
    return np.asarray(1 / (1 + np.exp(-answers)))
