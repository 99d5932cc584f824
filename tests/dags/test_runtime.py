"""How steps meet Airflow: errors become retry or failure, refs survive XCom, connections become settings."""

import os

import pytest

from nightshift.artifact import ArtifactRef
from nightshift.errors import PartitionNotReady, SchemaChanged
from nightshift.settings import load_settings

REF = ArtifactRef(uri="s3://bucket/a/", sha256="0" * 64, kind="landed", rows=3)


@pytest.fixture(scope="module")
def steps(dag_bag):
    from dagkit import steps

    return steps


@pytest.fixture(scope="module")
def connections(dag_bag):
    from dagkit import connections

    return connections


def test_a_terminal_error_fails_at_once(steps):
    from airflow.sdk.exceptions import AirflowFailException

    with (
        pytest.raises(AirflowFailException, match="SchemaChanged: NS-TEST-001"),
        steps.airflow_errors(),
    ):
        raise SchemaChanged("NS-TEST-001", "column 'flight' is missing")


def test_a_transient_error_is_retried(steps):
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    with (
        pytest.raises(AirflowException, match="PartitionNotReady: NS-TEST-001") as caught,
        steps.airflow_errors(),
    ):
        raise PartitionNotReady("NS-TEST-001", "not yet")
    assert not isinstance(caught.value, AirflowFailException)


def test_any_other_error_is_left_as_it_is(steps):
    with pytest.raises(ZeroDivisionError), steps.airflow_errors():
        raise ZeroDivisionError


def test_refs_come_back_from_xcom(steps):
    sent = REF.model_dump()
    restored = steps.restore_refs({"one": sent, "many": (sent, sent), "name": "xgboost", "flag": True})
    assert restored == {"one": REF, "many": [REF, REF], "name": "xgboost", "flag": True}


def test_connections_stand_in_for_what_the_environment_lacks(connections, monkeypatch):
    for name in ("NIGHTSHIFT_WAREHOUSE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_WAREHOUSE", "postgres://reader:secret@db.example:5433/warehouse")
    monkeypatch.setenv(
        "AIRFLOW_CONN_NIGHTSHIFT_OBJECT_STORE",
        '{"conn_type": "aws", "login": "key", "password": "secret", "extra": {"endpoint_url": "http://store:9000"}}',
    )
    connections.use_connections()
    assert os.environ["NIGHTSHIFT_WAREHOUSE_URL"] == "postgresql://reader:secret@db.example:5433/warehouse"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "key"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert os.environ["AWS_ENDPOINT_URL"] == "http://store:9000"


def test_the_check_of_use_cases_finds_connections(dag_bag, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_WAREHOUSE_URL", "to be restored")
    monkeypatch.delenv("NIGHTSHIFT_WAREHOUSE_URL")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_WAREHOUSE", "postgres://reader:secret@db.example:5433/warehouse")
    monkeypatch.setattr(
        "nightshift.services.watchdog.check_use_cases",
        lambda settings: settings.warehouse_url.get_secret_value().index("@db.example:5433/"),
    )
    load_settings.cache_clear()
    dag_bag.dags["nightshift.watchdog"].tasks[0].python_callable()
    load_settings.cache_clear()


def test_the_environment_wins_over_connections(connections, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_WAREHOUSE_URL", "postgresql://stated/db")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stated")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_WAREHOUSE", "postgres://other/db")
    connections.use_connections()
    assert os.environ["NIGHTSHIFT_WAREHOUSE_URL"] == "postgresql://stated/db"
