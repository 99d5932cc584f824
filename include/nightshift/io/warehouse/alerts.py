"""Alerts in the warehouse: a row per partition and cause, and which receivers have accepted it.

Every function works in the transaction of its `connection`.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.io.warehouse.schema import Connection, insert_row, table_name

SENT_MINUTES = 15
"""After a cause was sent, it is not sent about other partitions for this long: a message then has all of them."""

TRIED_MINUTES = 1
"""After an attempt at a cause, it is not tried again for this long, so that many callers do not wait for one receiver
that does not answer."""


def record(connection: Connection, use_case: UseCase, alert: Alert) -> None:
    """Record an alert, unless the partition has one with its cause."""
    row = {"partition": alert.partition, "cause": alert.cause, "message": alert.message}
    insert_row(connection, table_name(use_case, "alerts"), row, "ON CONFLICT (partition, cause) DO NOTHING")


def find_unsent(connection: Connection, use_case: UseCase) -> list[int]:
    """Numbers of the alerts that are to be sent now; locked until the transaction ends.

    Those that another process is sending, and those whose cause was sent or tried a short time ago, are left out.
    """
    query = sql.SQL(
        "SELECT alert_id FROM {table} AS unsent "
        "WHERE sent_at IS NULL AND NOT EXISTS (SELECT FROM {table} AS recent WHERE recent.cause = unsent.cause AND "
        "(recent.sent_at > now() - make_interval(mins => %s) OR recent.tried_at > now() - make_interval(mins => %s))) "
        "FOR UPDATE SKIP LOCKED"
    ).format(table=table_name(use_case, "alerts"))
    return [number for (number,) in connection.execute(query, [SENT_MINUTES, TRIED_MINUTES])]


def take_unsent(
    connection: Connection, use_case: UseCase, numbers: Sequence[int], receiver_id: str
) -> dict[int, Alert]:
    """Those of the numbered alerts that a receiver has not accepted, by number, the oldest first; locked until the
    transaction ends. Those that another process is sending are left out."""
    query = sql.SQL(
        "SELECT alert_id, partition, cause, message FROM {} WHERE alert_id = ANY(%s) AND sent_at IS NULL "
        "AND NOT %s = ANY(accepted_by) ORDER BY alert_id FOR UPDATE SKIP LOCKED"
    ).format(table_name(use_case, "alerts"))
    rows = connection.execute(query, [list(numbers), receiver_id])
    return {number: Alert(partition, cause, message) for number, partition, cause, message in rows}


def record_attempt(
    connection: Connection, use_case: UseCase, number: int, accepted_by: Sequence[str], failed: Sequence[str]
) -> None:
    """Record a message about an alert: the ids of the receivers that accepted it, and the kinds of all that have not
    since the sending began."""
    query = sql.SQL(
        "UPDATE {} SET attempts = attempts + 1, tried_at = clock_timestamp(), accepted_by = accepted_by || %s, "
        "error = %s WHERE alert_id = %s"
    ).format(table_name(use_case, "alerts"))
    connection.execute(query, [list(accepted_by), ", ".join(failed), number])


def record_sent(connection: Connection, use_case: UseCase, numbers: Sequence[int], receiver_ids: Sequence[str]) -> None:
    """Record that those of the numbered alerts are sent that all these receivers have accepted."""
    query = sql.SQL(
        "UPDATE {table} SET sent_at = clock_timestamp(), error = '' WHERE alert_id IN (SELECT alert_id FROM {table} "
        "WHERE alert_id = ANY(%s) AND sent_at IS NULL AND accepted_by @> %s FOR UPDATE SKIP LOCKED)"
    ).format(table=table_name(use_case, "alerts"))
    connection.execute(query, [list(numbers), list(receiver_ids)])
