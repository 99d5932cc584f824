"""The tables of predictions: one a month, also of a warehouse that had one a day."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from nightshift.declare.use_case import UseCase
from nightshift.io.warehouse import publications
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.roles import OWNER
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings
from support.parcels import DAY, night, publish_by_day, published, without_months

MONTHS = (
    "SELECT c.relname, pg_get_userbyid(c.relowner) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
    "WHERE inhparent = %s::regclass ORDER BY 1"
)
KEY = (
    "SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (number, position) JOIN pg_attribute a "
    "ON a.attnum = k.number WHERE i.indrelid = %s::regclass AND a.attrelid = i.indrelid AND i.indisprimary "
    "ORDER BY k.position"
)


def months(warehouse: Warehouse) -> list[tuple[str, str]]:
    """Name and owner of each table of predictions."""
    with warehouse.connection() as connection:
        return connection.execute(MONTHS, [warehouse.table("predictions").as_string(connection)]).fetchall()


def key(warehouse: Warehouse, table: str) -> list[str]:
    with warehouse.connection() as connection:
        rows = connection.execute(KEY, [warehouse.table(table).as_string(connection)]).fetchall()
    return [name for (name,) in rows]


def test_five_years_of_nights_are_sixty_tables(use_case: UseCase, warehouse: Warehouse) -> None:
    first, end = date(2013, 1, 1), date(2018, 1, 1)
    with warehouse.connection() as connection:
        for number in range((end - first).days):
            publications.create_month(connection, use_case, first + timedelta(days=number))
    tables = months(warehouse)
    assert len(tables) == 60
    assert (tables[0], tables[-1]) == (("predictions_201301", OWNER), ("predictions_201712", OWNER))


@pytest.mark.parametrize("day", [date(2012, 2, 29), date(2013, 1, 31), date(2013, 12, 31)], ids=str)
def test_last_day_of_a_month_and_the_next_are_published(warehouse: Warehouse, day: date) -> None:
    for one in (day, day + timedelta(days=1)):
        warehouse.publish_predictions(*night(3, day=one))
    assert len(months(warehouse)) == 2
    assert len(published(warehouse)) == 6


def test_replacing_a_day_leaves_the_others_of_its_month(warehouse: Warehouse) -> None:
    for number in range(3):
        warehouse.publish_predictions(*night(5, day=DAY + timedelta(days=number)))
    others = {row for row in published(warehouse) if row[0] != DAY + timedelta(days=1)}
    warehouse.publish_predictions(*night(4, version="b", day=DAY + timedelta(days=1)))
    after = published(warehouse)
    assert {row for row in after if row[0] != DAY + timedelta(days=1)} == others
    assert (len(others), len(after)) == (10, 14)


def test_key_of_predictions_begins_with_the_day(settings: Settings, use_case: UseCase) -> None:
    declared = dataclasses.replace(use_case, prediction_key=use_case.prediction_key[::-1])
    warehouse = Warehouse(settings, declared)
    warehouse.publish_predictions(*night(3))
    assert declared.key_columns == ["parcel", "day"]
    assert key(warehouse, "predictions") == key(warehouse, "predictions_201306") == ["day", "parcel"]


def test_days_of_an_earlier_version_become_months(
    settings: Settings, use_case: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [date(2013, 5, 31), DAY, date(2013, 6, 30), date(2013, 12, 31)]
    with monkeypatch.context() as patch:
        patch.setattr(warehouse_schema, "MIGRATIONS", without_months(tmp_path))
        old = Warehouse(settings, use_case)
        with old.connection() as connection:
            for day in days:
                publish_by_day(connection, use_case, *night(20, day=day))
            query = sql.SQL("SELECT * FROM {} ORDER BY day, parcel").format(old.table("predictions"))
            before = connection.execute(query).fetchall()
    assert len(before) == 80
    warehouse = Warehouse(settings, use_case)
    assert warehouse.migrate()[0] == "0012_months"
    assert [name for name, _ in months(warehouse)] == ["predictions_201305", "predictions_201306", "predictions_201312"]
    assert {owner for _, owner in months(warehouse)} == {OWNER}
    assert key(warehouse, "predictions_201306") == key(warehouse, "predictions") == ["day", "parcel"]
    with warehouse.connection() as connection:
        assert connection.execute(query).fetchall() == before
        rows = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename ~ '^predictions_[0-9]{8}$'"
        assert connection.execute(rows, [use_case.name]).fetchall() == []
    # Its publication is current, so the same one writes nothing; another replaces the day, and new days fit in.
    assert not warehouse.publish_predictions(*night(20, day=DAY))
    assert warehouse.publish_predictions(*night(7, version="b", day=DAY))
    assert warehouse.publish_predictions(*night(5, day=date(2013, 6, 29)))
    assert len(published(warehouse)) == 80 - 20 + 7 + 5


def test_warehouse_without_predictions_has_no_months(warehouse: Warehouse) -> None:
    warehouse.migrate()
    assert months(warehouse) == []
