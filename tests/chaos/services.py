"""The services that faults happen to: S3 server, PostgreSQL and, on request, MLflow, a proxy before each.

Their state is kept and restored.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import psutil
import psycopg

from chaos import http_proxy, postgres_proxy
from chaos.effects import Plan, Quiet
from chaos.mlflow_server import MlflowServer
from chaos.outcome import Left, left_by
from chaos.proxy import Proxy
from nightshift.errors import StoreUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.local import processes
from nightshift.local.postgres import SOCKET_NAME, postgres_place, start_postgres
from nightshift.local.scratch import free_s3_ports
from nightshift.local.services import REGION, start_s3
from nightshift.settings import Settings
from support.history import empty_bucket, objects_of, put_objects
from support.second_use_case import ROOT

DATABASE, TRACKING = "warehouse", "mlflow"
KEPT = {DATABASE: "kept", TRACKING: "kept_mlflow"}


class Services:
    """The servers and their proxies. `environment` points a step at the proxies. `mlflow`: see `start_mlflow`."""

    mlflow: MlflowServer | None = None

    def __init__(self, folder: Path, bucket: str) -> None:
        self.folder, self._ports, self._key = folder, free_s3_ports(), secrets.token_urlsafe(24)
        self.start_store()
        self.start_warehouse()
        address = urlsplit(self._s3.endpoint_url)
        sockets = self._postgres.place.sockets / SOCKET_NAME
        self.store_proxy = Proxy(
            lambda: socket.create_connection((address.hostname, address.port or 80)), http_proxy.serve
        )
        self.warehouse_proxy = Proxy(lambda: _unix(sockets), postgres_proxy.serve)
        self.settings = Settings(
            environment="test",
            bucket=bucket,
            s3_endpoint_url=self._s3.endpoint_url,
            warehouse_url=self._postgres.place.url(DATABASE),
        )
        keys = {"AWS_ACCESS_KEY_ID": "nightshift", "AWS_SECRET_ACCESS_KEY": self._key, "AWS_DEFAULT_REGION": REGION}
        temporary = folder / "tmp"
        temporary.mkdir()
        self.environment = keys | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.store_proxy.port}",
            "NIGHTSHIFT_WAREHOUSE_URL": f"postgresql://postgres@127.0.0.1:{self.warehouse_proxy.port}/{DATABASE}",
            "NIGHTSHIFT_ENVIRONMENT": "test",
            "NIGHTSHIFT_BUCKET": bucket,
            "NIGHTSHIFT_USE_CASE_ROOTS": str(ROOT),
            "NO_PROXY": "127.0.0.1",
            # What a killed step leaves there is removed with the folder.
            "TMPDIR": str(temporary),
            "CHAOS_LOG": str(folder / "steps.log"),
        }
        # The client keeps the credentials that it finds now.
        with mock.patch.dict(os.environ, keys):
            self.store = ArtifactStore(self.settings)
        self.store.ensure_bucket()

    @property
    def _proxies(self) -> list[Proxy]:
        return [self.store_proxy, self.warehouse_proxy, *([self.mlflow.proxy] if self.mlflow else [])]

    def set_plan(self, plan: Plan) -> None:
        for proxy in self._proxies:
            proxy.plan = plan

    def quiet(self) -> None:
        """Pass all requests on."""
        self.set_plan(Quiet())

    def disconnect(self) -> None:
        """End all connections through the proxies: nothing of an attempt that has ended reaches a server any more."""
        for proxy in self._proxies:
            proxy.disconnect()

    def failures(self) -> list[BaseException]:
        """What went wrong in the proxies themselves."""
        return [failure for proxy in self._proxies for failure in proxy.failures]

    # Start and stop

    def start_store(self) -> None:
        self._s3 = start_s3(self.folder / "s3", self._ports, access_key="nightshift", secret_key=self._key)

    def restart_store(self) -> None:
        """Start it again; returns when it has its objects and takes new ones, seconds after it responds."""
        self.start_store()
        first = self.store.list("")[0].key
        log = self.folder / "s3" / "s3.log"
        processes.wait_until(lambda: self._usable(first), record=self._s3.process, name="SeaweedFS (S3)", log=log)

    def _usable(self, key: str) -> bool:
        try:
            self.store.put("written after a start", b"as objects")
            self.store.delete("written after a start")
            return self.store.get(key) is not None
        except StoreUnavailable:
            return False

    def start_warehouse(self) -> None:
        self._postgres = start_postgres(self.folder / "postgres", databases=tuple(KEPT))
        with self._administration() as connection:
            # Off in the local stack: a crash may lose the last commits. What is tested is a warehouse that keeps them.
            connection.execute(f"ALTER DATABASE {DATABASE} SET synchronous_commit = on")

    def start_mlflow(self) -> None:
        """Start MLflow and let the steps from now on log there."""
        self.mlflow = MlflowServer(self.folder, self._postgres.place.url(TRACKING, "+psycopg2"))
        self.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{self.mlflow.proxy.port}"

    def crash_mlflow(self) -> None:
        """SIGKILL."""
        assert self.mlflow is not None
        self.mlflow.crash()

    def restart_mlflow(self) -> None:
        assert self.mlflow is not None
        self.mlflow.restart()

    def crash_store(self) -> None:
        """SIGKILL."""
        _kill_family(self._s3.process.pid, signal.SIGKILL)

    def crash_warehouse(self) -> None:
        """SIGQUIT, PostgreSQL's immediate shutdown: the next start recovers from its log, as after a crash."""
        _kill_family(self._postgres.process.pid, signal.SIGQUIT)

    def fill_store(self) -> None:
        """Let no file of the store be written beyond its first byte: as on a full disk, its writes fail."""
        psutil.Process(self._s3.process.pid).rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY))

    def free_store(self) -> None:
        """Undo `fill_store`: start it again."""
        processes.stop(self._s3.process, timeout=1.0)
        self.restart_store()

    def close(self) -> None:
        if self.mlflow is not None:
            self.mlflow.close()
        self.store_proxy.close()
        self.warehouse_proxy.close()
        processes.stop(self._postgres.process, interrupt=True)
        processes.stop(self._s3.process, timeout=1.0)
        outside = postgres_place(self.folder / "postgres").outside
        if outside is not None:
            shutil.rmtree(outside, ignore_errors=True)

    # State

    def keep(self) -> Mapping[str, bytes]:
        """Keep the rows; return the objects."""
        self.quiet()
        for database, kept in KEPT.items():
            self._copy_database(database, kept)
        return objects_of(self.store)

    def restore(self, objects: Mapping[str, bytes]) -> None:
        """Rows and objects as they were kept."""
        self.quiet()
        empty_bucket(self.store)
        put_objects(self.store, objects)
        for database, kept in KEPT.items():
            self._copy_database(kept, database)

    def left(self) -> Left:
        """What is in the warehouse, the bucket and MLflow, comparable."""
        left = left_by(self.settings.warehouse_url.get_secret_value(), self.store)
        return left | (self.mlflow.left() if self.mlflow else {})

    def empty(self) -> None:
        """No rows, no objects."""
        self.quiet()
        empty_bucket(self.store)
        self._copy_database("template1", DATABASE)

    def _copy_database(self, source: str, target: str) -> None:
        with self._administration() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s)", [[source, target]]
            )
            connection.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {target} TEMPLATE {source}")
            connection.execute(f"ALTER DATABASE {target} SET synchronous_commit = on")

    def _administration(self) -> psycopg.Connection:
        return psycopg.connect(self._postgres.place.url("postgres"), autocommit=True)


def _unix(path: Path) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(path))
    return connected


def _kill_family(pid: int, number: int) -> None:
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    parent.send_signal(number)
    # The children of PostgreSQL end with it.
    psutil.wait_procs(family, timeout=30)


@contextmanager
def running(bucket: str) -> Iterator[Services]:
    """Both servers below a temporary folder; stopped and removed at the end of the block."""
    # PostgreSQL runs as another user if root starts it.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-chaos-"))
    folder.chmod(0o711)
    services = None
    try:
        services = Services(folder, bucket)
        yield services
    finally:
        if services is not None:
            services.close()
        shutil.rmtree(folder, ignore_errors=True)
