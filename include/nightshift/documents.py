"""JSON documents that one step writes and another reads, each with its file name.

Put here: one pydantic class per document. Keep out: how a document is made or used.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightshift.artifact import ArtifactRef
from nightshift.errors import ArtifactCorrupt

ScoringRole = Literal["champion", "challenger", "former", "fallback"]


class Document(BaseModel):
    """A JSON document in an artifact; `FILE` is its path there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    FILE: ClassVar[str]

    def to_files(self) -> dict[str, bytes]:
        """The document as a file of an artifact: equal documents, equal bytes."""
        return {self.FILE: self.model_dump_json(indent=1).encode()}

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """The document. Raises ArtifactCorrupt if `body` is another kind of document."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise ArtifactCorrupt(f"This is no {cls.FILE} of this version of Nightshift: {error}") from None


class TrainingSet(Document):
    """The rows that versions of one partition are fitted on: a list of immutable files, oldest first.

    Of a row that occurs in several parts the newest part's counts. `missing`: partitions without rows, and why.
    """

    FILE: ClassVar[str] = "training_set.json"

    partition: date
    parts: tuple[ArtifactRef, ...]
    rows: int
    first: date
    last: date
    label: str
    missing: Mapping[str, str] = Field(default_factory=dict)


class ScoredModel(BaseModel):
    """A version that scores a partition. `share`: of the rows, published from it (a canary); 1 for the primary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class SpecCalibration(BaseModel):
    """Calibrated log odds = intercept + slope * log odds. `rows` and `partitions`: matured labels it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    """What became of each version that a partition's training made."""

    FILE: ClassVar[str] = "registration.json"

    class Entry(BaseModel):
        """One version: registered, or rejected by these gates."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        role: ScoringRole
        spec_id: str
        model_version: str
        model: ArtifactRef
        action: Literal["registered", "rejected"]
        why: str

    partition: date
    versions: tuple[Entry, ...]
    promoted: str = ""


class ReviewedLoss(BaseModel):
    """How one version's scores of a partition did on the labels known at the review; log losses in nats.

    `rows`: predictions with a known label, of `predictions`. `raw_log_loss` and `backtest_log_loss`: of a challenger,
    before calibration and on the same rows, its loss live and in a backtest; None where they were not compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    """What is to be done about specs after a partition, and the losses that say so.

    `spec_id`: the spec that `outcome` is about (empty for nothing); `champion`: the one there was. `alert`: what a
    person must be told whatever the outcome, or empty.
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
    """What was recorded of a review. `summary`: Markdown for the person to approve; empty if nobody is to."""

    FILE: ClassVar[str] = "advance.json"

    partition: date
    action: str
    spec_id: str
    champion: str | None
    why: str
    approval_needed: bool = False
    summary: str = ""


class Approval(Document):
    """A person's answer, or that there was none in time, and what was recorded."""

    FILE: ClassVar[str] = "approval.json"

    partition: date
    spec_id: str
    answer: str
    answered_by: str
    recorded: tuple[str, ...]
