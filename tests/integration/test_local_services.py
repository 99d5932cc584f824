"""The local S3 server and PostgreSQL: started, reached, stopped, and what they say when they cannot start."""

import contextlib
import dataclasses
import os
import shutil
import socket
import ssl
import stat
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import botocore.exceptions
import psutil
import psycopg
import pytest

from nightshift.errors import ConfigurationError
from nightshift.io.object_store import s3_client
from nightshift.local import postgres, processes
from nightshift.local.postgres import postgres_place, start_postgres
from nightshift.local.scratch import free_s3_ports, running
from nightshift.local.services import GRPC_OFFSET, LANDING_ACCESS_KEY, LandingKey, ensure_bucket, start_s3
from support.errors import raises_code


@pytest.fixture
def folder():
    # Not tmp_path: root has to run PostgreSQL as a user who may not enter it.
    with tempfile.TemporaryDirectory(prefix="nightshift-test-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


def client(server, secret_key):
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": secret_key}
    return s3_client(server.endpoint_url, "us-east-1", keys)


def test_immutable_objects_are_written_once(store):
    assert store.put("a/b.txt", b"one", immutable=True)
    assert not store.put("a/b.txt", b"two", immutable=True)
    assert store.get("a/b.txt") == b"one"
    assert store.get("a/missing") is None


def test_each_test_has_a_bucket_of_its_own(store):
    assert store.list("") == []


def test_settings_are_those_of_the_process(settings, warehouse_url):
    assert settings.environment == "test"
    assert settings.warehouse_url.get_secret_value() == warehouse_url
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select current_database()").fetchone() == ("warehouse",)


def test_wrong_credentials_are_a_configuration_error(services):
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        client(services.s3, "wrong").list_buckets()


def test_the_store_listens_on_loopback_only(services):
    process = psutil.Process(services.s3.process.pid)
    listening = {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_inner_ports_reject_unsigned_requests(services, store, method):
    store.put("inner/secret.txt", b"one")
    process = psutil.Process(services.s3.process.pid)
    ports = {flag.split(".port=")[0]: int(flag.split("=")[1]) for flag in process.cmdline() if ".port=" in flag}
    addresses = {
        "filer": f"http://127.0.0.1:{ports['-filer']}/buckets/{store.bucket}/inner/secret.txt",
        # Signed for by the master; without keys an unknown file is a 404.
        "volume": f"http://127.0.0.1:{ports['-volume']}/1,01637037d6",
        "master": f"http://127.0.0.1:{ports['-master']}/dir/assign",
    }
    expected = {"filer": 404, "volume": 401, "master": 404}
    for name, address in addresses.items():
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(urllib.request.Request(address, b"two" if method == "PUT" else None, method=method))
        raised.value.close()
        assert raised.value.code == expected[name], name
    assert store.get("inner/secret.txt") == b"one"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""How a gRPC client begins: HTTP/2 and a frame of settings, which a server answers with its own."""


def speaks_grpc(port, context=None):
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    with plain, context.wrap_socket(plain) if context else plain as connection:
        connection.sendall(PREFACE)
        answer = connection.recv(9)
        return len(answer) == 9 and answer[3] == 4


def test_grpc_needs_the_certificate_of_the_store(services):
    process = psutil.Process(services.s3.process.pid)
    for port in {c.laddr.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}:
        with contextlib.suppress(OSError):  # the connection is closed
            assert not speaks_grpc(port), port
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    filer = GRPC_OFFSET + int(next(flag for flag in process.cmdline() if "-filer.port=" in flag).split("=")[1])
    with pytest.raises(OSError, match=r"certificate required|reset"):
        speaks_grpc(filer, context)
    folder = Path(process.cwd())
    assert stat.S_IMODE((folder / "grpc.key").stat().st_mode) == 0o600
    context.load_cert_chain(folder / "grpc.crt", folder / "grpc.key")
    assert speaks_grpc(filer, context)


def test_postgresql_has_no_port_and_its_socket_is_its_owners(services):
    process = psutil.Process(services.postgres.process.pid)
    assert [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []
    assert stat.S_IMODE(services.postgres.place.sockets.stat().st_mode) == 0o700


def test_data_survives_a_restart_on_other_ports(folder):
    keys = {"access_key": "someone", "secret_key": "very-secret-indeed"}
    for start in range(2):
        s3 = start_s3(folder / "s3", free_s3_ports(), **keys)
        postgres = start_postgres(folder / "postgres", databases=("warehouse",))
        try:
            ensure_bucket(s3, "kept")
            connection = psycopg.connect(postgres.place.url("warehouse"), autocommit=True)
            with connection:
                if start == 0:
                    client(s3, keys["secret_key"]).put_object(Bucket="kept", Key="object", Body=b"bytes")
                    connection.execute("create table kept as select 42 as answer")
                body = client(s3, keys["secret_key"]).get_object(Bucket="kept", Key="object")["Body"].read()
                assert body == b"bytes"
                assert connection.execute("select answer from kept").fetchone() == (42,)
        finally:
            processes.stop(postgres.process, interrupt=True)
            processes.stop(s3.process)


def test_landing_key_reaches_landing_only(folder):
    keys = {"access_key": "someone", "secret_key": "very-secret-indeed"}
    s3 = start_s3(folder / "s3", free_s3_ports(), **keys, landing=LandingKey("bucket", "delivers-at-night"))
    try:
        ensure_bucket(s3, "bucket")
        everything = client(s3, keys["secret_key"])
        delivers = client(dataclasses.replace(s3, access_key=LANDING_ACCESS_KEY), "delivers-at-night")
        for key in ("landing/parcels/dt=2020-03-20/a.csv", "parcels/manifest.json", "landing-zone/a.csv"):
            everything.put_object(Bucket="bucket", Key=key, Body=b"before")
        delivers.put_object(Bucket="bucket", Key="landing/parcels/dt=2020-03-20/a.csv", Body=b"delivered")
        listed = delivers.list_objects_v2(Bucket="bucket", Prefix="landing/")["Contents"]
        assert [one["Key"] for one in listed] == ["landing/parcels/dt=2020-03-20/a.csv"]
        outside = {"Bucket": "bucket", "Key": "parcels/manifest.json"}
        for call in (
            lambda: delivers.put_object(**outside, Body=b"forged"),
            lambda: delivers.get_object(**outside),
            lambda: delivers.delete_object(**outside),
            lambda: delivers.create_multipart_upload(**outside),
            lambda: delivers.put_object(Bucket="bucket", Key="landing/../parcels/manifest.json", Body=b"forged"),
            lambda: delivers.put_object(Bucket="bucket", Key="landing-zone/a.csv", Body=b"forged"),
            lambda: delivers.copy_object(Bucket="bucket", Key="landing/a", CopySource="bucket/parcels/manifest.json"),
            lambda: delivers.list_objects_v2(Bucket="bucket"),
            lambda: delivers.create_bucket(Bucket="another"),
        ):
            with pytest.raises(botocore.exceptions.ClientError, match=r"AccessDenied|InvalidRequest"):
                call()
        assert everything.get_object(**outside)["Body"].read() == b"before"
    finally:
        processes.stop(s3.process)


def test_a_killed_postgresql_starts_again(folder):
    first = start_postgres(folder, databases=("warehouse",))
    psutil.Process(first.process.pid).kill()
    psutil.wait_procs([psutil.Process(first.process.pid)], timeout=5)
    second = start_postgres(folder, databases=("warehouse",))
    try:
        assert answers(second)
    finally:
        processes.stop(second.process, interrupt=True)


def answers(server):
    with psycopg.connect(server.place.url("warehouse")) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def test_deep_closed_folder_works_and_is_cleaned_up(folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    deep = closed / ("d" * 70) / ("e" * 70)
    with running(deep) as started:
        assert answers(started.postgres)
        outside = postgres_place(deep / "postgres").outside
        assert outside is not None
        assert outside.exists()
    assert not outside.exists()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_server_that_cannot_start_says_why(folder):
    data = folder / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    with raises_code(ConfigurationError, "NS-LOCAL-020", "PostgreSQL"):
        start_postgres(folder, databases=())


def test_an_interrupted_start_leaves_no_process(folder, monkeypatch):
    def interrupt(*_, record, **__):
        started.append(record)
        raise KeyboardInterrupt

    started = []
    monkeypatch.setattr(processes, "wait_until", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_s3(folder / "s3", free_s3_ports(), access_key="admin", secret_key="s" * 20)
    with pytest.raises(KeyboardInterrupt):
        start_postgres(folder / "postgres", databases=())
    assert [processes.find(record) for record in started] == [None, None]


def test_copied_program_runs_in_a_closed_environment(folder, monkeypatch):
    installed, user = postgres.postgres_installation(), os.geteuid()
    closed_folder, place_for_root = postgres.closed_folder, postgres.postgres_place

    def place(path):
        """The folders that root would choose; only root may run the program as another user."""
        with monkeypatch.context() as as_root:
            as_root.setattr(os, "geteuid", lambda: 0)
            chosen = place_for_root(path)
        return chosen if user == 0 else dataclasses.replace(chosen, user=None)

    monkeypatch.setattr(postgres, "closed_folder", lambda p: p if p.is_relative_to(installed) else closed_folder(p))
    monkeypatch.setattr(postgres, "postgres_place", place)
    server = start_postgres(folder, databases=("warehouse",))
    outside = server.place.outside
    try:
        assert answers(server)
        assert psutil.Process(server.process.pid).exe().startswith(str(outside))
    finally:
        processes.stop(server.process, interrupt=True)
        shutil.rmtree(outside)
