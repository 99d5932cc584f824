"""Find the training set that the partition's training built, so that the search uses the same rows.

Returns the artifact of `build_training_set`.
"""

from __future__ import annotations

from nightshift.artifact import ArtifactRef
from nightshift.steps.context import StepContext


def run(context: StepContext) -> ArtifactRef:
    """The training set of the partition. Raises PartitionNotReady while there is none."""
    use_case, store, partition = context.use_case, context.store, context.partition
    return store.current(use_case.name, "build_training_set", partition)
