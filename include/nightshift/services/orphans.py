"""Objects that interrupted commits left behind: files of an artifact whose manifest was never written."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import ObjectInfo, in_parallel
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings

_FOLDER = re.compile(r"([^/]+/[^/]+/[^/]+/\d{4}-\d\d-\d\d/[0-9a-f]{16}/).+")
WRITTEN_BY_OTHERS = ("landing/", "mlflow/")
"""Folders of the bucket whose files are those of producers, and of MLflow."""
_NAMES_ARTIFACTS = re.compile(r".*/(?:manifest|current(?:-[^/]+)?)\.json")
MANIFEST = "manifest.json"


def sweep(
    use_case: UseCase, settings: Settings, store: ArtifactStore, *, days: float, delete: bool
) -> list[ObjectInfo]:
    """The orphans that are older than some days; with `delete`, those that were deleted. See `find_orphans`."""
    # The store's clock stamps its objects.
    older_than = store.clock() - timedelta(days=days)
    orphans = find_orphans(use_case, Warehouse(settings, use_case), store, older_than)
    return delete_orphans(store, orphans) if delete else orphans


def find_orphans(
    use_case: UseCase, warehouse: Warehouse, store: ArtifactStore, older_than: datetime
) -> list[ObjectInfo]:
    """Objects below the use case's prefix that belong to an artifact without a manifest, all older than that.

    An artifact that has a manifest is never among them, also if it was superseded; nor is one that any manifest or
    status in the bucket, or any publication or decision of the use case, names: it has lost its manifest.
    """
    folders: dict[str, list[ObjectInfo]] = defaultdict(list)
    infos = store.list("")
    for info in infos:
        match = _FOLDER.fullmatch(info.key)
        if match and info.key.startswith(f"{use_case.name}/"):
            folders[match[1]].append(info)
    open_folders = {
        folder: objects
        for folder, objects in folders.items()
        if all(info.modified < older_than and info.key != folder + MANIFEST for info in objects)
    }
    if not open_folders:
        return []
    # Not below what others write: it may be of any size.
    written = [info.key for info in infos if not info.key.startswith(WRITTEN_BY_OTHERS)]
    naming = [key for key in written if _NAMES_ARTIFACTS.fullmatch(key)]
    named = _uris(store, warehouse.artifact_names()).union(
        *in_parallel(lambda key: _uris(store, (store.get(key) or b"").decode()), naming)
    )
    return [info for folder, objects in open_folders.items() if store.uri(folder) not in named for info in objects]


def delete_orphans(store: ArtifactStore, orphans: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """Delete orphans, except those whose artifact was committed since they were found. Returns the deleted ones."""
    deleted = []
    for info in orphans:
        match = _FOLDER.fullmatch(info.key)
        if match and store.get(match[1] + MANIFEST) is None:
            store.delete(info.key)
            deleted.append(info)
    return deleted


def _uris(store: ArtifactStore, text: str) -> set[str]:
    """The uris of artifacts in a text."""
    return set(re.findall(re.escape(store.uri("")) + r"[^/\"]+/[^/\"]+/[^/\"]+/[^/\"]+/[0-9a-f]{16}/", text))
