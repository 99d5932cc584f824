"""JSON documents that one step writes and another reads, each with its file name.

Put here: one pydantic class per document. Keep out: how a document is made or used.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from nightshift.artifact import ArtifactRef, Value
from nightshift.declare.models import ModelSpec
from nightshift.deployment import GateResult
from nightshift.errors import ArtifactCorrupt

ScoringRole = Literal["champion", "challenger", "former", "fallback"]


class Document(Value):
    """A JSON document in an artifact; `FILE` is its path there."""

    FILE: ClassVar[str]

    def to_files(self) -> dict[str, bytes]:
        """The document as a file of an artifact: equal documents, equal bytes."""
        return {self.FILE: self.model_dump_json(indent=1).encode()}

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Parse a file that `to_files` wrote. Raises ArtifactCorrupt if `body` is another kind of document."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise ArtifactCorrupt(
                "NS-STORE-008", f"This is not a {cls.FILE} of this version of Nightshift: {error}"
            ) from None


class TrainingSet(Document):
    """The rows that versions of one partition are fitted on: a list of immutable files, oldest first.

    Where a row occurs in several parts, the newest part is used. `missing`: partitions without rows, with the reason.
    """

    FILE: ClassVar[str] = "training_set.json"

    partition: date
    parts: tuple[ArtifactRef, ...]
    rows: int
    first: date
    last: date
    label: str
    missing: Mapping[str, str] = Field(default_factory=dict)


class ScoredModel(Value):
    """A version that scores a partition. `share` of the rows publish its score (canary); 1 for the primary."""

    role: ScoringRole
    spec_id: str
    model_version: str
    model: ArtifactRef
    trained_on: date
    share: float = 0.0


class ModelChoice(Document):
    """Which versions score a partition: the primary, whose scores are published, and shadows."""

    FILE: ClassVar[str] = "model_choice.json"

    primary: ScoredModel
    shadows: tuple[ScoredModel, ...] = ()
    why: str

    @property
    def scored(self) -> tuple[ScoredModel, ...]:
        """The primary, then the shadows."""
        return (self.primary, *self.shadows)


class SpecCalibration(Value):
    """Calibrated log odds = intercept + slope * log odds. `rows`, `partitions`: the matured labels it was fitted on."""

    intercept: float = 0.0
    slope: float = 1.0
    rows: int = 0
    partitions: tuple[date, ...] = ()


class Calibration(Document):
    """The calibration of every spec that scores a partition, by spec id."""

    FILE: ClassVar[str] = "calibration.json"

    partition: date
    specs: Mapping[str, SpecCalibration]


class Registration(Document):
    """The versions that a partition's training fitted, each registered or rejected."""

    FILE: ClassVar[str] = "registration.json"

    class Entry(Value):
        """One version: registered, or rejected by these gates."""

        role: ScoringRole
        spec_id: str
        model_version: str
        model: ArtifactRef
        action: Literal["registered", "rejected"]
        why: str

    partition: date
    versions: tuple[Entry, ...]
    promoted: str = ""


class PairedDifference(Value):
    """Mean log loss minus another's on the same rows, in nats; negative is better.

    `low` and `high` bound a two-sided interval; None if there are too few days for one.
    """

    mean: float
    low: float | None
    high: float | None


class BacktestMonth(Value):
    """One calendar month of predictions. `calibration_gap`: mean score minus share of positives."""

    month: str
    rows: int
    log_loss: float
    auc: float | None
    calibration_gap: float


class BacktestSlice(Value):
    """One slice compared with the champion; the interval holds for all slices at once. None: too few rows."""

    column: str
    value: str
    rows: int
    log_loss: float
    difference: PairedDifference | None


class BacktestSeries(Value):
    """Figures of one spec in a backtest. `differences`: from champion, fallback and its own frozen first version.

    `baseline` is empty, or `frozen` (the first version, never refitted nor calibrated), or `frozen_calibrated`.
    `graph_difference`: the largest difference of a score between the fitted pipeline and its ONNX graph.
    """

    role: Literal["champion", "fallback", "challenger"]
    spec_id: str
    baseline: str
    spec: ModelSpec
    partitions: int
    rows: int
    log_loss: float
    brier: float
    auc: float | None
    worst_calibration_gap: float
    months: tuple[BacktestMonth, ...]
    slices: tuple[BacktestSlice, ...] = ()
    differences: Mapping[str, PairedDifference] = Field(default_factory=dict)
    graph_difference: float | None = None


class BacktestResult(Document):
    """A walk-forward over the partitions first to last, with the labels known by `partition`."""

    FILE: ClassVar[str] = "backtest.json"

    partition: date
    first: date
    last: date
    refit_every: int
    block_days: int
    confidence: float
    champion: str
    fallback: str
    missing: Mapping[str, str] = Field(default_factory=dict)
    series: tuple[BacktestSeries, ...]

    def one(self, spec_id: str, baseline: str = "") -> BacktestSeries:
        """The series of a spec. Raises ArtifactCorrupt if there is none."""
        for series in self.series:
            if (series.spec_id, series.baseline) == (spec_id, baseline):
                return series
        raise ArtifactCorrupt(
            "NS-STORE-009", f"The backtest has no series {spec_id} {baseline}; run it again with that spec."
        )


class ReviewedLoss(Value):
    """Log losses (nats) of one version's scores of a partition, on the labels known at the review.

    `rows`: predictions with a known label, of `predictions`. `raw_log_loss` and `backtest_log_loss`: of a challenger,
    before calibration and on the same rows, its loss live and in a backtest; None if not compared.
    """

    partition: date
    role: ScoringRole
    spec_id: str
    model_version: str
    rows: int
    predictions: int
    log_loss: float
    raw_log_loss: float | None = None
    backtest_log_loss: float | None = None


ReviewOutcome = Literal[
    "nothing", "hold", "canary", "ask_approval", "promote", "withdraw", "time_out", "confirm", "roll_back"
]


class Review(Document):
    """The outcome of the review of the specs after a partition, and the losses it is based on.

    `spec_id`: the spec that `outcome` is about (empty for nothing); `champion`: the champion at the review. `alert`:
    text to notify a person of, whatever the outcome; or empty.
    """

    FILE: ClassVar[str] = "review.json"

    partition: date
    outcome: ReviewOutcome
    spec_id: str = ""
    champion: str | None = None
    share: float = 0.0
    why: str
    alert: str = ""
    losses: tuple[ReviewedLoss, ...] = ()


class Advance(Document):
    """What was recorded after a review. `summary`: Markdown for the approver; empty if no approval is needed."""

    FILE: ClassVar[str] = "advance.json"

    partition: date
    action: str
    spec_id: str
    champion: str | None
    why: str
    approval_needed: bool = False
    summary: str = ""


class Approval(Document):
    """The approver's answer, or a timeout, and what was recorded."""

    FILE: ClassVar[str] = "approval.json"

    partition: date
    spec_id: str
    answer: str
    answered_by: str
    recorded: tuple[str, ...]


class Nomination(Document):
    """The outcome of a backtest by spec id (shadow, backtest_failed or left: nothing recorded), why, and the gates."""

    FILE: ClassVar[str] = "nomination.json"

    partition: date
    outcomes: Mapping[str, str]
    why: Mapping[str, str]
    gates: Mapping[str, tuple[GateResult, ...]]


class StudyOfEstimator(Value):
    """Settings in use and the best ones found, each with its mean log loss (nats) over the study's folds.

    `trials`: mean log loss of each trial, oldest first; None for one that was ended early. `importance`: share of
    the trials' variation that each parameter explains.
    """

    in_use: Mapping[str, Any]
    in_use_log_loss: float
    best: Mapping[str, Any]
    best_log_loss: float
    trials: tuple[float | None, ...]
    importance: Mapping[str, float]


class StudyResult(Document):
    """Results of a hyperparameter study, by estimator. `last`: the newest partition of the rows it was evaluated on."""

    FILE: ClassVar[str] = "study.json"

    partition: date
    last: date
    folds: tuple[Mapping[str, Any], ...]
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
