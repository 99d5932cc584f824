"""Builds one zip file with all records of a model, to be kept when other data is removed.

    model/<path>                          the files of the model's artifact
    manifests/<step>/<content id>.json    its manifest, and those of the training it came from
    deployments.json                      every decision about it, in the order they were recorded
    gate_results.json                     every gate result about it

A manifest names its inputs by hash, so the archive also identifies the curated data and features that were read.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from psycopg import sql
from psycopg.rows import dict_row

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.lifecycle.state import Version
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.schema import column_list
from nightshift.io.warehouse.warehouse import Warehouse

TRAINING = "train"
FIRST_MOMENT_OF_ZIP = (1980, 1, 1, 0, 0, 0)
READABLE_BY_ALL = 0o100644 << 16
VERDICT = ("partition", "model_version", "candidate", "gate", "verdict", "observed", "bound", "reason")


def archive_key(use_case: UseCase, name: str) -> str:
    """Key in the bucket of the archive of a version, or of a spec's newest version."""
    return f"archive/{use_case.name}/{name}.zip"


def archive_model(
    store: ArtifactStore, warehouse: Warehouse, version: Version, decisions: Sequence[Deployment]
) -> bytes:
    """The archive's bytes; `decisions`: all about the version, or its spec. Equal records give equal bytes.

    Raises ArtifactCorrupt if a file or manifest is missing or does not match its hash.
    """
    manifest = store.manifest(version.model)
    files = {f"model/{entry.path}": store.read(version.model, entry.path) for entry in manifest.files}
    for ref in _training_of(store, manifest.use_case, version.model):
        training = store.manifest(ref)
        files[f"manifests/{training.step}/{ref.sha256[:16]}.json"] = training.model_dump_json(indent=1).encode()
    files["deployments.json"] = canonical_json([decision.model_dump(mode="json") for decision in decisions])
    files["gate_results.json"] = canonical_json(_gate_results(warehouse, version.model_version))
    return _zip_bytes(files)


def _training_of(store: ArtifactStore, use_case: str, model: ArtifactRef) -> list[ArtifactRef]:
    """The model and all artifacts of training steps among its direct and indirect inputs."""
    folder = store.uri(f"{use_case}/{TRAINING}/")
    artifacts: dict[str, ArtifactRef] = {}
    waiting = [model]
    while waiting:
        ref = waiting.pop()
        if ref.sha256 in artifacts or not ref.uri.startswith(folder):
            continue
        artifacts[ref.sha256] = ref
        waiting += [earlier for refs in store.manifest(ref).inputs.values() for earlier in refs]
    return list(artifacts.values())


def _gate_results(warehouse: Warehouse, model_version: str) -> list[dict[str, object]]:
    query = sql.SQL("SELECT {} FROM {} WHERE model_version = %s ORDER BY partition, candidate, gate").format(
        column_list(VERDICT), warehouse.table("gate_results")
    )
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, [model_version]).fetchall()
    return [row | {"partition": row["partition"].isoformat()} for row in rows]


def _zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """The files as one zip, sorted by path, without times and uncompressed: its bytes do not depend on zlib."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path, body in sorted(files.items()):
            entry = zipfile.ZipInfo(path, FIRST_MOMENT_OF_ZIP)
            entry.external_attr = READABLE_BY_ALL
            entry.create_system = 3
            archive.writestr(entry, body)
    return sink.getvalue()
