"""Documents of training: rows, versions, their verification and registration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from nightshift.artifact import ArtifactRef, Document, Value
from nightshift.declare.models import ModelSpec
from nightshift.deployment import GateResult, Role


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


class HoldoutMetrics(Value):
    """Metrics of probabilities against labels of both classes. `log_loss` is in nats."""

    rows: int
    base_rate: float
    mean_score: float
    auc: float
    log_loss: float
    brier: float
    calibration_error: float


class Quality(Value):
    """Quality of scores on some rows: log loss in nats; `auc` None if all labels are alike."""

    log_loss: float
    brier: float
    auc: float | None
    mean_score: float
    label_rate: float


class CalibrationBin(Value):
    """One of several bins of equally many rows, by score."""

    mean_score: float
    observed_rate: float
    rows: int


class SliceQuality(Quality):
    """Quality on the rows with one value of a column, with the interval of the log loss.

    `verdict`: "too small" for a slice with too few rows or days to evaluate.
    """

    column: str
    value: str
    rows: int
    log_loss_low: float
    log_loss_high: float
    verdict: Literal["judged", "too small"]


class WorstSlice(Value):
    """The large enough slice with the highest log loss."""

    column: str
    value: str
    log_loss: float


class StepMove(Value):
    """Effect of one step of a feature: 99th percentile of the score's change, share of decisions that flip."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    p99: float
    flips: float


class ObservedBehaviour(Value):
    """The outcome for one behaviour expectation: share of rows that violate it by more than its tolerance, the worst
    violation, and whether the model reads the feature (if not, both are 0)."""

    feature: str
    direction: Literal["increasing", "decreasing", "invariant"]
    share: float
    worst: float
    read: bool


class Compared(Value):
    """One comparison: the largest difference of two scores of a row, the bound, and the error ("": none)."""

    against: str
    largest: float | None
    bound: float
    wrong: str = ""


class Parity(Document):
    """A version's graph compared with its fitted model: number of rows, coverage of the trees' splits, comparisons."""

    FILE: ClassVar[str] = "parity.json"

    probes: int
    splits: str
    compared: tuple[Compared, ...]


class Verification(Document):
    """Every gate's result for a version, and the measurements they are based on.

    `unusable`: why the version could not score; then there are no measurements but `bytes`. `runtimes`: largest
    difference of a score by onnxruntime version. `stability`: by feature.
    """

    FILE: ClassVar[str] = "verification.json"

    spec_id: str
    gates: tuple[GateResult, ...]
    unusable: str = ""
    holdout: HoldoutMetrics | None = None
    slices: tuple[SliceQuality, ...] = ()
    worst_slice: WorstSlice | None = None
    stability: Mapping[str, StepMove] = Field(default_factory=dict)
    behaviour: tuple[ObservedBehaviour, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
    parity: Parity | None = None
    runtimes: Mapping[str, float | None] = Field(default_factory=dict)
    bytes: int | None = None


class Span(Value):
    """Rows of the partitions first to last."""

    rows: int
    first_partition: date
    last_partition: date


class ModelCard(Document):
    """Purpose, training data, holdout metrics and limits of a version."""

    FILE: ClassVar[str] = "card.json"

    class Features(Value):
        """The features that the version reads, and their feature service."""

        service: str
        numeric: tuple[str, ...]
        categorical: tuple[str, ...]

    use_case: str
    title: str
    owner: str
    answers: str
    features: Features
    fitted_on: Span
    measured_on: Span
    holdout_metrics: HoldoutMetrics
    limits: str
    role: Role
    spec: ModelSpec


class Registration(Document):
    """The versions that a partition's training fitted, each registered or rejected."""

    FILE: ClassVar[str] = "registration.json"

    class Entry(Value):
        """One version: registered, or rejected by these gates."""

        role: Role
        spec_id: str
        model_version: str
        model: ArtifactRef
        action: Literal["registered", "rejected"]
        why: str

    partition: date
    versions: tuple[Entry, ...]
    promoted: str = ""
