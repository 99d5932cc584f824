"""The input of every compression technique besides the model: rows, labels, teacher and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from nightshift.core.arrays import Floats, Integers, evenly
from nightshift.core.evaluation import log_loss, log_odds
from nightshift.core.models.training_split import validation_rows
from nightshift.declare.models import Hyperparameters

MOST_FITTING_ROWS = 40_000
"""Techniques that only adjust a model use this many older rows: more only take longer."""


@dataclass(frozen=True)
class Problem:
    """The training rows, the teacher's probabilities for them, and settings.

    `train`: rows with the column `partition`; `labels` (0 or 1) and `teacher` (P(label = 1)) have one value for
    each. The teacher is always the mean of the log odds of a spec's estimators: an ensemble teaches better than its
    best member (Hinton et al. 2015). `parameters`: hyperparameters by technique that override its defaults.
    """

    train: pa.Table
    labels: Integers
    teacher: Floats
    seed: int
    threads: int
    parameters: Mapping[str, Hyperparameters] = field(default_factory=dict)

    @cached_property
    def validation(self) -> Integers:
        """Positions of the validation rows: the newest days of `train`, see `validation_rows`.

        The models were fitted on them, too, so they are used to compare changes, not to measure a model's quality.
        """
        return validation_rows(self.train)

    @cached_property
    def fitting(self) -> Integers:
        """Positions of older rows to adjust a model on: at most MOST_FITTING_ROWS, evenly spread."""
        older = np.setdiff1d(np.arange(self.train.num_rows), self.validation, assume_unique=True)
        if len(older) == 0:
            return self.validation
        return np.asarray(older[evenly(len(older), MOST_FITTING_ROWS)])

    def validation_loss(self, log_odds: Floats) -> float:
        """Log loss (nats) of log odds of the validation rows."""
        return log_loss(self.labels[self.validation], 1 / (1 + np.exp(-log_odds)))

    def settings(self, technique: str, defaults: Hyperparameters) -> Hyperparameters:
        """A technique's defaults, overridden by the use case's values."""
        return {**defaults, **self.parameters.get(technique, {})}


def mean_log_odds(probabilities: Sequence[Floats]) -> Floats:
    """Probabilities [n] whose log odds are the mean of the log odds of `probabilities`."""
    mean = np.mean([log_odds(probability) for probability in probabilities], axis=0)
    return np.asarray(1 / (1 + np.exp(-mean)))
