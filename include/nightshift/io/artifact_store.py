"""Artifacts and landed files in an S3-compatible object store.

Layout below the bucket:

    landing/<use case>/<feed>/dt=<partition>/*                            files that producers deliver
    <use case>/<stage>/<step>/<partition>/<content id>/...                immutable artifacts
    <use case>/<stage>/<step>/<partition>/<content id>/manifest.json      written last: the commit mark
    <use case>/<stage>/<step>/<partition>/current[-<variant>].json        the status: the current artifact, or rejected
"""

from __future__ import annotations

import functools
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session

from nightshift.artifact import ArtifactRef, Decision, Document, FileEntry, Manifest, identity_sha256, sha256_hex
from nightshift.errors import (
    ArtifactCorrupt,
    ConfigurationError,
    PartitionNotReady,
    StatusChanged,
    StoreUnavailable,
)
from nightshift.io.content import content_opened, content_sha256, content_size
from nightshift.io.provenance import code_version, finished_attempt, library_versions, lock_sha256
from nightshift.pipeline import STAGE_OF_STEP
from nightshift.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

D = TypeVar("D", bound=Document)
T = TypeVar("T")
R = TypeVar("R")

READERS = 8
KEPT_MANIFESTS = 4096
CHUNK_BYTES = 2**20
ROW_GROUP_ROWS = 65_536
"""Rows of a Parquet file that are read and filtered together."""
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
EXISTS = {"412", "PreconditionFailed"}
CONFLICT = {"409", "ConditionalRequestConflict"}
CONFLICT_TRIES = 6
_CURRENT = re.compile(r"current(?:-(.+))?\.json")
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


@dataclass(frozen=True)
class ObjectInfo:
    """An object in a listing: its key below the bucket, size in bytes, and when it was written, by the store's clock
    (UTC, whole seconds)."""

    key: str
    bytes: int
    modified: datetime


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet (zstd). Equal tables give equal bytes within one pyarrow version."""
    # Readers of documents must not wait for the import of Arrow.
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def in_parallel(function: Callable[[T], R], items: Iterable[T], workers: int = READERS) -> list[R]:
    """The function's result for each item, in order, at most `workers` at a time. Raises what the function raises."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def s3_client(endpoint_url: str | None, region: str, keys: Mapping[str, Any] | None = None, **config: Any) -> Any:
    """A client of an S3-compatible store, with path-style addresses.

    `keys` are botocore's arguments for credentials (None: those of the environment); `config` are further arguments
    of botocore's Config.
    """
    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    return session.create_client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=botocore.config.Config(s3={"addressing_style": "path"}, **config),
        **(keys or {}),
    )


@functools.cache
def _loader() -> Any:
    """Reads the description of S3 once: each client with a loader of its own takes a quarter of a second for it."""
    return botocore.loaders.create_loader()


class ArtifactStore:
    """One bucket. Every method raises StoreUnavailable (transient) when the store does not answer or rejects the
    credentials, and ConfigurationError when there are none."""

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.bucket
        self._manifests: dict[ArtifactRef, Manifest] = {}
        self._client = s3_client(
            settings.s3_endpoint_url,
            settings.s3_region,
            retries={"max_attempts": 4, "mode": "standard"},
            max_pool_connections=READERS * 2,
            connect_timeout=5,
            read_timeout=60,
        )

    # Objects

    def uri(self, key: str) -> str:
        """s3:// uri of a key."""
        return f"s3://{self.bucket}/{key}"

    def key(self, uri: str) -> str:
        """Key of a uri in this bucket. Raises ConfigurationError for another bucket's."""
        prefix = f"s3://{self.bucket}/"
        if not uri.startswith(prefix):
            raise ConfigurationError(
                "NS-STORE-010", f"{uri} is not in bucket {self.bucket!r}; set NIGHTSHIFT_BUCKET to its bucket."
            )
        return uri.removeprefix(prefix)

    def get(self, key: str) -> bytes | None:
        """Bytes of an object, or None if there is none."""
        with self._explained(key):
            try:
                body: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except botocore.exceptions.ClientError as error:
                if _code(error) not in _NOT_FOUND:
                    raise
                return None
        return body

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        immutable: bool = False,
        replaces: str = "",
        content_type: str | None = None,
    ) -> bool:
        """Write an object: bytes, or a local file of up to 5 GiB, which is never in memory as a whole.

        With `immutable`, an existing object is kept; with `replaces`, an object is kept whose tag is another one, and
        a missing one is not written. False is returned if nothing was written.

        A write conflict is retried then: False is returned only if the store reports that the condition does not hold.
        """
        condition = {"IfNoneMatch": "*"} if immutable else {"IfMatch": replaces} if replaces else {}
        extra = condition | ({"ContentType": content_type} if content_type else {})
        for attempt in range(1, CONFLICT_TRIES + 1):
            with self._explained(key), content_opened(body) as content:
                try:
                    self._client.put_object(Bucket=self.bucket, Key=key, Body=content, **extra)
                    break
                except botocore.exceptions.ClientError as error:
                    if condition and _code(error) in EXISTS | (_NOT_FOUND if replaces else set()):
                        return False
                    if not condition or _code(error) not in CONFLICT or attempt == CONFLICT_TRIES:
                        raise
            time.sleep(0.05 * 2**attempt)
        return True

    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def list(self, prefix: str) -> list[ObjectInfo]:
        """All objects below a prefix, sorted by key (stores differ in the order they list)."""
        objects = [
            ObjectInfo(item["Key"], item["Size"], item["LastModified"])
            for page in self._pages(Prefix=prefix)
            for item in page.get("Contents", [])
        ]
        return sorted(objects, key=lambda info: info.key)

    def folders(self, prefix: str, *, after: str = "") -> Sequence[str]:
        """Names of the folders right below a prefix that ends with "/", sorted; those from the name `after` on."""
        start = {"StartAfter": f"{prefix}{after}"} if after else {}
        return sorted(
            item["Prefix"].removeprefix(prefix).rstrip("/")
            for page in self._pages(Prefix=prefix, Delimiter="/", **start)
            for item in page.get("CommonPrefixes", [])
        )

    def _pages(self, **query: Any) -> Iterator[Any]:
        with self._explained(query["Prefix"]):
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **query)

    def clock(self) -> datetime:
        """The store's clock (UTC, whole seconds), which stamps its objects."""
        with self._explained(""):
            answer = self._client.head_bucket(Bucket=self.bucket)
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def ensure_bucket(self) -> None:
        """Create the bucket unless it exists."""
        with self._explained(""):
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except botocore.exceptions.ClientError as error:
                if _code(error) not in _NOT_FOUND | {"NoSuchBucket"}:
                    raise
                self._client.create_bucket(Bucket=self.bucket)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Convert errors of the store and its client to ConfigurationError or StoreUnavailable."""
        try:
            yield
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            code, where = _code(error), f"{self.uri(key)} at {self._client.meta.endpoint_url}"
            if code == "NoCredentialsError":
                text = f"No credentials for {where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                raise ConfigurationError("NS-STORE-011", text) from error
            if code in _DENIED:
                # Transient: while keys are rotated the old or the new ones are rejected for minutes.
                text = f"The object store rejected the credentials for {where} ({code}): are they those in force?"
                raise StoreUnavailable("NS-STORE-012", text) from error
            if code == "NoSuchBucket":
                text = f"There is no bucket {self.bucket!r} ({where}): create it or set NIGHTSHIFT_BUCKET."
                raise ConfigurationError("NS-STORE-013", text) from error
            text = f"The object store did not answer for {where} ({code}): is it up and reachable?"
            raise StoreUnavailable("NS-STORE-014", text) from error

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
        table_rows = {path: f.num_rows for path, f in files.items() if not isinstance(f, bytes | Path)}
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
        entry, key = self._entry(ref, path), self.key(ref.uri) + path
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            with self._explained(key):
                try:
                    body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
                except botocore.exceptions.ClientError as error:
                    if _code(error) not in _NOT_FOUND:
                        raise
                    raise _corrupt(ref, path, is_missing=True) from error
                with copy.open("wb") as file:
                    file.writelines(body.iter_chunks(CHUNK_BYTES))
            if content_sha256(copy) != entry.sha256:
                raise _corrupt(ref, path, is_missing=False)
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
        key = self._decision_key(use_case, step, partition, variant)
        with self._explained(key):
            try:
                tag: str = self._client.head_object(Bucket=self.bucket, Key=key)["ETag"]
            except botocore.exceptions.ClientError as error:
                if _code(error) not in _NOT_FOUND:
                    raise
                return ""
        return tag

    def decision(self, use_case: str, step: str, partition: date, *, variant: str = "") -> Decision | None:
        """The status of a partition of a step, or None if it has none yet."""
        body = self.get(self._decision_key(use_case, step, partition, variant))
        return None if body is None else Decision.model_validate_json(body)

    def decisions(self, use_case: str, step: str, partitions: Sequence[date]) -> dict[date, Decision | None]:
        """`decision` of many partitions, read in parallel."""
        statuses = in_parallel(lambda partition: self.decision(use_case, step, partition), partitions)
        return dict(zip(partitions, statuses, strict=True))

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


def _corrupt(ref: ArtifactRef, path: str, *, is_missing: bool) -> ArtifactCorrupt:
    state = "missing" if is_missing else "not the bytes its manifest states"
    return ArtifactCorrupt("NS-STORE-018", f"{ref.uri}{path} is {state}; restore it or run its step again.")


def _code(error: Exception) -> str:
    if isinstance(error, botocore.exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return type(error).__name__
