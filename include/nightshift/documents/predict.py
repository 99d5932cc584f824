"""Documents of prediction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar

from pydantic import Field

from nightshift.artifact import ArtifactRef, Document, Value
from nightshift.deployment import ScoringRole


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
    """Calibrated log odds = intercept + slope * log odds. `rows`, `partitions`: the matured labels it was fitted on.

    `shifts`: by past partition, how far the level of its labels was from its calibrated scores, in log odds (see
    core.inference.certainty).
    """

    intercept: float = 0.0
    slope: float = 1.0
    rows: int = 0
    partitions: tuple[date, ...] = ()
    shifts: Mapping[date, float] = Field(default_factory=dict)


class Calibration(Document):
    """The calibration of every spec that scores a partition, by spec id."""

    FILE: ClassVar[str] = "calibration.json"

    partition: date
    specs: Mapping[str, SpecCalibration]
