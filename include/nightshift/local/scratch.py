"""Temporary S3 and PostgreSQL servers for a dry run or a test, on free ports and with new credentials."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightshift.local import processes
from nightshift.local.postgres import PostgresServer, postgres_place, start_postgres
from nightshift.local.services import GRPC_OFFSET, PORTS, REGION, S3Server, start_s3


@dataclass(frozen=True)
class Services:
    """Both servers."""

    s3: S3Server
    postgres: PostgresServer

    def s3_environment(self) -> dict[str, str]:
        """The standard environment variables of S3 clients."""
        return {
            "AWS_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }


def free_s3_ports() -> dict[str, int]:
    """Ports that nothing listens on."""
    return dict(zip(PORTS, processes.free_ports(len(PORTS), also=GRPC_OFFSET), strict=True))


@contextlib.contextmanager
def running(folder: Path, *, databases: Sequence[str] = ("warehouse",)) -> Iterator[Services]:
    """Both servers, with their data below `folder`; stopped at the end of the block, S3 after at most a second."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    s3 = start_s3(folder / "s3", free_s3_ports(), access_key="nightshift", secret_key=secrets.token_urlsafe(24))
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
