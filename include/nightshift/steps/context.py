"""The first argument of every step: use case, settings, store and partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

import pyarrow as pa

from nightshift.artifact import ArtifactRef
from nightshift.declare.use_case import UseCase
from nightshift.errors import Superseded
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.pipeline import STAGE_OF_STEP
from nightshift.settings import Settings


class ArtifactContent(TypedDict, total=False):
    """Arguments of `ArtifactStore.commit` besides use case, step and partition."""

    kind: Required[str]
    files: Required[Mapping[str, bytes | Path | pa.Table]]
    inputs: Mapping[str, Sequence[ArtifactRef]]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    rows: int
    variant: str
    current: bool
    replaces: str | None


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

    def check_current(self, step: str, ref: ArtifactRef, *, variant: str = "", read_by: str = "") -> None:
        """Raise Superseded unless `ref` is what counts for this partition of a step, and is made from what counts.

        For steps that publish: cleared by a person, they run days after the tasks that they got their inputs from,
        and after a new delivery whose later stages may have failed. Of the inputs, and of theirs, the delivery and the
        features of this partition are checked. `read_by`: the step to run again; by default this one.
        """
        decision = self.store.decision(self.use_case.name, step, self.partition, variant=variant)
        current = decision.published if decision else None
        if current != ref:
            counts = current.uri if current else "none"
            raise Superseded(
                "NS-NIGHT-001",
                f"{ref.uri} was superseded by another run of {self.partition}; the one that counts is {counts}. "
                f"Nothing was published. To publish again, clear {self.use_case.name}.{STAGE_OF_STEP[read_by or step]} "
                f"of {self.partition} from its first task.",
            )
        inputs = self.store.manifest(ref).inputs
        for one in (*inputs.get("curated", ()), *inputs.get("features", ())):
            # <bucket>/<use case>/<stage>/<step>/<partition>/<id>/
            made_by, partition = one.uri.split("/")[-4:-2]
            if partition == self.partition.isoformat():
                self.check_current(made_by, one, read_by=step)

    def status_tag(self, step: str) -> str:
        """A tag of the status of this partition of a step, for `replaces` of `commit`; "" if it has none."""
        return self.store.status_tag(self.use_case.name, step, self.partition)

    def commit(self, step: str, **content: Unpack[ArtifactContent]) -> ArtifactRef:
        """Commit an artifact of this partition. Raises as `ArtifactStore.commit` does."""
        return self.store.commit(use_case=self.use_case.name, step=step, partition=self.partition, **content)
