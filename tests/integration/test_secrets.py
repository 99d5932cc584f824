"""What nights leave behind is searched for every secret of the settings: bucket, warehouse, logs, pages, messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from nightshift.app import application
from nightshift.app.application import create_app
from nightshift.app.page import PAGES
from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.errors import WarehouseUnavailable
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.alerts import raise_alert
from nightshift.services.preflight import check
from nightshift.settings import Settings, load_settings
from support.desk import D, begin, days_after, new_desk
from support.nights import Nights
from support.receiver import SECRET, Receiver
from support.secrets import found, in_bucket, in_database

PASSWORD, TOKEN, STORE_KEY = "warehouse-s3cr3t", "metrics-s3cr3t", "AWS_SECRET_ACCESS_KEY"

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def secrets(service_environment: dict[str, str]) -> dict[str, str]:
    """The secrets, by what they open."""
    return {"store": service_environment[STORE_KEY], "warehouse": PASSWORD, "alerts": SECRET, "metrics": TOKEN}


@pytest.fixture
def secret_settings(
    settings: Settings, receiver: Receiver, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings with a secret wherever there can be one, which `load_settings` returns, too."""
    url = settings.warehouse_url.get_secret_value().replace("//postgres:@", f"//postgres:{PASSWORD}@")
    assert conninfo_to_dict(url)["password"] == PASSWORD
    monkeypatch.setenv("NIGHTSHIFT_WAREHOUSE_URL", url)
    monkeypatch.setenv("NIGHTSHIFT_ALERT_URLS", receiver.url)
    monkeypatch.setenv("NIGHTSHIFT_METRICS_TOKEN", TOKEN)
    load_settings.cache_clear()
    application._store.cache_clear()
    yield load_settings()
    application._store.cache_clear()
    load_settings.cache_clear()


def test_the_search_finds_what_is_there(settings: Settings, store: ArtifactStore, use_case: UseCase) -> None:
    store.put("a/rows.parquet", _parquet(pa.table({"a": ["x", f"before {PASSWORD} after"]})))
    store.put("b/manifest.json", TOKEN.encode())
    raise_alert(settings, use_case, Alert(D, "drift", f"see {SECRET}"))
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        table = sql.Identifier(use_case.name, "bytes")
        connection.execute(
            sql.SQL("CREATE TABLE {} AS SELECT %s::bytea AS a").format(table), [b"x" + PASSWORD.encode()]
        )
    left = in_bucket(store) | in_database(settings.warehouse_url.get_secret_value())
    assert found(left, {"p": PASSWORD, "t": TOKEN, "s": SECRET}) == {
        ("p", "a/rows.parquet"),
        ("t", "b/manifest.json"),
        ("s", f"{use_case.name}.alerts"),
        ("p", f"{use_case.name}.bytes"),
    }


def test_nights_leave_no_secret(
    secret_settings: Settings,
    secrets: dict[str, str],
    store: ArtifactStore,
    late_returns: UseCase,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    # From the delivery to the features, with Feast and its online store.
    fed = Nights(late_returns, secret_settings, store)
    first = late_returns.first_partition
    fed.deliver([first])
    fed.ingest(first)
    fed.materialize(first, online=True)
    with new_desk(monkeypatch, secret_settings, store) as desk:
        begin(desk)
        for number in range(2):
            desk.night(days_after(number))
            desk.check_drift(days_after(number))
        receiver.up = False
        raise_alert(secret_settings, desk.use_case, Alert(D, "drift", "hours drifted"))
        assert receiver.refused
        left = (
            in_bucket(store)
            | in_database(secret_settings.warehouse_url.get_secret_value())
            | in_app([desk.use_case, late_returns])
        )
        results = check(secret_settings, [desk.use_case])
        left["preflight"] = "\n".join(f"{one.name}: {one.detail}" for one in results)
    left["errors"] = "\n".join(error_messages(secret_settings, late_returns))
    output = capfd.readouterr()
    left |= {"logs": caplog.text, "stdout": output.out, "stderr": output.err}
    assert "did not answer" in left["errors"]
    assert "did not accept the message" in left["logs"]
    assert any(name.endswith("manifest.json") for name in left)
    assert found(left, secrets) == set()


def in_app(use_cases: list[UseCase]) -> dict[str, str]:
    """Every page of the app, its gauges and the drift report, by address."""
    client = TestClient(create_app(lambda: use_cases, scraped=lambda: use_cases))
    name = use_cases[0].name
    addresses = ["/", "/metrics", *(f"/{name}/{page}".rstrip("/") for page, _ in PAGES)]
    addresses += [f"/{name}/night/{days_after(0)}", f"/files/{name}/report_drift/{days_after(0)}/report.html"]
    addresses += [f"/files/{use_cases[1].name}/validate/{use_cases[1].first_partition}/data_docs/index.html"]
    answers = {address: client.get(address) for address in addresses}
    assert {address for address, answer in answers.items() if answer.status_code != 200} == set()
    return {address: f"{answer.headers} {answer.text}" for address, answer in answers.items()}


def error_messages(settings: Settings, use_case: UseCase) -> Iterator[str]:
    """What a person reads, in the settings and when a service is away."""
    yield repr(settings)
    away = f"postgresql://postgres:{PASSWORD}@127.0.0.1:1/warehouse"
    attempts: list[Callable[[Settings], object]] = [
        lambda gone: Warehouse(gone, use_case).migrate(),
        lambda gone: warehouse_schema.pending(gone, use_case),
    ]
    for attempt in attempts:
        with pytest.raises(WarehouseUnavailable) as caught:
            attempt(settings.model_copy(update={"warehouse_url": type(settings.warehouse_url)(away)}))
        yield f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
