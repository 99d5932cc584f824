"""Reads the files that producers delivered below landing/<use case>/<feed>/dt=<partition>/."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from nightshift.core.ingest.landed_checks import check_size
from nightshift.declare.feeds import Feed
from nightshift.declare.use_case import UseCase
from nightshift.errors import MalformedFile, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import ObjectInfo, in_parallel
from nightshift.partitions import parse_partition

_DAY = re.compile(r"dt=(\d{4}-\d{2}-\d{2})")
SUFFIXES = (".csv", ".parquet")
MOST_FILES = 10_000
"""Of a delivery; each is a download."""


@dataclass(frozen=True)
class DeliveredFile:
    """A landed file, and its copy on the local disk."""

    uri: str
    copy: Path
    sha256: str


@dataclass(frozen=True)
class DeliveredFeed:
    """One delivery of a feed: its files by name. `repeated` maps the uri of a file with the same
    bytes as an earlier one to the uri of that one; it is not in `files`."""

    prefix: str
    files: tuple[DeliveredFile, ...]
    repeated: dict[str, str]


def landing_prefix(use_case: UseCase, feed: Feed, partition: date) -> str:
    """Key prefix of a feed's delivery."""
    return f"landing/{use_case.name}/{feed.name}/dt={partition}/"


def delivered_files(
    store: ArtifactStore, use_case: UseCase, feed: Feed, partition: date
) -> tuple[str, list[ObjectInfo], bool]:
    """Prefix and files of the feed's delivery for the partition; of a snapshot feed, its newest one at or before it.

    And whether it is complete: it has files, and the feed's end mark, where one is declared. Objects whose name
    starts with "." or "_" are no files, so that producers can keep notes there.
    """
    prefix = landing_prefix(use_case, feed, _delivered_on(store, use_case, feed, partition))
    objects = [info for info in store.list(prefix) if not info.key.endswith("/")]
    files = [info for info in objects if not posixpath.basename(info.key).startswith((".", "_"))]
    marked = not feed.end_mark or any(info.key == prefix + feed.end_mark for info in objects)
    return prefix, files, bool(files) and marked


def unsettled_age(store: ArtifactStore, feed: Feed, files: Sequence[ObjectInfo], settle_seconds: int) -> float | None:
    """The age [s], by the store's clock, of the newest file if others may follow it; None if the delivery is settled.

    It is if the feed has an end mark, or the newest file is `settle_seconds` old.
    """
    if not files or not settle_seconds or feed.end_mark:
        return None
    age = (store.clock() - max(info.modified for info in files)).total_seconds()
    return age if age < settle_seconds else None


def read_delivery(
    store: ArtifactStore, use_case: UseCase, feed: Feed, partition: date, folder: Path, *, settle_seconds: int = 0
) -> DeliveredFeed:
    """Copies of `delivered_files` in a local folder.

    Raises PartitionNotReady if nothing was delivered, the end mark is missing or, for a feed without one, the newest
    file is not `settle_seconds` old by the store's clock; MalformedFile for a file of another kind, for a name that
    could be mistaken for another, and, before anything is read, for more bytes than the feed's `max_bytes`, or more
    than MOST_FILES files.
    """
    prefix, infos, complete = delivered_files(store, use_case, feed, partition)
    keys = [info.key for info in infos]
    if keys and not complete:
        raise PartitionNotReady(
            "NS-LAND-051",
            f"{use_case.name} {partition}: {store.uri(prefix)} has {len(keys)} files and no {feed.end_mark}, so the "
            f"delivery is not complete. Put it there after the last file; the task is retried until it comes.",
        )
    if (age := unsettled_age(store, feed, infos, settle_seconds)) is not None:
        raise PartitionNotReady(
            "NS-LAND-052",
            f"{use_case.name} {partition}: the newest file at {store.uri(prefix)} is {age:.0f} s old: others may "
            f"follow; it is read once it is {settle_seconds} s old (settle_seconds).",
        )
    if not keys:
        raise PartitionNotReady(
            "NS-LAND-001",
            f"{use_case.name} {partition}: nothing was delivered at {store.uri(prefix)}. "
            "Deliver the file there; the task is retried until it comes.",
        )
    if len(keys) > MOST_FILES:
        raise MalformedFile(
            "NS-LAND-117",
            f"{store.uri(prefix)} has {len(keys)} files, more than {MOST_FILES}. Deliver fewer, larger ones.",
        )
    for key in keys:
        name = key.removeprefix(prefix)
        # A name ends in messages, tables and pages, and may be joined to a path by whoever looks for the file.
        if not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
            raise MalformedFile(
                "NS-LAND-116",
                f"{store.uri(prefix)} has a file {name[:200]!r}, whose name has characters that are not printable, or "
                f"leads to another folder. Deliver it under a plain name and remove this one.",
            )
        if not key.endswith(SUFFIXES):
            raise MalformedFile(
                "NS-LAND-002", f"{store.uri(key)} is neither {' nor '.join(SUFFIXES)}. Deliver one of them."
            )
    sizes = {info.key: info.bytes for info in infos}
    check_size(feed, store.uri(prefix), sum(sizes.values()))
    copies = {key: folder / f"delivered_{number}" for number, key in enumerate(keys)}
    downloaded = in_parallel(lambda key: store.download(key, copies[key], size=sizes[key]), keys)
    files: dict[str, DeliveredFile] = {}
    repeated: dict[str, str] = {}
    for key, sha256 in zip(keys, downloaded, strict=True):
        if sha256 is None:
            raise PartitionNotReady(
                "NS-LAND-003", f"{store.uri(key)} was changed while it was read; the producer may still be writing."
            )
        file = DeliveredFile(store.uri(key), copies[key], sha256)
        if file.sha256 in files:
            repeated[file.uri] = files[file.sha256].uri
        else:
            files[file.sha256] = file
    return DeliveredFeed(prefix, tuple(files.values()), repeated)


def _delivered_on(store: ArtifactStore, use_case: UseCase, feed: Feed, partition: date) -> date:
    if feed.cadence == "daily":
        return partition
    folders = store.folders(f"landing/{use_case.name}/{feed.name}/")
    # Keys are written YYYY-MM-DD, so they sort as days; other folders are ignored.
    delivered = [match[1] for folder in folders if (match := _DAY.fullmatch(folder)) and match[1] <= str(partition)]
    return parse_partition(max(delivered)) if delivered else partition
