"""A store for rebuilding what was recorded: reads are real, decisions are pinned, nothing is written.

Whether a rebuilt artifact is the recorded one is decided by the code that commits artifacts:
`commit` is the artifact store's own, and what it would write is kept in memory instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date

from nightshift.artifact import ArtifactRef, Decision, Manifest, identity_sha256
from nightshift.errors import ArtifactCorrupt, PartitionNotReady
from nightshift.io.artifact_store import READERS, ArtifactStore, ObjectInfo
from nightshift.io.curated import STEP as CURATED
from nightshift.usecase import parse_partition

MISSING = "missing"
"""Parameter of an artifact that read many partitions: those whose data was refused."""


@dataclass
class Pins:
    """What counted for (step, partition, variant) when an artifact was made, as its manifest says."""

    published: dict[tuple[str, date, str], ArtifactRef] = field(default_factory=dict)
    refused: set[tuple[str, date]] = field(default_factory=set)

    @classmethod
    def of(cls, manifest: Manifest, manifests: Mapping[ArtifactRef, Manifest]) -> Pins:
        """From an artifact's inputs and, through those in `manifests` (all that are rebuilt), theirs.

        `manifests` also holds the manifests of the inputs themselves; the nearer input wins where two
        are of the same partition.
        """
        pins = cls()
        seen: set[ArtifactRef] = set()
        level = [manifest]
        while level:
            nearer = list(level)
            level = []
            for made in nearer:
                pins.refused |= {(CURATED, parse_partition(day)) for day in made.parameters.get(MISSING, ())}
                for ref in (ref for refs in made.inputs.values() for ref in refs if ref not in seen):
                    seen.add(ref)
                    found = manifests.get(ref)
                    if found is not None:
                        pins.published.setdefault((found.step, parse_partition(found.partition), found.variant), ref)
                        level.append(found)
        return pins


class ReplayStore(ArtifactStore):
    """One bucket as it was when one artifact was made; see the module docstring.

    `written` is what would have been written: key -> bytes. Asking what counts for a partition that
    the artifact has no input of is answered as it was then: nothing of it was taken.
    """

    def __init__(self, store: ArtifactStore, pins: Pins) -> None:
        self.bucket = store.bucket
        self._client = store._client
        self._manifests = store._manifests
        self._pins = pins
        self.written: dict[str, bytes] = {}

    def put(
        self,
        key: str,
        body: bytes,
        *,
        immutable: bool = False,  # noqa: ARG002 - the store's signature
        content_type: str | None = None,  # noqa: ARG002
    ) -> bool:
        """Keep what would have been written."""
        self.written[key] = body
        return True

    def decide(self, use_case: str, step: str, partition: date, decision: Decision, *, variant: str = "") -> None:
        """Nothing: a replay decides nothing."""

    def decision(self, use_case: str, step: str, partition: date, *, variant: str = "") -> Decision | None:  # noqa: ARG002
        """What counted then, from the pins; rejected where nothing of the partition was an input."""
        ref = self._pins.published.get((step, partition, variant))
        if ref is not None:
            return Decision(status="published", ref=ref)
        if step == CURATED and (step, partition) not in self._pins.refused:
            # It was read or refused then, or else it was never asked about: nothing may be made up.
            return None
        return Decision(status="rejected", reason="the recorded artifact took nothing of this partition")

    def folders(self, prefix: str) -> Sequence[str]:
        """The partitions below a step's prefix that the artifact has inputs of."""
        return sorted(
            {partition.isoformat() for step, partition, _ in self._pins.published if prefix.endswith(f"/{step}/")}
        )

    def list(self, prefix: str) -> list[ObjectInfo]:
        """What lies in the bucket now is no answer. Raises PartitionNotReady."""
        raise PartitionNotReady(
            f"A replay cannot say what lay below {self.uri(prefix)} then: rebuild from artifacts, not from listings."
        )

    def committed(self, ref: ArtifactRef) -> tuple[Manifest, dict[str, bytes]]:
        """The manifest and the files of an artifact that was committed here."""
        folder = self.key(ref.uri)
        manifest = Manifest.model_validate_json(self.written[folder + "manifest.json"])
        return manifest, {entry.path: self.written[folder + entry.path] for entry in manifest.files}


def verified_manifests(store: ArtifactStore, refs: Iterable[ArtifactRef]) -> dict[ArtifactRef, Manifest]:
    """Manifests of artifacts, every byte of theirs checked: files against the manifest, it against its ref.

    Raises ArtifactCorrupt naming the first object that is not what it was.
    """

    def verified(ref: ArtifactRef) -> Manifest:
        manifest = store.manifest(ref)
        identity = identity_sha256(
            use_case=manifest.use_case,
            step=manifest.step,
            partition=manifest.partition,
            variant=manifest.variant,
            inputs=manifest.inputs,
            files=manifest.files,
            parameters=manifest.parameters,
        )
        if identity != ref.sha256:
            raise ArtifactCorrupt(
                f"{ref.uri}manifest.json is not what was committed: its contents have the identity {identity}, "
                f"the artifact is {ref.sha256}. Restore it from the bucket's versions or a copy."
            )
        for entry in manifest.files:
            store.read(ref, entry.path)
        return manifest

    wanted = list(refs)
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(wanted, pool.map(verified, wanted), strict=True))
