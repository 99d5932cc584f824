"""What a use case demands of its models before and after they go into service. Plain data, cheap to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Risk:
    """One thing that can go wrong with the predictions, scored as in a risk matrix (ISO 31010, B.10.3).

    `likelihood` and `impact` are 1 (lowest) to 5; `worst_case` says what would happen, in words.
    """

    name: str
    likelihood: int
    impact: int
    worst_case: str

    def __post_init__(self) -> None:
        if not (1 <= self.likelihood <= 5 and 1 <= self.impact <= 5):
            raise ValueError(f"risk {self.name!r}: likelihood and impact are 1 to 5")

    @property
    def score(self) -> int:
        """Likelihood times impact, 1 to 25."""
        return self.likelihood * self.impact


@dataclass(frozen=True)
class RiskPolicy:
    """What the highest risk score demands.

    From `every_gate_from` on, every gate is mandatory; below it those of `nightshift.core.gates.ALWAYS`.
    From `approval_from` on, a person must approve each model before it becomes champion, within
    `approval_hours`; `approvers` are user ids as the auth manager knows them (empty: whoever may edit
    the DAG's runs).
    """

    risks: tuple[Risk, ...] = ()
    every_gate_from: int = 8
    approval_from: int = 15
    approval_hours: float = 24.0
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True)
class BehaviourExpectation:
    """How the score must move when one feature moves and all others stay.

    `increasing` and `decreasing`: from the feature's 5th to its 95th percentile the score may go the
    wrong way, by more than `tolerance`, on at most `largest_share` of the rows. `invariant`: it may
    move by more than `tolerance` on at most that share.
    """

    feature: str
    direction: Literal["increasing", "decreasing", "invariant"]
    reason: str
    tolerance: float = 0.02
    largest_share: float = 0.05


@dataclass(frozen=True)
class SlicePolicy:
    """Slices: each value of each of `columns` (features). A slice with fewer than `least_rows` holdout
    rows is too small to judge. A slice may not fall behind the champion by more than
    `margin_log_loss`, shown by the lower bound of a bootstrap interval over blocks of days."""

    columns: tuple[str, ...] = ()
    least_rows: int = 200
    margin_log_loss: float = 0.03
    resamples: int = 500
    confidence: float = 0.95


@dataclass(frozen=True)
class VerificationPolicy:
    """Bounds that every exported candidate is held to.

    `onnxruntime_versions` are asked in clean environments with numpy and nothing else. Memory is the
    process's peak, times are of one thread. `largest_step_move` bounds the 99th percentile of how far
    the score moves for a one-step change of a feature; `largest_flip_share` the share of rows whose
    decision such a step changes. A feature that alone ranks rows with an AUC above
    `largest_single_feature_auc` has seen the outcome.
    """

    onnxruntime_versions: tuple[str, ...] = ("1.31.1", "1.24.4")
    largest_memory_mb: float = 600.0
    largest_single_row_p99_ms: float = 25.0
    least_rows_per_second: float = 25_000.0
    largest_step_move: float = 0.35
    largest_flip_share: float = 0.05
    largest_calibration_error: float = 0.10
    largest_single_feature_auc: float = 0.85
    expectations: tuple[BehaviourExpectation, ...] = ()


@dataclass(frozen=True)
class TrialPolicy:
    """How a challenger becomes champion, and how long a fresh champion is watched.

    Nights count once their labels have matured. `confidence` and the margins are of a one-sided
    paired t-test on the nights' mean differences of log loss (blocks of days). A challenger that
    was not shown to be no worse than the margin within `longest_nights` of a stage is withdrawn.
    `emergency_margin` ends a canary or takes back a fresh champion after a single night.
    """

    shadow_nights: int = 3
    canary_nights: int = 3
    canary_share: float = 0.1
    standby_nights: int = 3
    longest_nights: int = 10
    margin_log_loss: float = 0.01
    emergency_margin: float = 0.1
    confidence: float = 0.95
    least_rows: int = 200


@dataclass(frozen=True)
class SearchPolicy:
    """Bounds of one hyperparameter search: whichever of trials and seconds ends first, and the folds of days
    that a trial is judged on."""

    trials: int = 30
    seconds: float = 600.0
    folds: int = 3
    fold_days: int = 14


@dataclass(frozen=True)
class DataSource:
    """Where data comes from and on what terms, for the model card."""

    name: str
    licence: str
    description: str = ""
