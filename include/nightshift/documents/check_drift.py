"""Documents of the drift check."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar, Literal

from nightshift.artifact import Document, Value

DriftKind = Literal["data", "prediction", "label"]
DriftVerdict = Literal["stable", "drifted", "not judged"]
Response = Literal["none", "alert", "retrain"]


class ColumnDrift(Value):
    """One column of one partition compared with the reference. `exceeds` is psi > threshold.

    `threshold` is None if the reference has too few days to estimate it.
    """

    column: str
    psi: float
    threshold: float | None
    exceeds: bool
    rows: int


class GroupDrift(Value):
    """Columns evaluated together. `allowed`: how many of them exceed at once on ordinary days."""

    verdict: DriftVerdict
    reason: str
    allowed: int
    columns: tuple[ColumnDrift, ...]


class Drift(Document):
    """A partition compared with the training reference of its primary version, at `quantile`.

    `counts`: rows by bin, by column. `label_rate`: share of positive labels of `label_day`, the newest that matured.
    """

    FILE: ClassVar[str] = "drift.json"

    use_case: str
    partition: date
    model_version: str
    quantile: float
    verdict: DriftVerdict
    groups: Mapping[DriftKind, GroupDrift]
    counts: Mapping[str, tuple[int, ...]]
    score: str
    label: str
    label_day: date | None
    label_rate: float | None


class DriftResponse(Document):
    """The response to a partition's drift, and the message about it."""

    FILE: ClassVar[str] = "response.json"

    response: Response
    message: str
