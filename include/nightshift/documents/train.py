"""Documents of training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar, Literal

from pydantic import Field

from nightshift.artifact import ArtifactRef, Document, Value
from nightshift.documents.predict import ScoringRole


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
