"""A training set's two parts: rows to fit on, and newer holdout rows to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.arrays import Integers
from nightshift.core.features.feature_computation import PARTITION as PARTITION
from nightshift.core.features.training_rows import SPLIT, with_split
from nightshift.declare.policies import TrainingPolicy
from nightshift.errors import DataContractError


@dataclass(frozen=True)
class TrainingSplit:
    """`train` and `holdout` have the same columns; every holdout partition is newer than every training one."""

    train: pa.Table
    holdout: pa.Table
    label: str

    @property
    def train_labels(self) -> Integers:
        """0 or 1 for each row of `train`."""
        return _labels(self.train, self.label)

    @property
    def holdout_labels(self) -> Integers:
        """0 or 1 for each row of `holdout`."""
        return _labels(self.holdout, self.label)


def split_rows(rows: pa.Table, label: str, policy: TrainingPolicy) -> TrainingSplit:
    """Split rows with `partition`, the newest `holdout_days` partitions held out.

    Raises TerminalError for too few partitions, DataContractError as `split_training_set` does.
    """
    return split_training_set(
        with_split(rows, holdout_days=policy.holdout_days, minimum_days=policy.minimum_days), label
    )


def split_training_set(table: pa.Table, label: str) -> TrainingSplit:
    """Split by the column `split` ('train' or 'holdout').

    Raises DataContractError if a part is empty or has one class only, or if a training row is as
    new as a holdout row: metrics on days that a model was fitted on are too good.
    """
    parts = {name: table.filter(pc.equal(table[SPLIT], name)) for name in ("train", "holdout")}
    split = TrainingSplit(parts["train"], parts["holdout"], label)
    for name, part in parts.items():
        classes = np.unique(_labels(part, label)).tolist()
        if classes != [0, 1]:
            raise DataContractError(
                "NS-TRAIN-003",
                f"The {name} rows of the training set ({part.num_rows} of {table.num_rows}) have the labels {classes} "
                f"in {label!r}, but a model needs both 0 and 1. Take more days: see holdout_days and minimum_days "
                "in the use case's training policy.",
            )
    newest_train, oldest_holdout = pc.max(split.train[PARTITION]).as_py(), pc.min(split.holdout[PARTITION]).as_py()
    if newest_train >= oldest_holdout:
        raise DataContractError(
            "NS-TRAIN-004",
            f"Training rows reach to partition {newest_train}, holdout rows begin at {oldest_holdout}: "
            "the holdout must be newer. Build the training set again.",
        )
    return split


def _labels(table: pa.Table, label: str) -> Integers:
    return np.asarray(table[label].to_numpy(), dtype=np.int64)


VALIDATION_SHARE = 0.15
"""The newest days with about this share of the training rows measure what a change to a model costs or gains."""


def validation_rows(train: pa.Table) -> Integers:
    """Positions of the newest rows of a table with the column `partition`: whole days, about VALIDATION_SHARE of it."""
    days = pc.cast(train[PARTITION], pa.date32()).to_numpy()
    ordered, counts = np.unique(days, return_counts=True)
    newest_first = np.cumsum(counts[::-1])
    count = int(np.searchsorted(newest_first, VALIDATION_SHARE * len(days))) + 1
    return np.flatnonzero(days >= ordered[max(len(ordered) - count, min(1, len(ordered) - 1))])
