"""Dumps of PostgreSQL databases, by pg_dump and pg_restore.

Both programs read the address, user and password from the environment: other users of the machine see command lines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from nightshift.errors import ConfigurationError
from nightshift.io.warehouse.schema import connect, describe, plain_url
from nightshift.settings import Settings

LOCK_WAIT_MILLISECONDS = 60_000
SHOWN_TABLES = 5
SHOWN_CHARACTERS = 800


class DatabaseDumps:
    """Dumps and restores databases. `folders` may have the programs, besides those of PATH.

    Methods raise ConfigurationError and WarehouseUnavailable as `schema.connect` does, and ConfigurationError if no
    program fits the server, or one fails.
    """

    def __init__(self, settings: Settings, folders: Sequence[Path] = ()) -> None:
        self._settings, self._folders = settings, folders

    def dump(self, url: SecretStr, path: Path) -> None:
        """Write a dump of the whole database, one snapshot, in pg_dump's custom format."""
        self._run("pg_dump", url, "--format=custom", f"--lock-wait-timeout={LOCK_WAIT_MILLISECONDS}", f"--file={path}")

    def restore(self, url: SecretStr, path: Path) -> None:
        """Restore a dump into an empty database, in one transaction. Owners of tables are the roles of the dump."""
        database = make_conninfo(dbname=conninfo_to_dict(plain_url(url)).get("dbname"))
        self._run("pg_restore", url, f"--dbname={database}", "--single-transaction", str(path))

    def tables(self, url: SecretStr) -> list[str]:
        """Up to SHOWN_TABLES tables of the database, with their schemas; empty if it has none."""
        query = (
            "SELECT schemaname || '.' || tablename FROM pg_catalog.pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT %s"
        )
        with connect(self._settings, url=url) as connection:
            return [name for (name,) in connection.execute(query, [SHOWN_TABLES])]

    def _run(self, name: str, url: SecretStr, *arguments: str) -> None:
        process = subprocess.run(
            [self._program(name, url), "--no-password", *arguments],
            env=_environment(url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise ConfigurationError(
                "NS-BACKUP-002",
                f"{name} failed for {describe(plain_url(url))}: {process.stderr.strip()[-SHOWN_CHARACTERS:]}. "
                f"If a role is missing, create it first; if the disk is full, free some.",
            )

    def _program(self, name: str, url: SecretStr) -> Path:
        """The program of the server's version, or else of the next newer one: an older one cannot read the server,
        and a newer one restores settings that an older server does not have."""
        with connect(self._settings, url=url) as connection:
            server = connection.info.server_version // 10_000
        found = [path for folder in self._folders if (path := folder / name).exists()]
        on_path = shutil.which(name)
        found += [Path(on_path)] if on_path else []
        versions = {path: _version(path) for path in found}
        usable = [path for path in found if versions[path] >= server]
        if not usable:
            present = ", ".join(f"{path} ({version})" for path, version in versions.items()) or "none"
            raise ConfigurationError(
                "NS-BACKUP-001",
                f"PostgreSQL {server} at {describe(plain_url(url))} needs {name} of version {server} or newer; found: "
                f"{present}. Install the client programs of PostgreSQL {server} (postgresql-client-{server}).",
            )
        return min(usable, key=lambda path: versions[path])


def _version(program: Path) -> int:
    """The major version that a program states; 0 if it states none."""
    stated = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\) (\d+)", stated)
    return int(match[1]) if match else 0


def _environment(url: SecretStr) -> dict[str, str]:
    """This process's environment with the parts of a PostgreSQL URL in libpq's variables, in place of any others."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    parts = pq.Conninfo.parse(plain_url(url).encode())
    return base | {part.envvar.decode(): part.val.decode() for part in parts if part.envvar and part.val is not None}
