"""What was recorded of a training or a prediction: its artifacts in the order they were made, and what they read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nightshift.artifact import ArtifactRef, Manifest
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.replay_store import Pins, verified_manifests
from nightshift.pipeline import STAGE_OF_STEP

_ORDER = {step: position for position, step in enumerate(STAGE_OF_STEP)}


@dataclass(frozen=True)
class RecordedChain:
    """`artifacts`: manifests of what the wanted steps made, in the order of the steps (then of their mapped calls).

    `manifests`: those and the manifests of everything they read, by ref.
    """

    artifacts: tuple[Manifest, ...]
    manifests: Mapping[ArtifactRef, Manifest]

    def pins(self, manifest: Manifest) -> Pins:
        """What counted for the partitions that an artifact of the chain read."""
        return Pins.of(manifest, self.manifests)

    def made_by(self, step: str) -> list[ArtifactRef]:
        """All artifacts of a step among these, in their order."""
        return [manifest.ref for manifest in self.artifacts if manifest.step == step]

    def read(self) -> list[Manifest]:
        """Artifacts that were read and are taken as they are."""
        made = {manifest.ref for manifest in self.artifacts}
        return [manifest for ref, manifest in self.manifests.items() if ref not in made]


def recorded_chain(store: ArtifactStore, last: ArtifactRef, steps: Collection[str]) -> RecordedChain:
    """The artifacts of `steps` for the partition of `last` that it came from, itself included if its step is one.

    Every byte of them and of what they read is checked: raises ArtifactCorrupt naming the object.
    """
    manifests: dict[ArtifactRef, Manifest] = {}
    level, partition = [last], ""
    while level:
        found = verified_manifests(store, dict.fromkeys(level))
        manifests |= found
        partition = partition or found[last].partition
        # What another step or partition made is an input, and is not followed: a calibration, for instance, rests
        # on the scores of earlier partitions.
        followed = [
            manifest
            for manifest in found.values()
            if manifest.ref == last or (manifest.step in steps and manifest.partition == partition)
        ]
        inputs = [ref for manifest in followed for refs in manifest.inputs.values() for ref in refs]
        level = [ref for ref in dict.fromkeys(inputs) if ref not in manifests]
    made = [one for one in manifests.values() if one.step in steps and one.partition == partition]
    ordered = sorted(made, key=lambda m: (_ORDER[m.step], m.partition, m.attempt.map_index, m.variant))
    return RecordedChain(tuple(ordered), manifests)
