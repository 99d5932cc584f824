"""Problems for compression techniques."""

from collections.abc import Mapping, Sequence
from typing import Any

from nightshift.core.compression.problem import Problem, mean_log_odds
from nightshift.core.models.fitted import FittedModel
from nightshift.core.models.training_split import TrainingSplit


def problem_of(
    split: TrainingSplit,
    teachers: Sequence[FittedModel],
    *,
    seed: int,
    threads: int,
    parameters: Mapping[str, Mapping[str, Any]],
) -> Problem:
    """The problem of a split's training rows; the teachers answer with the mean of their log odds."""
    teacher = mean_log_odds([one.probability(split.train) for one in teachers])
    return Problem(split.train, split.train_labels, teacher, seed=seed, threads=threads, parameters=parameters)
