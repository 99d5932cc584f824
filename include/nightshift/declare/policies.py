"""Policies of a use case: bounds and rules for training, gates, promotion, drift and search. Cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nightshift.declare.models import Hyperparameters


@dataclass(frozen=True)
class Risk:
    """One risk of the predictions, scored as in a risk matrix (ISO 31010, B.10.3).

    `likelihood` and `impact` are 1 (lowest) to 5; `worst_case` describes the consequence.
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
    """Requirements that depend on the highest risk score.

    From `every_gate_from` on, every gate is mandatory; below it those marked `always` in
    `nightshift.core.gates.verification.GATES`. From `canary_from` on, a share of the rows publishes the challenger's
    scores before it becomes champion. From `attacks_from` on, a spec that fails a bound of AttackPolicy is not
    nominated. From `approval_from` on, a person must approve each spec before it becomes champion, within
    `approval_hours`; `approvers` are user ids of the auth manager (empty: everyone who may edit the DAG's runs).
    """

    risks: tuple[Risk, ...] = ()
    every_gate_from: int = 8
    canary_from: int = 8
    attacks_from: int = 8
    approval_from: int = 15
    approval_hours: float = 24.0
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True)
class BehaviourExpectation:
    """How the score must change when one feature changes and all others are fixed.

    `increasing` and `decreasing`: from the feature's 5th to its 95th percentile the score may change in the
    wrong direction, by more than `tolerance`, on at most `largest_share` of the rows. `invariant`: it may
    change by more than `tolerance` on at most that share.
    """

    feature: str
    direction: Literal["increasing", "decreasing", "invariant"]
    reason: str
    tolerance: float = 0.02
    largest_share: float = 0.05


@dataclass(frozen=True)
class SlicePolicy:
    """Slices: each value of each of `columns` (features). A slice with fewer than `least_rows` holdout
    rows is not evaluated. The lower bound of the interval (clustered by blocks of days) of a slice's log
    loss minus the champion's may be at most `margin_log_loss`."""

    columns: tuple[str, ...] = ()
    least_rows: int = 200
    margin_log_loss: float = 0.03
    confidence: float = 0.95


@dataclass(frozen=True)
class VerificationPolicy:
    """Bounds for every exported version.

    `onnxruntime_versions` score it in clean environments that have only numpy besides. Memory is the
    process's peak, times are of one thread. `largest_step_move` bounds the 99th percentile of the score's
    change for a one-step change of a feature; `largest_flip_share` the share of rows whose decision such
    a step changes. A feature that alone ranks rows with an AUC above `largest_single_feature_auc` counts
    as leakage of the outcome.
    """

    onnxruntime_versions: tuple[str, ...] = ("1.31.1", "1.24.4")
    largest_memory_mb: float = 600.0
    largest_single_row_p99_ms: float = 25.0
    least_rows_per_second: float = 25_000.0
    largest_step_move: float = 0.35
    largest_flip_share: float = 0.05
    largest_single_feature_auc: float = 0.85
    expectations: tuple[BehaviourExpectation, ...] = ()


@dataclass(frozen=True)
class ChangePolicy:
    """Bounds on the differences between a version and the one of the same spec that it replaces.

    `largest_shift`: of the mean log odds of the reference rows. `largest_spread`: root mean square difference of
    their log odds after subtracting the shift. `least_day_auc`: least AUC of the earlier version's scores on the
    newest day's labels, if each class occurs `least_day_rows` times there; flipped labels give a low AUC.

    Reference rows are up to `reference_rows` of the rows of `reference_days` before the newest day, and the newest
    day's. A numeric feature fails if on more than `largest_outside_share` of the newest rows it is
    outside the range of the rows before, widened by `outside_margin` of that range on both sides; or if its standard
    deviation within the day is below the least of the days before by more than the factor
    `largest_fall_of_spread`; or if its mean leaves the range of the daily means by `largest_jump` times that range. A
    feature with fewer than `least_distinct` values on a day is shared by many rows, and checked
    by its range alone, with the `shared_margin`. With fewer than `least_reference_days` of earlier rows
    features are not checked.

    The spread of ordinary versions of level_blend was .06 to .27, and .44 after the thunderstorms of 13 June 2013;
    with the labels of one day flipped it was .88, with all labels shuffled within their days .67: the bound lies
    between (benchmarks/version_gates.py). On 8 February (a blizzard, the afternoon's flights cancelled) mean departure
    left its range by three times that range: hence a factor of 4.
    """

    largest_shift: float = 0.25
    largest_spread: float = 0.6
    least_day_auc: float = 0.45
    least_day_rows: int = 10
    reference_days: int = 60
    reference_rows: int = 5_000
    least_reference_days: int = 14
    outside_margin: float = 0.5
    shared_margin: float = 3.0
    least_distinct: int = 10
    largest_outside_share: float = 0.2
    largest_fall_of_spread: float = 3.0
    largest_jump: float = 4.0


@dataclass(frozen=True)
class FeasibleChange:
    """What an attacker can change of a row: one of `offsets` is added to all of the numeric `features` at once,
    in their units. A change that leaves the range of the values of any of them is not made."""

    features: tuple[str, ...]
    offsets: tuple[float, ...]
    who: str


@dataclass(frozen=True)
class AttackPolicy:
    """Bounds on what attacks achieve against a spec (see docs/security.md). They are measured on the rows of the newest
    `days`, at most `rows`: a random half of them is fitted on, the other half are unseen rows of the same days. With
    fewer than `least_rows` unseen rows no attack is evaluated.

    Evasion lowers the scores of unseen rows by at most `most_changes` of the declared `changes`. Poisoning flips
    `flipped_share` of each day's labels, those that the version is most certain of. A back door is taught with
    `trigger_share` of the rows, whose label is 0 and whose features have the values of `trigger`. Of the rows whose
    decision is positive, evasion and the trigger may each make at most `largest_evaded_share` negative (evaluated if
    there are `least_decisions` of them), and lower the mean score by at most `largest_fall`. Flipped labels may raise
    the log loss of unseen rows by at most `largest_log_loss_rise` nats.

    Extraction fits a surrogate on the scores of so many rows (`queries`, ascending); with the last number it may
    explain at most `largest_explained` of the variance of the log odds. Membership inference tells rows that were
    fitted on from unseen ones by their loss, with an AUC of at most `largest_membership_auc`.
    """

    changes: tuple[FeasibleChange, ...] = ()
    most_changes: int = 2
    trigger: Mapping[str, float] = field(default_factory=dict)
    trigger_share: float = 0.001
    flipped_share: float = 0.05
    queries: tuple[int, ...] = (100, 1000)
    largest_evaded_share: float = 0.5
    largest_fall: float = 0.05
    largest_log_loss_rise: float = 0.05
    largest_explained: float = 0.95
    largest_membership_auc: float = 0.55
    days: int = 120
    rows: int = 40_000
    least_rows: int = 1_000
    least_decisions: int = 30


@dataclass(frozen=True)
class PromotionPolicy:
    """How a spec becomes champion, and how long a new champion is watched. Partitions count once labels matured.

    A spec passes its backtest over the newest `backtest_partitions` (refitted every `refit_every`) if the upper
    bound of the interval of its mean log loss minus the champion's (moving blocks of `block_days`, two-sided
    `confidence`) is at most `margin_log_loss`, and its largest calibration gap of a month is at most the champion's
    plus `margin_calibration`. In shadow its mean log loss may differ from the backtest's on the same partitions by
    at most `live_band`. A champion is rolled back when an e-process on its loss minus the former champion's, each
    partition clipped to +-`rollback_clip`, reaches 1 / `rollback_error`, or when its loss of one partition is worse
    by `emergency_margin`.
    A challenger that has not become champion within `longest_partitions` is withdrawn.
    """

    backtest_partitions: int = 60
    refit_every: int = 7
    margin_log_loss: float = 0.0
    margin_calibration: float = 0.01
    confidence: float = 0.9
    block_days: int = 7
    shadow_partitions: int = 3
    live_band: float = 0.01
    canary_partitions: int = 3
    canary_share: float = 0.1
    watch_partitions: int = 14
    rollback_error: float = 0.05
    rollback_clip: float = 0.03
    emergency_margin: float = 0.15
    least_rows: int = 20
    longest_partitions: int = 14


@dataclass(frozen=True)
class SearchPolicy:
    """Bounds of one search.

    The study of hyperparameters ends with its trials or seconds, whichever comes first; its trials are compared on
    `folds` of `fold_days`. The race fits all candidates at `origins`, `origin_days` apart, and scores the partitions
    in between. A search is requested on each `weekday` (0 is Monday; None: never by the calendar).
    """

    trials: int = 30
    seconds: float = 600.0
    folds: int = 3
    fold_days: int = 14
    origins: int = 6
    origin_days: int = 7
    weekday: int | None = 6


@dataclass(frozen=True)
class DataSource:
    """Where data comes from and on what terms, for the model card."""

    name: str
    licence: str
    description: str = ""


@dataclass(frozen=True)
class TrainingPolicy:
    """How `train` and `search` use training rows. Days are partitions.

    A version is fitted on all rows; `holdout_days` are held out only to measure a spec (a second fit). With fewer
    than `minimum_days` of rows nothing is trained. `estimators` and `techniques` are what `search` compares.
    """

    holdout_days: int = 14
    minimum_days: int = 28
    seed: int = 20130101
    estimators: tuple[str, ...] = ("logistic_regression", "xgboost")
    techniques: tuple[str, ...] = ("distilled_xgboost", "distilled_mlp", "distilled_mlp_int8")
    parameters: Mapping[str, Hyperparameters] = field(default_factory=dict)
    parity_tolerance: float = 1e-5


@dataclass(frozen=True)
class CompressionBudget:
    """How much worse than the best a candidate of a search may be, and what "cheap" means.

    Quality comes first: the objective only selects among candidates that are not shown to be worse than the best
    and whose mean losses are within these bounds.
    """

    largest_auc_loss: float
    largest_log_loss_increase: float
    objective: Literal["rows_per_second", "bytes"] = "rows_per_second"


@dataclass(frozen=True)
class AuditPolicy:
    """Bounds on one partition's scores before they are published.

    `least_distinct_share`: distinct scores per row; more than 10,000 rows need no more of them than 10,000 rows.
    """

    mean_score_between: tuple[float, float] = (0.01, 0.9)
    least_distinct_share: float = 0.05


@dataclass(frozen=True)
class CertaintyPolicy:
    """How the certainty of a prediction is measured, and which predictions a person reviews (see docs/certainty.md).

    Certainty and band come from the last `days` days whose labels have matured, that is are known for at least
    `least_labelled` of the predictions; with fewer than `least_days` of them there is neither. The band contains the
    level of a day with the probability `band`.

    A row is out of the domain of a version if its distance from the training rows exceeds a threshold, which is set so
    that on at most `days_beyond` of days held out more than `rows_beyond` of the rows do; with fewer than
    `least_days` of training days there is none. `margin_days` on both sides of a day that is held out are left out.

    At most `review_rows` predictions of a partition are queued for review; 0: none.
    """

    days: int = 60
    least_days: int = 14
    least_labelled: float = 0.5
    band: float = 0.8
    rows_beyond: float = 0.05
    days_beyond: float = 0.05
    margin_days: int = 7
    review_rows: int = 20


@dataclass(frozen=True)
class CorrectionPolicy:
    """Bounds on what one partition may change of the labels that were delivered before.

    A new or changed label may be delivered up to `largest_age_days` after its day. Of the labels that a partition
    delivers, at most `largest_changed_share` may be other ones than were delivered before for the same row, or withdraw
    them; the first `ordinary_changes` are not counted. Beyond either bound the partition is rejected: whoever can
    change past labels at will chooses what the next version learns.
    """

    largest_age_days: int = 60
    largest_changed_share: float = 0.1
    ordinary_changes: int = 5


@dataclass(frozen=True)
class DriftPolicy:
    """When a statistic of the last days has drifted from the `reference_days` before them (see core.monitoring.drift).

    Each of the `windows` (days) is compared with windows of the same length. The reference ends before the last
    `recent_days`, so that the days of a fault are not ordinary on its next nights. A window is judged if it holds
    `least_values`, and if the reference has data on `least_reference_days` and on four times the window's days.
    It has drifted if it is outside the reference's range by more than `factor` times the width of the range (of rows,
    ranks, rates and the commonest value: as log odds) and by more than the least change of its statistic: `least_share`
    of shares, `least_shift` of rows, ranks, rates and shapes, `least_new` of texts that are new, `least_strange` of
    numbers never seen, far outside or all alike, `least_repeated` of days that repeat the one before.

    Residuals, losses and AUC drift when their cumulative sum over `cusum_days` exceeds `cusum_bound` standard
    deviations, `cusum_slack` of them being ordinary a day and `cusum_clip` the most that a day counts (see
    core.monitoring.outcome_drift); slices with fewer than `least_slice_rows` on a day are left out of it.

    Drift that was found in the last `quiet_days` is the same drift: it causes no further response.
    """

    windows: tuple[int, ...] = (1, 7, 28)
    reference_days: int = 112
    recent_days: int = 7
    least_reference_days: int = 28
    least_values: int = 20
    factor: float = 2.0
    least_share: float = 0.05
    least_new: float = 0.01
    least_strange: float = 0.3
    least_repeated: float = 0.4
    least_shift: float = 0.1
    cusum_days: int = 28
    cusum_slack: float = 0.5
    cusum_bound: float = 8.0
    cusum_clip: float = 4.0
    least_slice_rows: int = 30
    quiet_days: int = 28

    @property
    def days(self) -> int:
        """Partitions that are read: the longest window and its reference."""
        return self.reference_days + self.outside_reference(max(self.windows))

    def outside_reference(self, window: int) -> int:
        """The last days that are not in the reference of a window of that many days."""
        return max(window, self.recent_days)

    def least_change(self, statistic: str) -> float:
        """The least change of a statistic that matters."""
        least = {"new": self.least_new, "repeated": self.least_repeated}
        least |= dict.fromkeys(("commonest", "unseen", "outside"), self.least_strange)
        least |= dict.fromkeys(("rows", "level", "spread", "shape", "rate"), self.least_shift)
        return least.get(statistic, self.least_share)
