"""Documents of promotion."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Literal

from nightshift.artifact import Document, Value
from nightshift.deployment import Role


class ReviewedLoss(Value):
    """Log losses (nats) of one version's scores of a partition, on the labels known at the review.

    `rows`: predictions with a known label, of `predictions`. `raw_log_loss` and `backtest_log_loss`: of a challenger,
    before calibration and on the same rows, its loss live and in a backtest; None if not compared.
    """

    partition: date
    role: Role
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
