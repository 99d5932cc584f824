"""Find the training set that the partition's training built; the search makes none of its own.

Returns the artifact of `build_training_set`.
"""

from __future__ import annotations

from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.usecase import UseCase


def run(use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date) -> ArtifactRef:  # noqa: ARG001
    """The training set of the partition. Raises PartitionNotReady while there is none."""
    return store.current(use_case.name, "build_training_set", partition)
