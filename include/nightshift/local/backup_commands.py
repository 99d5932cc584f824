"""The commands `nightshift backup`, `restore` and `maintenance`. Docstrings are their help texts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from nightshift.declare.discovery import load_use_case
from nightshift.local.layout import DATABASES, Layout
from nightshift.local.postgres import postgres_installation
from nightshift.local.stack import Stack

if TYPE_CHECKING:
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.database_dumps import DatabaseDumps
    from nightshift.services.backup import Backup

DATABASE_VARIABLES = {"airflow": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "mlflow": "MLFLOW_BACKEND_STORE_URI"}
"""Where the addresses of databases besides the warehouse are, unless the warehouse is the local stack's."""


def backup(chosen: argparse.Namespace) -> None:
    """Back up warehouse, metadata and bucket to a folder; what the folder has already is not copied again.

    The warehouse and the bucket are those of the environment, by default the local stack's. Databases of Airflow and
    MLflow: those of the local stack, else AIRFLOW__DATABASE__SQL_ALCHEMY_CONN and MLFLOW_BACKEND_STORE_URI if they are
    set.
    """
    from nightshift.services.backup import back_up

    made = back_up(*_what_there_is(), chosen.folder, datetime.now(UTC))
    copied = sum(entry.bytes for entry in made.copied)
    print(f"{_described(made)}; copied now: {len(made.copied)} objects, {_megabytes(copied)}.")


def restore(chosen: argparse.Namespace) -> None:
    """Restore a backup into an empty bucket of the same name and empty databases, after checking every hash.

    Addresses as for `nightshift backup`. Of the local stack, the stores are started if need be: `make clean`, restore,
    then `make up`.
    """
    from nightshift.services import backup as backups

    if chosen.check:
        print(f"Intact: {_described(backups.verify(chosen.folder, chosen.at))}.")
        return
    local = "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ
    if local:
        Stack().up_stores()
    store, dumps, databases = _what_there_is()
    restored = backups.restore(store, dumps, databases, chosen.folder, chosen.at)
    print(f"Restored: {_described(restored)}.\nNow check:")
    print(*(["  make up                                        Airflow and MLflow start on what was restored"] * local))
    print(
        "  nightshift preflight                           what the pipeline needs is there\n"
        "  nightshift summary                             the newest nights are those that you expect\n"
        "  nightshift lineage <key of a prediction>       every hash is checked, down to the landed files\n"
        "Partitions after the backup are ingested again: by the next nights for a week, older ones by a backfill."
    )


def maintenance(chosen: argparse.Namespace) -> None:
    """List the orphans of a use case, what interrupted commits left behind; with --delete, delete them.

    What a manifest names is never one, nor is an artifact that a status, a publication or a decision names. Use
    --delete while nothing runs or backfills partitions older than --days.
    """
    from nightshift.services.orphans import sweep
    from nightshift.settings import load_settings

    store, _, _ = _what_there_is()
    use_case = load_use_case(chosen.use_case)
    orphans = sweep(use_case, load_settings(), store, days=chosen.days, delete=chosen.delete)
    for info in orphans:
        print(f"{info.modified:%Y-%m-%d}  {info.bytes:>12}  {store.uri(info.key)}")
    size = _megabytes(sum(info.bytes for info in orphans))
    print(f"{len(orphans)} orphans, {size}{', deleted' if chosen.delete else ''}.")


def _what_there_is() -> tuple[ArtifactStore, DatabaseDumps, dict[str, SecretStr]]:
    """The store, dumps, and URLs of databases by name, of the environment or of the local stack."""
    if "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ:
        os.environ.update(Stack().environment())
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.database_dumps import DatabaseDumps
    from nightshift.settings import load_settings

    settings, layout = load_settings(), Layout.default()
    databases = {"warehouse": settings.warehouse_url}
    folders = []
    # Without a local stack, its PostgreSQL need not be installed.
    if layout.folder.exists():
        folders = [postgres_installation() / "bin"]
        if settings.warehouse_url.get_secret_value() == layout.postgres.url("warehouse"):
            databases = {name: SecretStr(layout.postgres.url(name)) for name in DATABASES}
    if len(databases) == 1:
        variables = {name: os.environ.get(variable, "") for name, variable in DATABASE_VARIABLES.items()}
        databases |= {name: SecretStr(url) for name, url in variables.items() if url.startswith("postgresql")}
    return ArtifactStore(settings), DatabaseDumps(settings, folders), databases


def _described(backup: Backup) -> str:
    manifest = backup.manifest
    dumps = ", ".join(f"{name} {_megabytes(entry.bytes)}" for name, entry in manifest.databases.items())
    size = _megabytes(manifest.object_bytes)
    return f"{backup.folder}: {dumps}; bucket {manifest.bucket} with {manifest.inventory.rows} objects, {size}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


_FOLDER = {"folder": {"type": Path, "help": "a folder of backups, such as one on another disk"}}

COMMANDS: dict[Callable[[argparse.Namespace], int | None], dict[str, dict[str, Any]]] = {
    backup: _FOLDER,
    restore: {
        **_FOLDER,
        "--at": {"default": "", "help": "the folder name of a backup, as 2013-04-03T030000Z (default: the newest)"},
        "--check": {"action": "store_true", "help": "check the hashes of the backup, and restore nothing"},
    },
    maintenance: {
        "use_case": {},
        "--days": {"type": int, "default": 7, "help": "only objects older than that (default 7)"},
        "--delete": {"action": "store_true", "help": "delete them"},
    },
}
"""Each command with its arguments, as in `use_case_commands`."""
