"""Made-up comparisons in drift_daily."""

from __future__ import annotations

from datetime import date

from psycopg import sql

from nightshift.io.warehouse import schema
from support.desk import Desk


def record_drift(desk: Desk, partition: date, excess: float, source: str, column: str) -> None:
    """One comparison of a column: its level over 7 days, 0.7 where 0.4 to 0.6 is ordinary."""
    since = partition if abs(excess) > 1 else None
    query = "INSERT INTO {} VALUES (%s, 'data', %s, %s, 'level', 7, 0.7, 0.4, 0.6, %s, %s, %s, 's3://x/')"
    with schema.connect(desk.settings) as connection:
        table = sql.Identifier(desk.use_case.name, "drift_daily")
        connection.execute(sql.SQL(query).format(table), [partition, source, column, excess, abs(excess) > 1, since])
