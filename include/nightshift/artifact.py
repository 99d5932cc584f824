"""References to artifacts and the manifests that commit them. Small, JSON-safe, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightshift.errors import ArtifactCorrupt


class Value(BaseModel):
    """An immutable value; undeclared fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Value):
    """A JSON document in an artifact; `FILE` is its path there."""

    FILE: ClassVar[str]

    def to_files(self) -> dict[str, bytes]:
        """The document as a file of an artifact: equal documents, equal bytes."""
        return {self.FILE: self.model_dump_json(indent=1).encode()}

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Parse a file that `to_files` wrote. Raises ArtifactCorrupt if `body` is another kind of document."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise ArtifactCorrupt(
                "NS-STORE-008", f"This is not a {cls.FILE} of this version of Nightshift: {error}"
            ) from None


class ArtifactRef(Value):
    """Identifies an artifact and its bytes. The only kind of value that goes through XCom.

    `uri` ends with "/" for an artifact with a manifest (its folder) and names an object for a
    single file (a landed file). `sha256` is the content hash: of the manifest's identity, or of
    the file's bytes.
    """

    uri: str
    sha256: str
    kind: str
    rows: int = 0
    schema_version: int = 1


class FileEntry(Value):
    """One file of an artifact: path below the artifact's uri, hash and size of its bytes, rows if it is a table."""

    path: str
    sha256: str
    bytes: int
    rows: int | None = None


class Attempt(Value):
    """How an artifact was written: the orchestrator's run and try, host and wall clock. Never used in logic."""

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 0
    host: str = ""
    started_at: str = ""
    finished_at: str = ""
    seconds: float = 0.0


class Manifest(Value):
    """The commit mark of an artifact, written last. Readers use only files that a manifest names."""

    use_case: str
    stage: str
    step: str
    partition: str
    variant: str = ""
    ref: ArtifactRef
    inputs: Mapping[str, Sequence[ArtifactRef]] = Field(default_factory=dict)
    files: Sequence[FileEntry] = ()
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    metrics: Mapping[str, Any] = Field(default_factory=dict)
    code_version: str = ""
    lock_sha256: str = ""
    libraries: Mapping[str, str] = Field(default_factory=dict)
    attempt: Attempt = Attempt()


class Decision(Value):
    """The status of a partition of a step: the artifact that counts, or why there is none.

    `status` is "published" (ref is the artifact), or "rejected" (ref, if any, is the evidence). `last_published`: of a
    rejected partition, the artifact that counted before, if there was one.
    """

    status: str
    ref: ArtifactRef | None = None
    reason: str = ""
    last_published: ArtifactRef | None = None

    @property
    def published(self) -> ArtifactRef | None:
        """The artifact that counts; None for a rejected partition."""
        return self.ref if self.status == "published" else None


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()


def sha256_hex(data: bytes) -> str:
    """Hex SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def identity_sha256(manifest: Manifest) -> str:
    """The hash that identifies an artifact: same inputs, parameters and output bytes, same hash.

    Timings, hosts and runs are not part of it, so a re-run that changes nothing finds its
    artifact already there.
    """
    return sha256_hex(
        canonical_json(
            {
                "use_case": manifest.use_case,
                "step": manifest.step,
                "partition": manifest.partition,
                "variant": manifest.variant,
                "inputs": {name: [ref.sha256 for ref in refs] for name, refs in manifest.inputs.items()},
                "files": [[f.path, f.sha256] for f in manifest.files],
                "parameters": manifest.parameters,
            }
        )
    )
