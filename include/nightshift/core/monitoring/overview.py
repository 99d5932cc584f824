"""The values that the overview of a use case shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from nightshift.declare.use_case import UseCase


@dataclass(frozen=True)
class Night:
    """One publication. `log_loss` and `fallback_log_loss` are None until labels are known; `known`: share of labels."""

    partition: date
    prediction_date: date
    role: str
    spec_id: str
    model_version: str
    rows: int
    known: float | None
    log_loss: float | None
    expected_log_loss: float | None
    fallback_log_loss: float | None

    @property
    def version_days(self) -> int:
        """Age of the version that scored, in partitions."""
        return (self.partition - date.fromisoformat(self.model_version[:10])).days


@dataclass(frozen=True)
class OpenDrift:
    """A column that has drifted in the newest checked partition, since when."""

    drift: str
    source: str
    column_name: str
    statistic: str
    days: int
    value: float
    low: float
    high: float
    since: date
    partition: date


@dataclass(frozen=True)
class Problem:
    """Something that needs a person: what, and where to look or what to do."""

    what: str
    advice: str


@dataclass(frozen=True)
class Overview:
    """`delivered`: the newest partition that ingest decided. `nights` and `decisions`: the newest first."""

    use_case: UseCase
    delivered: date | None
    nights: Sequence[Night]
    drifts: Sequence[OpenDrift]
    problems: Sequence[Problem]
    decisions: Sequence[Mapping[str, object]]
