"""Alerts in the warehouse: a row per partition and cause, and which receivers have accepted it.

Every function works in the transaction of its `connection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.io.warehouse.schema import Connection, insert_row, table_name

SENT_MINUTES = 15
"""After a cause was sent, it is not sent about other partitions for this long: a message then has all of them."""

TRIED_MINUTES = 1
"""After an attempt at a cause, it is not tried again for this long, so that many callers do not wait for one receiver
that does not answer."""


@dataclass(frozen=True)
class UnsentAlert:
    """An alert that some receiver has not accepted yet."""

    alert_id: int
    accepted_by: frozenset[str]
    alert: Alert


def record(connection: Connection, use_case: UseCase, alert: Alert) -> None:
    """Record an alert, unless the partition has one with its cause."""
    row = {"partition": alert.partition, "cause": alert.cause, "message": alert.message}
    insert_row(connection, table_name(use_case, "alerts"), row, "ON CONFLICT (partition, cause) DO NOTHING")


def take_unsent(connection: Connection, use_case: UseCase) -> list[UnsentAlert]:
    """The alerts that are to be sent now, the oldest first; locked until the transaction ends.

    Those that another process is sending, and those whose cause was sent or tried a short time ago, are left out.
    """
    query = sql.SQL(
        "SELECT alert_id, accepted_by, partition, cause, message FROM {table} AS unsent "
        "WHERE sent_at IS NULL AND NOT EXISTS (SELECT FROM {table} AS recent WHERE recent.cause = unsent.cause AND "
        "(recent.sent_at > now() - make_interval(mins => %s) OR recent.tried_at > now() - make_interval(mins => %s))) "
        "ORDER BY alert_id FOR UPDATE SKIP LOCKED"
    ).format(table=table_name(use_case, "alerts"))
    rows = connection.execute(query, [SENT_MINUTES, TRIED_MINUTES]).fetchall()
    return [
        UnsentAlert(number, frozenset(accepted), Alert(partition, cause, message))
        for number, accepted, partition, cause, message in rows
    ]


def record_attempt(
    connection: Connection, use_case: UseCase, tried: UnsentAlert, accepted: Sequence[str], failed: Sequence[str]
) -> None:
    """Record an attempt to send an alert: the ids of the receivers that accepted it, and the kinds of the others.

    With none that failed, it is sent.
    """
    query = sql.SQL(
        "UPDATE {} SET attempts = attempts + 1, tried_at = clock_timestamp(), accepted_by = accepted_by || %s, "
        "error = %s, sent_at = CASE WHEN %s THEN clock_timestamp() END WHERE alert_id = %s"
    ).format(table_name(use_case, "alerts"))
    connection.execute(query, [list(accepted), ", ".join(failed), not failed, tried.alert_id])
