"""The schema of the warehouse, its connections, and what monitoring keeps there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import errors, sql
from pydantic import SecretStr

from nightshift.declare.feeds import Column
from nightshift.declare.use_case import UseCase
from nightshift.deployment import GateResult
from nightshift.errors import ConfigurationError, WarehouseUnavailable
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.warehouse import PERFORMANCE_SCHEMA, Warehouse
from nightshift.local.scratch import Services
from nightshift.settings import Settings
from support.errors import raises_code
from support.parcels import DAY, killed


def test_migrations_run_once_whoever_comes(settings: Settings, use_case: UseCase) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: warehouse_schema.migrate(settings, use_case), range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(list(warehouse_schema.MIGRATIONS.glob("*.sql")))]


def test_edited_migration_is_an_error(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse.connection() as connection:
        connection.execute(sql.SQL("UPDATE {} SET sha256 = 'x'").format(warehouse.table("schema_migrations")))
    with raises_code(ConfigurationError, "NS-WAREHOUSE-009", "0001_predictions"):
        warehouse_schema.migrate(settings, use_case)


def test_newer_schema_is_an_error(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse.connection() as connection:
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES ('9999_later', 'x')").format(warehouse.table("schema_migrations"))
        )
    with raises_code(ConfigurationError, "NS-WAREHOUSE-008", "9999_later"):
        warehouse_schema.migrate(settings, use_case)


def test_a_changed_declaration_is_noticed(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    warehouse.migrate()
    changed = dataclasses.replace(
        use_case, prediction_extra=(Column("weight_kg", "int64"), Column("due_at", "timestamp"))
    )
    with raises_code(ConfigurationError, "NS-WAREHOUSE-010", "weight_kg bigint"):
        warehouse_schema.migrate(settings, changed)


def test_every_table_and_most_columns_are_described(warehouse: Warehouse) -> None:
    warehouse.migrate()
    with warehouse.connection() as connection:
        undescribed = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = quote_ident(%s)::regnamespace "
            "AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations' AND obj_description(c.oid) IS NULL",
            [warehouse._use_case.name],
        ).fetchall()
        column = connection.execute(
            "SELECT col_description(%s::regclass, 3)", [warehouse.table("predictions").as_string(connection)]
        ).fetchone()
    assert undescribed == []
    assert column == ("[kg]",)


@pytest.mark.parametrize("change", ["UPDATE {} SET reason = '{{}}'", "DELETE FROM {}", "TRUNCATE {}"])
def test_deployments_are_append_only(warehouse: Warehouse, change: str) -> None:
    warehouse.record_deployment(killed(DAY))
    with pytest.raises(errors.RestrictViolation, match="append-only"), warehouse.connection() as connection:
        connection.execute(sql.SQL(change).format(warehouse.table("deployments")))
    assert warehouse.decisions() == [killed(DAY, 1)]


def test_gates_and_monitoring_are_replaced_not_added(warehouse: Warehouse) -> None:
    gates = [
        GateResult(gate="log_loss", verdict="pass", observed=0.5, bound=0.51),
        GateResult(gate="fallback", verdict="not applicable", reason="none yet"),
    ]
    drift = {
        "drift": "data",
        "source": "parcels",
        "column_name": "weight_kg",
        "statistic": "level",
        "days": 7,
        "value": 0.6,
        "low": 0.4,
        "high": 0.5,
        "excess": 1.2,
        "drifted": True,
        "since": DAY,
        "comparison_uri": "s3://b/c/",
    }
    for _ in range(2):
        warehouse.record_gates(DAY, "m", gates)
        warehouse.replace_partition("drift_daily", DAY, pa.Table.from_pylist([drift, drift | {"column_name": "other"}]))
    with warehouse.connection() as connection:
        for table, count in (("gate_results", 2), ("drift_daily", 2)):
            found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(warehouse.table(table))).fetchone()
            assert found == (count,)


def performance(known_on: date, *, log_loss: float = 0.5, role: str = "published") -> dict[str, Any]:
    row = {"partition": DAY - timedelta(days=1), "role": role, "spec_id": "s", "model_version": "m", "auc": None}
    return row | {
        "known_on": known_on, "rows": 5, "predictions": 9, "log_loss": log_loss, "brier": 0.2, "mean_score": 0.4,
        "label_rate": 0.3, "slice_column": "", "slice_value": "", "expected_log_loss": 0.5,
    }  # fmt: skip


def test_later_labels_replace_a_days_performance(warehouse: Warehouse) -> None:
    later = DAY + timedelta(days=3)
    first, corrected = performance(DAY), performance(later, log_loss=0.7)
    steps = [([first, performance(DAY, role="champion")], DAY), ([first], DAY), ([first], DAY), ([corrected], later)]
    steps += [([first], DAY), ([corrected], later)]
    wrote = [warehouse.record_performance(DAY, pa.Table.from_pylist(rows), as_of=as_of) for rows, as_of in steps]
    # The same rows again, and a run that knows less than what is there, write nothing.
    assert wrote == [True, True, False, True, False, False]
    recorded = sql.SQL("SELECT prediction_date, known_on, log_loss FROM {}").format(
        warehouse.table("performance_daily")
    )
    with warehouse.connection() as connection:
        assert connection.execute(recorded).fetchall() == [(DAY, later, 0.7)]
    # The correction was withdrawn: what a run as late as it knows counts again, also if it is nothing.
    assert warehouse.record_performance(DAY, pa.Table.from_pylist([first]), as_of=later)
    with warehouse.connection() as connection:
        assert connection.execute(recorded).fetchall() == [(DAY, DAY, 0.5)]
    nothing = PERFORMANCE_SCHEMA.empty_table().drop_columns(["prediction_date"])
    assert warehouse.record_performance(DAY, nothing, as_of=later)
    assert warehouse.performance(DAY - timedelta(days=1), later, "published").num_rows == 0


def test_performance_is_read_as_it_was_known(warehouse: Warehouse) -> None:
    sliced = performance(DAY) | {"slice_column": "branch", "slice_value": "north"}
    warehouse.record_performance(DAY, pa.Table.from_pylist([performance(DAY), sliced]), as_of=DAY)
    earlier = DAY - timedelta(days=1)
    assert warehouse.performance(earlier, earlier, "published").num_rows == 0
    assert warehouse.performance(earlier, DAY, "published")["slice_value"].to_pylist() == ["", "north"]
    assert warehouse.performance(earlier, DAY, "champion").num_rows == 0


def shadows(score: float, *, rows: int = 3) -> pa.Table:
    return pa.table(
        {
            "day": pa.array([DAY] * rows, pa.date32()),
            "parcel": [str(number) for number in range(rows)],
            "role": ["challenger"] * rows,
            "spec_id": ["s"] * rows,
            "model_version": ["m"] * rows,
            "raw_score": [score + number / 7 for number in range(rows)],
            "score": [score] * rows,
        }
    )


def test_a_partitions_shadows_are_replaced_as_a_whole(warehouse: Warehouse) -> None:
    steps = [shadows(0.1), shadows(0.1), shadows(0.2, rows=2), shadows(0.2, rows=0), shadows(0.2, rows=0)]
    wrote, counts = [], []
    for rows in steps:
        wrote.append(warehouse.replace_partition("shadow_predictions", DAY, rows))
        with warehouse.connection() as connection:
            query = sql.SQL("SELECT raw_score, score FROM {} ORDER BY parcel")
            counts.append(connection.execute(query.format(warehouse.table("shadow_predictions"))).fetchall())
    assert wrote == [True, False, True, True, False]
    assert [len(one) for one in counts] == [3, 3, 2, 0, 0]
    assert counts[2] == [(0.2, 0.2), (0.2 + 1 / 7, 0.2)]


def test_outcomes_keep_the_latest_delivery_in_any_order(warehouse: Warehouse) -> None:
    def known(parcels: str, labels: list[int], known_on: list[date]) -> pa.Table:
        days = pa.array([DAY] * len(parcels), pa.date32())
        columns = {"day": days, "parcel": list(parcels), "came late": labels}
        return pa.table(columns | {"known_on": pa.array(known_on, pa.date32())})

    later = DAY + timedelta(days=1)
    deliveries = [(DAY, known("ab", [0, 1], [DAY, DAY])), (later, known("abc", [0, 0, 1], [DAY, later, later]))]
    found = []
    for order in (deliveries, deliveries[::-1], [*deliveries, *deliveries]):
        for partition, table in order:
            warehouse.record_outcomes(partition, [DAY], table)
        with warehouse.connection() as connection:
            outcomes = warehouse.table("outcomes")
            query = sql.SQL('SELECT parcel, "came late", partition FROM {} ORDER BY parcel').format(outcomes)
            found.append(connection.execute(query).fetchall())
            connection.execute(sql.SQL("TRUNCATE {}").format(outcomes))
    later = DAY + timedelta(days=1)
    assert found == [[("a", 0, DAY), ("b", 0, later), ("c", 1, later)]] * 3


def test_many_outcomes_are_not_compared_each_with_each(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 200_000
    days = pa.repeat(pa.scalar(DAY, pa.date32()), rows)
    known = pa.table({"day": days, "parcel": [str(n) for n in range(rows)], "came late": [0] * rows, "known_on": days})
    monkeypatch.setattr(warehouse_schema, "STATEMENT_TIMEOUT_SECONDS", 20)
    for _ in ("new", "known"):
        warehouse.record_outcomes(DAY, [DAY], known)


def test_an_unreachable_warehouse_names_the_host_and_no_password(settings: Settings, use_case: UseCase) -> None:
    away = settings.model_copy(
        update={"warehouse_url": type(settings.warehouse_url)("postgresql://u:hunter2@127.0.0.1:1/db")}
    )
    with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-003", "127.0.0.1:1/db") as caught:
        Warehouse(away, use_case).decisions()
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_a_configuration_error(settings: Settings, warehouse_url: str, use_case: UseCase) -> None:
    wrong = settings.model_copy(
        update={"warehouse_url": type(settings.warehouse_url)(warehouse_url.replace("/warehouse?", "/nowhere?"))}
    )
    with raises_code(ConfigurationError, "NS-WAREHOUSE-002", "nowhere"):
        Warehouse(wrong, use_case).decisions()


def test_a_password_that_is_being_rotated_is_transient(
    services: Services, settings: Settings, warehouse_url: str, use_case: UseCase
) -> None:
    rules = services.postgres.place.data / "pg_hba.conf"
    before = rules.read_text()
    rotated = settings.model_copy(
        update={"warehouse_url": SecretStr(warehouse_url.replace("postgres:@", "rotated:old@"))}
    )
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE rotated LOGIN SUPERUSER PASSWORD 'new'")
        rules.write_text(f"local all rotated scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        try:
            time.sleep(0.5)
            with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-003", "authentication failed"):
                Warehouse(rotated, use_case).migrate()
            connection.execute("ALTER ROLE rotated PASSWORD 'old'")
            Warehouse(rotated, use_case).migrate()
        finally:
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(use_case.name)))
            connection.execute("DROP ROLE rotated")


def test_an_idle_transaction_loses_its_lock(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse_schema, "IDLE_SECONDS", 1)
    with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-005"), warehouse_schema.connect(settings) as idle:
        warehouse_schema.lock(idle, "idle")
        with warehouse_schema.connect(settings) as other:
            warehouse_schema.lock(other, "idle")
        idle.execute("SELECT 1")


SLEEP = "SELECT pg_sleep(300)"
HOLDER = f"""
from nightshift.io.warehouse import schema
from nightshift.settings import load_settings
schema.VANISHED_SECONDS = 1
with schema.connect(load_settings()) as connection:
    schema.lock(connection, "vanished")
    print("locked", flush=True)
    connection.execute("{SLEEP}")
"""


def test_a_worker_that_vanished_loses_its_lock(settings: Settings) -> None:
    """Without checks of the connection, the server would finish the statement first."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with warehouse_schema.connect(settings) as other:
            while other.execute("SELECT 1 FROM pg_stat_activity WHERE query = %s", [SLEEP]).fetchone() is None:
                time.sleep(0.1)
                other.execute("SELECT pg_stat_clear_snapshot()")
        holder.kill()
    with warehouse_schema.connect(settings) as other:
        warehouse_schema.lock(other, "vanished")


def test_both_sides_check_the_connection(settings: Settings) -> None:
    with warehouse_schema.connect(settings) as connection:
        mine = connection.info.get_parameters()
        query = "SELECT name, setting::int FROM pg_settings WHERE name = ANY(%s)"
        names = ["client_connection_check_interval", "idle_in_transaction_session_timeout", "lock_timeout"]
        assert dict(connection.execute(query, [names]).fetchall()) == dict(
            zip(names, (10_000, 300_000, 60_000), strict=True)
        )
        # On a unix socket the server shows 0 for them.
        assert [option for option in mine["options"].split() if option.startswith("tcp_")] == [
            "tcp_keepalives_idle=30", "tcp_keepalives_interval=10", "tcp_keepalives_count=3"
        ]  # fmt: skip
    assert {name: int(mine[name]) for name in warehouse_schema.KEEPALIVES} == warehouse_schema.KEEPALIVES


def test_a_lock_that_is_not_to_be_had_is_transient(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.migrate()
    monkeypatch.setattr(warehouse_schema, "LOCK_TIMEOUT_SECONDS", 0.1)
    with warehouse_schema.connect(settings) as holder:
        warehouse_schema.lock(holder, use_case.name, "x")
        with (
            raises_code(WarehouseUnavailable, "NS-WAREHOUSE-006"),
            warehouse_schema.connect(settings) as waiter,
        ):
            warehouse_schema.lock(waiter, use_case.name, "x")


def test_the_connection_is_in_utc(settings: Settings) -> None:
    with warehouse_schema.connect(settings) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
        assert isinstance(connection, psycopg.Connection)
