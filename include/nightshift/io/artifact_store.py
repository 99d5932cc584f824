"""Artifacts and the statuses of partitions in an object store.

Layout below the bucket:

    landing/<use case>/<feed>/dt=<partition>/*                            files that producers deliver
    <use case>/<stage>/<step>/<partition>/<content id>/...                immutable artifacts
    <use case>/<stage>/<step>/<partition>/<content id>/manifest.json      written last: the commit mark
    <use case>/<stage>/<step>/<partition>/current[-<variant>].json        the status: the current artifact, or rejected
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nightshift.artifact import ArtifactRef, Decision, Document, FileEntry, Manifest, identity_sha256, sha256_hex
from nightshift.errors import ArtifactCorrupt, PartitionNotReady, StatusChanged
from nightshift.io.content import content_sha256, content_size
from nightshift.io.object_store import ObjectStore, in_parallel
from nightshift.io.provenance import code_version, finished_attempt, library_versions, lock_sha256
from nightshift.pipeline import STAGE_OF_STEP
from nightshift.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

D = TypeVar("D", bound=Document)

KEPT_MANIFESTS = 4096
ROW_GROUP_ROWS = 65_536
"""Rows of a Parquet file that are read and filtered together."""
_CURRENT = re.compile(r"current(?:-(.+))?\.json")


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet (zstd). Equal tables give equal bytes within one pyarrow version."""
    # Readers of documents must not wait for the import of Arrow.
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


class ArtifactStore(ObjectStore):
    """The bucket with the artifacts of all use cases."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._manifests: dict[ArtifactRef, Manifest] = {}

    # Artifacts

    def commit(
        self,
        *,
        use_case: str,
        step: str,
        partition: date,
        kind: str,
        files: Mapping[str, bytes | Path | pa.Table],
        inputs: Mapping[str, Sequence[ArtifactRef]] | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        rows: int = 0,
        variant: str = "",
        current: bool = True,
        replaces: str | None = None,
    ) -> ArtifactRef:
        """Write the files, then the manifest, then (with `current`) publish it as the status of the partition.

        With `replaces`, a tag that `status_tag` returned, raises StatusChanged if that status has changed since.
        `files` maps paths below the artifact to bytes, local files or tables (written as Parquet). If an artifact
        with the same inputs, parameters and bytes exists, nothing is written. Returns its ref.
        """
        inputs, parameters = inputs or {}, parameters or {}
        bodies = {path: f if isinstance(f, bytes | Path) else parquet_bytes(f) for path, f in sorted(files.items())}
        table_rows = {path: _table_rows(path, f) for path, f in files.items()}
        entries = [
            FileEntry(path=path, sha256=content_sha256(body), bytes=content_size(body), rows=table_rows.get(path))
            for path, body in bodies.items()
        ]
        prefix = f"{self.step_prefix(use_case, step)}{partition}/"
        manifest = Manifest(
            use_case=use_case,
            stage=STAGE_OF_STEP[step],
            step=step,
            partition=partition.isoformat(),
            variant=variant,
            ref=ArtifactRef(uri=self.uri(prefix), sha256="", kind=kind, rows=rows),
            inputs=inputs,
            files=entries,
            parameters=parameters,
            metrics=metrics or {},
            code_version=code_version(),
            lock_sha256=lock_sha256(),
            libraries=library_versions(),
            attempt=finished_attempt(),
        )
        digest = identity_sha256(manifest)
        folder = f"{prefix}{digest[:16]}/"
        ref = manifest.ref.model_copy(update={"uri": self.uri(folder), "sha256": digest})
        manifest = manifest.model_copy(update={"ref": ref})
        in_parallel(lambda item: self.put(folder + item[0], item[1], immutable=True), bodies.items())
        self.put(folder + "manifest.json", manifest.model_dump_json(indent=1).encode(), immutable=True)
        if current:
            published = Decision(status="published", ref=ref)
            self.decide(use_case, step, partition, published, variant=variant, replaces=replaces)
        return ref

    def stated_manifest(self, ref: ArtifactRef) -> Manifest:
        """The manifest of an artifact, not verified: to compare it. Raises ArtifactCorrupt if it is missing."""
        body = self.get(self.key(ref.uri) + "manifest.json")
        if body is None:
            raise ArtifactCorrupt(
                "NS-STORE-015", f"{ref.uri}manifest.json is missing: the artifact was never committed or was deleted."
            )
        return Manifest.model_validate_json(body)

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The manifest of an artifact, its identity recomputed. Raises ArtifactCorrupt if it is missing or changed."""
        manifest = self.stated_manifest(ref)
        # What the manifest states about itself counts for nothing: whoever may write to the bucket may have edited it.
        identity = identity_sha256(manifest)
        if (manifest.ref.uri, identity) != (ref.uri, ref.sha256):
            raise ArtifactCorrupt(
                "NS-STORE-016",
                f"{ref.uri}manifest.json is of {manifest.ref.uri} with the content {identity}, not of {ref.sha256}: it "
                f"was changed after it was committed, or another artifact is meant. Restore it, or run its step again.",
            )
        if len(self._manifests) >= KEPT_MANIFESTS:
            self._manifests.clear()
        self._manifests[ref] = manifest
        return manifest

    def read(self, ref: ArtifactRef, path: str) -> bytes:
        """One file of an artifact, its hash checked. Raises ArtifactCorrupt."""
        entry = self._entry(ref, path)
        body = self.get(self.key(ref.uri) + path)
        if body is None or sha256_hex(body) != entry.sha256:
            raise _corrupt(ref, path, is_missing=body is None)
        return body

    @contextmanager
    def opened(self, ref: ArtifactRef, path: str) -> Iterator[Path]:
        """A copy of one file of an artifact on the local disk, its hash checked: for what does not fit in memory.

        Removed at the end of the block. Raises ArtifactCorrupt.
        """
        entry = self._entry(ref, path)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            sha256 = self.download(self.key(ref.uri) + path, copy)
            if sha256 != entry.sha256:
                raise _corrupt(ref, path, is_missing=sha256 is None)
            yield copy

    def _entry(self, ref: ArtifactRef, path: str) -> FileEntry:
        # Manifests never change: one verified copy serves all files of the artifact.
        manifest = self._manifests.get(ref) or self.manifest(ref)
        entry = next((f for f in manifest.files if f.path == path), None)
        if entry is None:
            raise ArtifactCorrupt("NS-STORE-017", f"The manifest of {ref.uri} names no file {path!r}.")
        return entry

    def read_document(self, ref: ArtifactRef, document: type[D]) -> D:
        """A JSON document of an artifact, its hash checked. Raises ArtifactCorrupt."""
        return document.from_bytes(self.read(ref, document.FILE))

    def read_table(self, ref: ArtifactRef, path: str) -> pa.Table:
        """A Parquet file of an artifact as a table, its hash checked."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.read_table(pa.BufferReader(self.read(ref, path)))

    # Partitions

    def step_prefix(self, use_case: str, step: str) -> str:
        """Key prefix of all partitions of a step."""
        return f"{use_case}/{STAGE_OF_STEP[step]}/{step}/"

    def decide(
        self,
        use_case: str,
        step: str,
        partition: date,
        decision: Decision,
        *,
        variant: str = "",
        only_if_undecided: bool = False,
        replaces: str | None = None,
    ) -> bool:
        """Write the status of a partition of a step, replacing an earlier one.

        With `only_if_undecided`, an earlier status is kept. With `replaces`, a tag that `status_tag` returned, raises
        StatusChanged if that status has changed since. Returns whether this status was written.
        """
        key, body = self._decision_key(use_case, step, partition, variant), decision.model_dump_json(indent=1).encode()
        if replaces is None:
            return self.put(key, body, immutable=only_if_undecided)
        if not self.put(key, body, immutable=not replaces, replaces=replaces) and self.get(key) != body:
            raise StatusChanged(
                "NS-STORE-067",
                f"{use_case} {step} of {partition} was decided by another run meanwhile; this one decided nothing. "
                f"It is tried again, and fails if its inputs were superseded.",
            )
        return True

    def status_tag(self, use_case: str, step: str, partition: date, *, variant: str = "") -> str:
        """A tag that changes with the status of a partition of a step; "" if it has none."""
        return self.tag(self._decision_key(use_case, step, partition, variant))

    def decision(self, use_case: str, step: str, partition: date, *, variant: str = "") -> Decision | None:
        """The status of a partition of a step, or None if it has none yet."""
        body = self.get(self._decision_key(use_case, step, partition, variant))
        return None if body is None else Decision.model_validate_json(body)

    def decisions(self, use_case: str, step: str, partitions: Sequence[date]) -> dict[date, Decision | None]:
        """`decision` of many partitions, read in parallel."""
        statuses = in_parallel(lambda partition: self.decision(use_case, step, partition), partitions)
        return dict(zip(partitions, statuses, strict=True))

    def decided_at(self, use_case: str, step: str, partition: date) -> datetime | None:
        """When a partition of a step got its status, by the store's clock (UTC, whole seconds); None without one."""
        return next((info.modified for info in self.list(self._decision_key(use_case, step, partition, ""))), None)

    def variants(self, use_case: str, step: str, partition: date) -> dict[str, Decision]:
        """The statuses of a partition of a step by variant; "" is the one without a variant."""
        folder = f"{self.step_prefix(use_case, step)}{partition}/"
        names = (info.key.removeprefix(folder) for info in self.list(folder))
        variants = [match[1] or "" for name in names if (match := _CURRENT.fullmatch(name))]
        statuses = ((one, self.decision(use_case, step, partition, variant=one)) for one in variants)
        return {variant: status for variant, status in statuses if status is not None}

    def current(self, use_case: str, step: str, partition: date, *, variant: str = "") -> ArtifactRef:
        """The published artifact of a partition. Raises PartitionNotReady if there is none (yet)."""
        decision = self.decision(use_case, step, partition, variant=variant)
        if decision is None or decision.status != "published" or decision.ref is None:
            why = "has not run" if decision is None else f"is {decision.status}: {decision.reason}"
            raise PartitionNotReady(
                "NS-STORE-019",
                f"{use_case} {step} of {partition} {why}. "
                f"Run or backfill {use_case}.{STAGE_OF_STEP[step]} for that partition.",
            )
        return decision.ref

    def _decision_key(self, use_case: str, step: str, partition: date, variant: str) -> str:
        name = f"current-{variant}.json" if variant else "current.json"
        return f"{self.step_prefix(use_case, step)}{partition}/{name}"


def _table_rows(path: str, file: bytes | Path | pa.Table) -> int | None:
    """Rows of a file that is a table; bytes are none."""
    if isinstance(file, bytes):
        return None
    if isinstance(file, Path):
        import pyarrow.parquet as pq

        return int(pq.read_metadata(file).num_rows) if path.endswith(".parquet") else None
    return int(file.num_rows)


def _corrupt(ref: ArtifactRef, path: str, *, is_missing: bool) -> ArtifactCorrupt:
    state = "missing" if is_missing else "not the bytes its manifest states"
    return ArtifactCorrupt("NS-STORE-018", f"{ref.uri}{path} is {state}; restore it or run its step again.")
