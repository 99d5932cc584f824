"""Backups of databases and bucket, many in one folder, and their restoration.

    <folder>/objects/<first two digits>/<sha256>    each content once, for all backups
    <folder>/<time>/<database>.dump                 pg_dump's custom format
    <folder>/<time>/objects.jsonl                   the objects of the bucket: key, hash, size
    <folder>/<time>/manifest.json                   written last: the commit mark

Databases are dumped first, then statuses and landed files are copied, then artifacts: whatever a row or a status names
was committed before it, and so is in the backup.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import SecretStr

from nightshift.artifact import Document, FileEntry, Value
from nightshift.errors import ArtifactCorrupt, ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.database_dumps import DatabaseDumps
from nightshift.io.object_store import ObjectInfo, in_parallel
from nightshift.io.warehouse.schema import describe, plain_url

OBJECTS = "objects"
INVENTORY = "objects.jsonl"
WORKERS = 4
"""Objects that are copied at once."""
SHOWN = 5
_OF_ARTIFACT = re.compile(r"[^/]+/[^/]+/[^/]+/\d{4}-\d\d-\d\d/[0-9a-f]{16}/.+")
"""Keys of immutable objects. All others (statuses, landed files, models of MLflow) may be replaced."""


class StoredObject(Value):
    """One object of the bucket in a backup: its key, hash and size."""

    key: str
    sha256: str
    bytes: int


class BackupManifest(Document):
    """What a backup holds: dumps by the name of their database, and the list of objects, with the sum of their
    sizes."""

    FILE: ClassVar[str] = "manifest.json"

    layout: Literal[1] = 1
    taken_at: str
    bucket: str
    databases: Mapping[str, FileEntry]
    inventory: FileEntry
    object_bytes: int


@dataclass(frozen=True)
class Backup:
    """A completed backup: its folder, manifest and objects. `copied` are those whose content no earlier one had."""

    folder: Path
    manifest: BackupManifest
    objects: Sequence[StoredObject]
    copied: Sequence[StoredObject] = ()


def back_up(
    store: ArtifactStore, dumps: DatabaseDumps, databases: Mapping[str, SecretStr], folder: Path, at: datetime
) -> Backup:
    """Add a backup to a folder: the databases (name -> URL) and all objects of the store's bucket.

    An artifact that the newest backup in the folder has is not read again. Raises as DatabaseDumps and ArtifactStore
    do; a backup without its manifest, as after an error, is no backup.
    """
    earlier = _earlier(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f"{at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}"
    made.mkdir(mode=0o700)
    entries = {}
    for name, url in databases.items():
        path = made / f"{name}.dump"
        dumps.dump(url, path)
        entries[name] = _entry(path)
    copied: list[StoredObject] = []
    objects = _copy(store, made, [info for info in store.list("") if not _is_immutable(info)], {}, copied)
    # Listed again: an artifact is committed before the status that names it.
    objects += _copy(store, made, [info for info in store.list("") if _is_immutable(info)], earlier, copied)
    objects.sort(key=lambda entry: entry.key)
    (made / INVENTORY).write_text("".join(f"{entry.model_dump_json()}\n" for entry in objects), encoding="utf-8")
    manifest = BackupManifest(
        taken_at=at.isoformat(),
        bucket=store.bucket,
        databases=entries,
        inventory=_entry(made / INVENTORY).model_copy(update={"rows": len(objects)}),
        object_bytes=sum(entry.bytes for entry in objects),
    )
    # A power cut must not leave the manifest without what it names.
    os.sync()
    with _unfinished(made) as part:
        part.write_bytes(manifest.to_files()[BackupManifest.FILE])
        _finish(part, made / BackupManifest.FILE)
    return Backup(made, manifest, objects, copied)


def verify(folder: Path, at: str = "") -> Backup:
    """The newest backup in a folder, or the one named `at`, with all hashes checked.

    Raises ConfigurationError if there is none, and ArtifactCorrupt that names what is missing or changed.
    """
    made, manifest = _newest(folder, at)
    entries = [*manifest.databases.values(), manifest.inventory]
    damaged = [str(made / entry.path) for entry in entries if not _is_intact(made / entry.path, entry.sha256)]
    if not damaged:
        objects = _inventory(made, manifest)
        places = {entry.sha256: _place(folder, entry.sha256) for entry in objects}
        intact = in_parallel(lambda item: _is_intact(item[1], item[0]), places.items(), WORKERS)
        damaged = [str(path) for path, good in zip(places.values(), intact, strict=True) if not good]
    if damaged:
        raise ArtifactCorrupt(
            "NS-BACKUP-004",
            f"{len(damaged)} files of the backup {made} are missing or have another hash than it states: "
            f"{', '.join(damaged[:SHOWN])}. Nothing was restored. Restore an earlier backup, or copy these files from "
            f"another copy of the folder; if the bucket still exists, delete them and back up again.",
        )
    return Backup(made, manifest, objects)


def restore(
    store: ArtifactStore, dumps: DatabaseDumps, databases: Mapping[str, SecretStr], folder: Path, at: str = ""
) -> Backup:
    """Restore a backup (as in `verify`) into the store's bucket, created if it is missing, and databases (name -> URL).

    Every hash is checked before anything is written. Raises as `verify` does, and ConfigurationError, having written
    nothing, for a bucket of another name, a bucket or database that is not empty, or a database without a URL.
    """
    backup = verify(folder, at)
    _check_target(store, dumps, databases, backup)

    def put(entry: StoredObject) -> None:
        store.put(entry.key, _place(folder, entry.sha256), immutable=True)

    # Objects first: no row names an artifact that is not there yet.
    in_parallel(put, backup.objects, WORKERS)
    for name, entry in backup.manifest.databases.items():
        dumps.restore(databases[name], backup.folder / entry.path)
    return backup


def _check_target(
    store: ArtifactStore, dumps: DatabaseDumps, databases: Mapping[str, SecretStr], backup: Backup
) -> None:
    manifest = backup.manifest
    if store.bucket != manifest.bucket:
        raise ConfigurationError(
            "NS-BACKUP-005",
            f"The backup is of bucket {manifest.bucket!r}, and this one is {store.bucket!r}: artifacts name each other "
            f"with their bucket. Set NIGHTSHIFT_BUCKET to {manifest.bucket!r}, on another object store if need be.",
        )
    missing = sorted(set(manifest.databases) - set(databases))
    if missing:
        raise ConfigurationError(
            "NS-BACKUP-006",
            f"The backup has a dump of {', '.join(missing)} and there is no address to restore it to; see "
            f"`nightshift restore --help` for the variables.",
        )
    store.ensure_bucket()
    present = store.list("")
    if present:
        raise ConfigurationError(
            "NS-BACKUP-007",
            f"Bucket {store.bucket!r} is not empty ({len(present)} objects, such as {present[0].key}): a backup is "
            f"restored into an empty bucket only. Delete its objects, or use a new object store.",
        )
    for name in manifest.databases:
        tables = dumps.tables(databases[name])
        if tables:
            raise ConfigurationError(
                "NS-BACKUP-008",
                f"The database {describe(plain_url(databases[name]))} ({name}) has tables, such as "
                f"{', '.join(tables)}: a backup is restored into an empty database only. Create a new one. The local "
                f"stack: `make clean`, then restore before `make up`.",
            )


def _is_immutable(info: ObjectInfo) -> bool:
    return _OF_ARTIFACT.fullmatch(info.key) is not None


def _copy(
    store: ArtifactStore,
    made: Path,
    infos: Iterable[ObjectInfo],
    earlier: Mapping[str, StoredObject],
    copied: list[StoredObject],
) -> list[StoredObject]:
    """Copy objects to the folder of the backup `made`, except those that `earlier` has; append to `copied` what is
    new. Objects that were deleted meanwhile are left out."""
    folder = made.parent

    def copy(info: ObjectInfo) -> StoredObject | None:
        entry = earlier.get(info.key)
        if entry is not None and entry.bytes == info.bytes and _size(_place(folder, entry.sha256)) == info.bytes:
            return entry
        # What an interruption leaves of it is in the folder of the interrupted backup.
        with _unfinished(made) as part:
            sha256 = store.download(info.key, part)
            if sha256 is None:
                return None
            entry = StoredObject(key=info.key, sha256=sha256, bytes=_size(part))
            place = _place(folder, sha256)
            if _size(place) != entry.bytes:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _finish(part, place)
                copied.append(entry)
        return entry

    return [entry for entry in in_parallel(copy, infos, WORKERS) if entry is not None]


def _completed(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{BackupManifest.FILE}"))


def _newest(folder: Path, at: str = "") -> tuple[Path, BackupManifest]:
    completed = _completed(folder)
    chosen = [path for path in completed if not at or path.name == at]
    if not chosen:
        names = ", ".join(path.name for path in completed) or "none"
        raise ConfigurationError(
            "NS-BACKUP-003",
            f"There is no completed backup{f' {at}' if at else ''} in {folder}; completed: {names}. A backup without "
            f"its manifest.json was interrupted.",
        )
    return chosen[-1], BackupManifest.from_bytes((chosen[-1] / BackupManifest.FILE).read_bytes())


def _earlier(folder: Path) -> dict[str, StoredObject]:
    """The objects of the newest backup by key; empty if there is none, or if its list is damaged."""
    if not _completed(folder):
        return {}
    made, manifest = _newest(folder)
    if not _is_intact(made / INVENTORY, manifest.inventory.sha256):
        return {}
    return {entry.key: entry for entry in _inventory(made, manifest)}


def _inventory(made: Path, manifest: BackupManifest) -> list[StoredObject]:
    with (made / manifest.inventory.path).open(encoding="utf-8") as lines:
        return [StoredObject.model_validate_json(line) for line in lines]


def _place(folder: Path, sha256: str) -> Path:
    """Where the content with that hash is."""
    return folder / OBJECTS / sha256[:2] / sha256


def _size(path: Path) -> int:
    """The size of a file; -1 if there is none."""
    return path.stat().st_size if path.exists() else -1


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A new file, readable by its owner only. Removed at the end of the block, unless `_finish` moved it."""
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _finish(part: Path, path: Path) -> None:
    """Move a file to where it belongs: it is there whole or not at all."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _entry(path: Path) -> FileEntry:
    return FileEntry(path=path.name, sha256=_sha256(path), bytes=path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(path: Path, sha256: str) -> bool:
    return path.exists() and _sha256(path) == sha256
