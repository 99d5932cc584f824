"""The recorded artifacts of a past run: lists them, checks their bytes, and offers a store to rebuild them on.

That store uses the artifact store's own `commit`, so identities are computed by the same code; what it would write
is kept in memory instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from nightshift.artifact import ArtifactRef, Decision, Manifest, identity_sha256, sha256_hex
from nightshift.documents.train import TrainingSet
from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.partitions import parse_partition
from nightshift.pipeline import STAGE_OF_STEP

MISSING_FROM = {
    "build_features": "publish",
    "append_training_rows": "publish_features",
    "build_training_set": "append_training_rows",
}
"""Steps that record for which partitions an artifact of another step was missing, and that step."""

Status = tuple[str, date, str]
"""Step, partition and variant that a status is about."""
Manifests = Mapping[ArtifactRef, Manifest]

_STEP_ORDER = {step: position for position, step in enumerate(STAGE_OF_STEP)}


def recorded_manifests(
    store: ArtifactStore, last: ArtifactRef, steps: Collection[str], partition: str
) -> tuple[list[Manifest], Manifests]:
    """The manifests of `steps` for the partition among the inputs of `last`, in step order; and all that were read.

    Inputs of other manifests are not followed. The manifests are not verified: see `changed_bytes`. Raises
    ArtifactCorrupt if a manifest is missing.
    """
    read: dict[ArtifactRef, Manifest] = {}
    level = [last]
    while level:
        manifests = dict(zip(level, in_parallel(store.stated_manifest, level), strict=True))
        read |= manifests
        followed = [one for ref, one in manifests.items() if ref == last or _is_of(one, steps, partition)]
        inputs = (ref for one in followed for refs in one.inputs.values() for ref in refs)
        level = [ref for ref in dict.fromkeys(inputs) if ref not in read]
    rebuilt = [manifest for manifest in read.values() if _is_of(manifest, steps, partition)]
    return sorted(rebuilt, key=lambda one: (_STEP_ORDER[one.step], one.variant)), read


def _is_of(manifest: Manifest, steps: Collection[str], partition: str) -> bool:
    return manifest.step in steps and manifest.partition == partition


def changed_bytes(store: ArtifactStore, manifests: Manifests) -> dict[ArtifactRef, list[str]]:
    """For each artifact, messages about its objects that differ from what was committed."""

    def changed(ref: ArtifactRef) -> list[str]:
        manifest = manifests[ref]
        texts = [] if identity_sha256(manifest) == ref.sha256 else [f"{ref.uri}manifest.json is not what was committed"]
        for entry in manifest.files:
            body = store.get(store.key(ref.uri) + entry.path)
            if body is None or sha256_hex(body) != entry.sha256:
                state = "is gone" if body is None else "does not have the bytes that were committed"
                texts.append(f"{entry.path} {state}: restore {ref.uri}{entry.path}")
        return texts

    return dict(zip(manifests, in_parallel(changed, manifests), strict=True))


def statuses(store: ArtifactStore, manifest: Manifest, manifests: Manifests) -> dict[Status, Decision]:
    """The statuses at the time an artifact was made, from its direct and indirect inputs and its missing partitions.

    `manifests`: those that were read. Of two inputs for the same step and partition the nearer one is taken.
    """
    by_step: dict[Status, Decision] = {}
    seen: set[ArtifactRef] = set()
    level = [manifest]
    while level:
        for one in level:
            for day, reason in _missing(store, one).items():
                status = (MISSING_FROM[one.step], parse_partition(day), "")
                by_step.setdefault(status, Decision(status="rejected", reason=reason))
        refs = [ref for one in level for group in one.inputs.values() for ref in group if ref not in seen]
        seen |= set(refs)
        level = [manifests[ref] for ref in dict.fromkeys(refs) if ref in manifests]
        for one in level:
            status = (one.step, parse_partition(one.partition), one.variant)
            by_step.setdefault(status, Decision(status="published", ref=one.ref))
    return by_step


def _missing(store: ArtifactStore, manifest: Manifest) -> Mapping[str, str]:
    """Partitions that an artifact was made without, with the reasons it records."""
    if manifest.step not in MISSING_FROM:
        return {}
    if manifest.step == "build_training_set":
        return store.read_document(manifest.ref, TrainingSet).missing
    missing = manifest.parameters["missing"]
    return missing if isinstance(missing, Mapping) else dict.fromkeys(missing, "it was missing then")


class RecordedStore(ArtifactStore):
    """A bucket as of the time an artifact was made: reads artifacts, returns fixed statuses, writes nothing."""

    def __init__(self, store: ArtifactStore, counted: Mapping[Status, Decision]) -> None:
        self.bucket = store.bucket
        self._client = store._client
        self._manifests = store._manifests
        self._counted = counted
        self.written: dict[str, bytes] = {}

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        immutable: bool = False,  # noqa: ARG002 - the store's signature
        replaces: str = "",  # noqa: ARG002
        content_type: str | None = None,  # noqa: ARG002
    ) -> bool:
        """Keep the object in memory; returns True."""
        self.written[key] = body if isinstance(body, bytes) else body.read_bytes()
        return True

    def decision(self, use_case: str, step: str, partition: date, *, variant: str = "") -> Decision | None:  # noqa: ARG002
        """The status at that time; None if the artifact did not read it."""
        return self._counted.get((step, partition, variant))

    def _pages(self, **query: Any) -> Iterator[Any]:
        # A listing would show objects that did not exist then.
        raise PartitionNotReady(
            "NS-STORE-005", f"Objects below {query['Prefix']} at that time are not recorded: use artifacts."
        )

    def committed(self, ref: ArtifactRef) -> tuple[Manifest, dict[str, bytes]]:
        """The manifest and the files of an artifact that was committed here."""
        folder = self.key(ref.uri)
        manifest = Manifest.model_validate_json(self.written[folder + "manifest.json"])
        return manifest, {entry.path: self.written[folder + entry.path] for entry in manifest.files}
