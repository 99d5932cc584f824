"""A real S3 server (SeaweedFS) on this machine, from a PyPI wheel, without Docker."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from nightshift.errors import NightshiftError
from nightshift.local import processes
from nightshift.local.processes import LONGEST_SOCKET_PATH, ProcessRecord, write_secret

BIN = Path(sys.executable).parent
GRPC_OFFSET = 10_000
"""SeaweedFS also listens on each of its ports plus this."""
REGION = "us-east-1"
START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Ports:
    """Ports of one SeaweedFS. Each one plus GRPC_OFFSET is used as well."""

    s3: int
    master: int
    volume: int
    filer: int
    admin: int


@dataclass(frozen=True)
class S3Server:
    """A running SeaweedFS."""

    process: ProcessRecord
    endpoint_url: str
    access_key: str
    secret_key: str


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
