"""The first argument of every step: use case, settings, store and partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Required, TypedDict, Unpack

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings


class ArtifactContent(TypedDict, total=False):
    """Arguments of `ArtifactStore.commit` besides use case, step and partition."""

    kind: Required[str]
    files: Required[Mapping[str, bytes | pa.Table]]
    inputs: Mapping[str, Sequence[ArtifactRef]]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    rows: int
    variant: str
    current: bool


@dataclass(frozen=True)
class StepContext:
    """A step runs on one partition of one use case."""

    use_case: UseCase
    settings: Settings
    store: ArtifactStore
    partition: date

    @property
    def warehouse(self) -> Warehouse:
        """The use case's schema in the warehouse."""
        return Warehouse(self.settings, self.use_case)

    def commit(self, step: str, **content: Unpack[ArtifactContent]) -> ArtifactRef:
        """Commit an artifact of this partition. Raises as `ArtifactStore.commit` does."""
        return self.store.commit(use_case=self.use_case.name, step=step, partition=self.partition, **content)
