"""An S3 server (SeaweedFS) on this machine, from a PyPI wheel, without Docker."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from nightshift.local import processes
from nightshift.local.processes import LONGEST_SOCKET_PATH, ProcessRecord, write_secret

BIN = Path(sys.executable).parent
GRPC_OFFSET = 10_000
"""SeaweedFS also listens on each of its ports plus this."""
PORTS = {"s3": "s3", "s3_master": "master", "s3_volume": "volume", "s3_filer": "filer", "s3_admin": "admin"}
"""The ports of one SeaweedFS, and the prefix of its flag for each."""
REGION = "us-east-1"
LANDING_ACCESS_KEY = "landing"
GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "client")
"""The parts of SeaweedFS that reach each other by gRPC, and its shell."""
SIGNED = ("jwt.signing", "jwt.signing.read")
"""What requests to the volume port have to be signed for: writing and reading."""


@dataclass(frozen=True)
class S3Server:
    """A running SeaweedFS."""

    process: ProcessRecord
    endpoint_url: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class LandingKey:
    """The secret of the access key LANDING_ACCESS_KEY, which reads and writes below landing/ of a bucket only."""

    bucket: str
    secret_key: str


def start_s3(
    folder: Path,
    ports: Mapping[str, int],
    *,
    access_key: str,
    secret_key: str,
    landing: LandingKey | None = None,
    log: Path | None = None,
) -> S3Server:
    """Start SeaweedFS with its data and identities below `folder`; returns when it serves requests.

    `ports` has at least the names in PORTS. `access_key` may do everything. Raises ConfigurationError if it does not
    start.
    """
    data, log = folder / "data", log or folder / "s3.log"
    data.mkdir(parents=True, exist_ok=True)
    identities = folder / "identities.json"
    users = [_identity(access_key, secret_key, ["Admin", "Read", "Write", "List", "Tagging"])]
    if landing is not None:
        below = [f"{action}:{landing.bucket}/landing/*" for action in ("Read", "Write", "List")]
        users.append(_identity(LANDING_ACCESS_KEY, landing.secret_key, below))
    write_secret(identities, json.dumps({"identities": users}))
    # Read in the working directory. Keys are of this start only.
    write_secret(folder / "security.toml", _security(folder))
    flags = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        **{f"{flag}.port": ports[name] for name, flag in PORTS.items()},
        # Of master and filer; they reach each other by gRPC.
        "disableHttp": "true",
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.config": identities,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 256,
        "volume.max": 5000,
        "volume.preStopSeconds": 0,
    }
    # SeaweedFS does not remove its socket, which is in /tmp by default.
    if len(os.fsencode(folder / "s3.sock")) <= LONGEST_SOCKET_PATH:
        flags["s3.localSocket"] = folder / "s3.sock"
    record = processes.spawn(
        [BIN / "weed", "mini", *(f"-{name}={value}" for name, value in flags.items())],
        log=log,
        env=processes.base_environment() | {"GOMEMLIMIT": "400MiB", "GOGC": "50"},
        cwd=folder,
    )
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    try:
        processes.wait_until(lambda: s3_is_ready(endpoint), record=record, name="SeaweedFS (S3)", log=log)
    except BaseException:  # also an interrupt: the process does not end with this one
        processes.stop(record)
        raise
    return S3Server(record, endpoint, access_key, secret_key)


def _security(folder: Path) -> str:
    """SeaweedFS's settings: requests to the volume port are signed, and gRPC needs the certificate of this start."""
    key, certificate = folder / "grpc.key", folder / "grpc.crt"
    _write_certificate(key, certificate)
    sections = {name: {"key": secrets.token_hex(32)} for name in SIGNED} | {"grpc": {"ca": str(certificate)}}
    sections |= {f"grpc.{name}": {"cert": str(certificate), "key": str(key)} for name in GRPC}
    lines = []
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{option} = {json.dumps(value)}" for option, value in options.items())]
    return "\n".join(lines) + "\n"


def _write_certificate(key_file: Path, certificate_file: Path) -> None:
    """A private key, and a certificate that it has signed itself. The server does not compare names or addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nightshift local store")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(key_file, pem.decode())
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))


def _identity(access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": access_key, "credentials": credentials, "actions": actions}


def s3_is_ready(endpoint: str) -> bool:
    """True if the S3 server responds; a denied request counts as a response."""
    response = processes.http_get(endpoint)
    return response is not None and response[0] < 500


def ensure_bucket(s3: S3Server, bucket: str) -> None:
    """Create the bucket unless it exists."""
    from nightshift.io.object_store import s3_client

    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    client = s3_client(s3.endpoint_url, REGION, keys, proxies={})
    if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)


def mlflow_command(port: int, database_url: str, artifacts: str | Path) -> list[str]:
    """The command line of an MLflow server on the loopback interface that serves the artifacts itself."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", database_url, "--serve-artifacts", "--artifacts-destination", str(artifacts)),
    ]
