"""Documents of searches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar

from pydantic import Field

from nightshift.artifact import Document, Value
from nightshift.declare.models import ModelSpec


class StudyOfEstimator(Value):
    """Settings in use and the best ones found, each with its mean log loss (nats) over the study's folds.

    `trials`: mean log loss of each trial, oldest first; None for one that was ended early. `importance`: share of
    the trials' variation that each parameter explains.
    """

    in_use: Mapping[str, int | float]
    in_use_log_loss: float
    best: Mapping[str, int | float]
    best_log_loss: float
    trials: tuple[float | None, ...]
    importance: Mapping[str, float]


class StudyFold(Value):
    """Days that a fold evaluates on, their rows, and the rows before that it fits on."""

    first: date
    last: date
    train_rows: int
    rows: int


class StudyResult(Document):
    """Results of a hyperparameter study, by estimator. `last`: the newest partition of the rows it was evaluated on."""

    FILE: ClassVar[str] = "study.json"

    partition: date
    last: date
    folds: tuple[StudyFold, ...]
    estimators: Mapping[str, StudyOfEstimator]


class RaceOrigin(Document):
    """One origin of a race: the specs are fitted on rows known by `origin` and score the later partitions `scored`.

    At the newest origin their costs are `measured`, too.
    """

    FILE: ClassVar[str] = "origin.json"

    origin: date
    scored: tuple[date, ...]
    measured: bool
    baseline: str
    specs: tuple[ModelSpec, ...]


class PartitionScore(Value):
    """Quality on the rows of one partition: log loss in nats; `auc` None where only one class occurs."""

    partition: date
    rows: int
    log_loss: float
    auc: float | None


class RacedSpec(Value):
    """One spec at one origin: its scores, or why a technique did not apply. Costs only where they were measured."""

    spec: ModelSpec
    scores: tuple[PartitionScore, ...] = ()
    not_applicable: str = ""
    bytes: int | None = None
    rows_per_second: float | None = None


class Race(Document):
    """All specs of a search at one origin. `native`: costs of an XGBoost estimator in XGBoost itself, if any."""

    FILE: ClassVar[str] = "race.json"

    origin: date
    baseline: str
    specs: tuple[RacedSpec, ...]
    native: Mapping[str, float] = Field(default_factory=dict)


class ComparedSpec(Value):
    """One spec over all origins. `difference`: of its mean log loss from the best one's, with its interval.

    `contends`: not shown to be worse than the best. `on_front`: no other contender is better in log loss, speed
    and size at once.
    """

    spec: ModelSpec
    reason: str
    log_loss: float | None = None
    auc: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    bytes: int | None = None
    rows_per_second: float | None = None
    contends: bool = False
    on_front: bool = False


class Comparison(Document):
    """The outcome of a race: spec ids of the best (lowest log loss), the chosen (cheapest contender), the champion."""

    FILE: ClassVar[str] = "comparison.json"

    partitions: tuple[date, ...]
    best: str
    chosen: str
    baseline: str
    native: Mapping[str, float]
    specs: tuple[ComparedSpec, ...]


class CandidateSpec(Value):
    """A spec on the Pareto front of a search. `failed`: mandatory gates its version failed."""

    spec: ModelSpec
    chosen: bool
    failed: tuple[str, ...] = ()


class Candidates(Document):
    """The verified specs of one search, the chosen one first. Those that failed no gate may be backtested."""

    FILE: ClassVar[str] = "candidates.json"

    partition: date
    specs: tuple[CandidateSpec, ...]
