"""Objects of one bucket in an S3-compatible store: bytes by key, conditional writes, listings.

Put here: what an object store does. Keep out: what the objects mean (artifact_store, landing).
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session

from nightshift.errors import ConfigurationError, StoreUnavailable
from nightshift.io.content import content_opened
from nightshift.settings import Settings

T = TypeVar("T")
R = TypeVar("R")

READERS = 8
CHUNK_BYTES = 2**20
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
EXISTS = {"412", "PreconditionFailed"}
CONFLICT = {"409", "ConditionalRequestConflict"}
CONFLICT_TRIES = 6
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


@dataclass(frozen=True)
class ObjectInfo:
    """An object in a listing: its key below the bucket, size in bytes, and when it was written, by the store's clock
    (UTC, whole seconds)."""

    key: str
    bytes: int
    modified: datetime


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
    client = session.create_client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=botocore.config.Config(s3={"addressing_style": "path"}, **config),
        **(keys or {}),
    )
    client.meta.events.register("before-parse.s3", _check_headers)
    return client


def _check_headers(operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    """Raise ConnectionClosedError for an answer that ended within its headers: it is read as one with an empty body."""
    names = {name.lower() for name in response_dict["headers"]}
    read = operation_model.http["method"] == "GET" and response_dict["status_code"] < 300
    if read and not names & {"content-length", "transfer-encoding"}:
        if operation_model.has_streaming_output:
            response_dict["body"].close()
        raise botocore.exceptions.ConnectionClosedError(endpoint_url=operation_model.name)


@functools.cache
def _loader() -> Any:
    """Reads the description of S3 once: each client with a loader of its own takes a quarter of a second for it."""
    return botocore.loaders.create_loader()


class ObjectStore:
    """One bucket. Every method raises StoreUnavailable (transient) when the store does not answer or rejects the
    credentials, and ConfigurationError when there are none."""

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.bucket
        self._client = s3_client(
            settings.s3_endpoint_url,
            settings.s3_region,
            retries={"max_attempts": 4, "mode": "standard"},
            max_pool_connections=READERS * 2,
            connect_timeout=5,
            read_timeout=60,
        )

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

    def download(self, key: str, file: Path, *, size: int | None = None) -> str | None:
        """Write an object to a local file, a part at a time. Returns its SHA-256 in hexadecimal, or None if there is
        no such object, or not of `size` bytes, if that is given."""
        sha256 = hashlib.sha256()
        with self._explained(key):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
            except botocore.exceptions.ClientError as error:
                if _code(error) not in _NOT_FOUND:
                    raise
                return None
            if size not in (None, answer["ContentLength"]):
                answer["Body"].close()
                return None
            with file.open("wb") as copy:
                for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                    sha256.update(chunk)
                    copy.write(chunk)
        return sha256.hexdigest()

    def sha256(self, key: str) -> str | None:
        """SHA-256 of an object in hexadecimal, read a part at a time; None if there is no such object."""
        return self.download(key, Path(os.devnull))

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

    def tag(self, key: str) -> str:
        """A tag that changes with the object; "" if there is none."""
        with self._explained(key):
            try:
                tag: str = self._client.head_object(Bucket=self.bucket, Key=key)["ETag"]
            except botocore.exceptions.ClientError as error:
                if _code(error) not in _NOT_FOUND:
                    raise
                return ""
        return tag

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


def _code(error: Exception) -> str:
    if isinstance(error, botocore.exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return type(error).__name__
