"""Checks that the services the pipeline needs are reachable and support the operations it uses.

The object store is probed: S3-compatible stores differ in what they do when several writers
write the same key.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING

import boto3
import botocore.exceptions
import requests

from nightshift.declare.use_case import UseCase
from nightshift.errors import NightshiftError
from nightshift.io.alerts import receivers
from nightshift.io.object_store import CONFLICT, EXISTS, s3_client
from nightshift.io.runtimes import require_runtimes, runtimes_folder
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRITERS = 8
OLDEST_POSTGRESQL = 150000
LARGEST_SKEW_SECONDS = 60.0
TIMEOUT_SECONDS = 5
PROBE_PREFIX = "preflight/"


@dataclass(frozen=True)
class Check:
    """Result of one check. `detail` describes it and, if it is not ok, says what to do."""

    name: str
    ok: bool
    detail: str


class _Missing(Exception):
    """A failed check; the text says what is missing and what to do."""


def check(settings: Settings, use_cases: Sequence[UseCase]) -> list[Check]:
    """Check the object store, the warehouse, Feast's online store, MLflow, the receivers of alerts (that their URLs are
    usable; nothing is sent), and the clean environments that models are verified in. Failures are returned, not raised.

    Objects written below `preflight/` are removed again; in the warehouse only a temporary table
    is created.
    """
    address = settings.s3_endpoint_url, settings.s3_region
    retries = {"max_attempts": 1}
    client = s3_client(
        *address, max_pool_connections=WRITERS, connect_timeout=TIMEOUT_SECONDS, read_timeout=30, retries=retries
    )
    probe = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    store_checks: dict[str, Callable[[], str]] = {
        "credentials": _credentials,
        "bucket": lambda: _bucket(client, settings),
        "path-style address": lambda: _path_style(client, settings),
        "reads what was written": lambda: _read_after_write(client, settings, probe),
        "conditional put": lambda: _conditional_put(client, settings, probe),
        "versioning": lambda: _versioning(client, settings),
        "clock": lambda: _store_clock(client, settings),
    }
    checks = []
    for name, attempt in store_checks.items():
        checks.append(_tried(f"object store {name}", attempt))
        if name in ("credentials", "bucket") and not checks[-1].ok:
            break
    warehouse = _tried("warehouse", lambda: _warehouse(settings))
    checks.append(warehouse)
    if warehouse.ok:
        checks += [_tried(f"warehouse schema {u.name}", partial(_schema, settings, u)) for u in use_cases]
    checks.append(_tried(f"feast online store ({settings.feast_online_store})", lambda: _online_store(settings)))
    checks.append(_tried("mlflow", lambda: _mlflow(settings)))
    checks.append(_tried("receivers of alerts", lambda: _receivers(settings)))
    checks += [_tried(f"onnxruntime for {u.name}", partial(_runtimes, u)) for u in use_cases]
    return checks


def _tried(name: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(name, True, attempt())
    except (_Missing, NightshiftError) as missing:
        return Check(name, False, str(missing))
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        return Check(name, False, f"denied ({code}): check the credentials and their permissions.")
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        return Check(name, False, f"no answer ({type(error).__name__}): check AWS_ENDPOINT_URL, and that it is up.")


def _credentials() -> str:
    credentials = boto3.Session().get_credentials()
    if credentials is None:
        raise _Missing("none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    return f"found ({credentials.method})"


def _bucket(client: S3Client, settings: Settings) -> str:
    try:
        client.head_bucket(Bucket=settings.bucket)
    except botocore.exceptions.ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
            raise _Missing(f"there is no bucket {settings.bucket!r}: create it or set NIGHTSHIFT_BUCKET.") from None
        raise
    return f"{settings.bucket} at {client.meta.endpoint_url}"


def _path_style(client: S3Client, settings: Settings) -> str:
    listing = client.list_objects_v2(Bucket=settings.bucket, Prefix=PROBE_PREFIX, MaxKeys=1)
    if listing.get("Name", settings.bucket) != settings.bucket:
        raise _Missing(f"the store listed {listing.get('Name')!r} instead of {settings.bucket!r}: it ignores the path.")
    return "understood"


def _read_after_write(client: S3Client, settings: Settings, probe: str) -> str:
    bucket, key = settings.bucket, f"{probe}/reads"
    try:
        for turn in range(3):
            client.put_object(Bucket=bucket, Key=key, Body=str(turn).encode())
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != str(turn).encode():
                raise _Missing(
                    "a read right after a replacement returned the old object: a consistent store is needed."
                )
    finally:
        client.delete_object(Bucket=bucket, Key=key)
    return "at once, also when replaced"


def _conditional_put(client: S3Client, settings: Settings, probe: str) -> str:
    key = f"{probe}/conditional"

    def write(writer: int) -> bool:
        try:
            client.put_object(Bucket=settings.bucket, Key=key, Body=str(writer).encode(), IfNoneMatch="*")
        except botocore.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in EXISTS | CONFLICT:
                return False
            raise
        return True

    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            winners = [writer for writer, won in enumerate(pool.map(write, range(WRITERS))) if won]
        content = client.get_object(Bucket=settings.bucket, Key=key)["Body"].read() if winners else b""
    finally:
        client.delete_object(Bucket=settings.bucket, Key=key)
    if winners == [] or len(winners) > 1 or content != str(winners[0]).encode():
        raise _Missing(
            f"{len(winners)} of {WRITERS} writers created the same object (If-None-Match: *): artifacts "
            "could overwrite each other. Use a store, or a version of it, that supports conditional writes."
        )
    return f"one winner of {WRITERS} writers"


def _versioning(client: S3Client, settings: Settings) -> str:
    if client.get_bucket_versioning(Bucket=settings.bucket).get("Status") == "Enabled":
        return "on"
    return "off; optional: with it an earlier status of a partition can be restored"


def _store_clock(client: S3Client, settings: Settings) -> str:
    headers = client.head_bucket(Bucket=settings.bucket)["ResponseMetadata"]["HTTPHeaders"]
    header = headers.get("date")
    if not header:
        return "not stated"
    return _skew(parsedate_to_datetime(header), "the object store")


def _skew(remote: datetime, where: str) -> str:
    seconds = abs((datetime.now(UTC) - remote).total_seconds())
    if seconds > LARGEST_SKEW_SECONDS:
        raise _Missing(f"{where} and this machine are {seconds:.0f} s apart: synchronise their clocks (NTP).")
    return f"{seconds:.0f} s apart"


def _warehouse(settings: Settings) -> str:
    with warehouse_schema.connect(settings) as connection:
        version = connection.info.server_version
        if version < OLDEST_POSTGRESQL:
            raise _Missing(f"PostgreSQL {version // 10000} is too old: use {OLDEST_POSTGRESQL // 10000} or newer.")
        connection.execute("CREATE TEMP TABLE preflight (n integer) ON COMMIT DROP")
        connection.execute("INSERT INTO preflight VALUES (1)")
        row = connection.execute(
            "SELECT has_database_privilege(current_database(), 'CREATE'), clock_timestamp(), current_user"
        ).fetchone()
    may_create, remote_time, role = row or (False, datetime.now(UTC), "")
    if not may_create:
        raise _Missing(f"role {role} may not create schemas: GRANT CREATE ON DATABASE ... TO {role}.")
    where = warehouse_schema.describe(settings.warehouse_url.get_secret_value())
    return f"PostgreSQL {version // 10000} at {where}, writable, clock {_skew(remote_time, 'the warehouse')}"


def _schema(settings: Settings, use_case: UseCase) -> str:
    pending = warehouse_schema.pending(settings, use_case)
    return f"{len(pending)} migrations to apply, done at first use" if pending else "up to date"


def _receivers(settings: Settings) -> str:
    kinds = [receiver.kind for receiver in receivers(settings.alert_urls)]
    return ", ".join(kinds) or "none: alerts are recorded and logged only; set NIGHTSHIFT_ALERT_URLS"


def _online_store(settings: Settings) -> str:
    if settings.feast_online_store == "postgres":
        with warehouse_schema.connect(settings) as connection:
            connection.execute("SELECT 1")
        return "in the warehouse's database"
    import redis

    if settings.redis_url is None:
        raise _Missing("the online store is redis, but NIGHTSHIFT_REDIS_URL is not set.")
    client = redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_connect_timeout=TIMEOUT_SECONDS)
    try:
        client.ping()
    except redis.RedisError as error:
        raise _Missing(f"redis did not answer ({type(error).__name__}): check NIGHTSHIFT_REDIS_URL.") from None
    finally:
        client.close()
    return "answers"


def _mlflow(settings: Settings) -> str:
    uri = settings.mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise _Missing("set MLFLOW_TRACKING_URI to the tracking server.")
    if not uri.startswith(("http://", "https://")):
        return "a store without a server"
    where = re.sub(r"//[^/]+@", "//", uri)
    try:
        response = requests.get(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
    except requests.RequestException as error:
        reason = type(error).__name__ if error.response is None else error.response.reason
        raise _Missing(f"{where} did not answer ({reason}): is it up, and is MLFLOW_TRACKING_URI right?") from None
    return f"{where} answers ({response.status_code})"


def _runtimes(use_case: UseCase) -> str:
    versions = use_case.verification.onnxruntime_versions
    require_runtimes(versions)
    return f"{' and '.join(versions)} in {runtimes_folder()}"
