"""Decisions about models in the warehouse: only ever added, each against the champion it was judged by.

Every function works in the transaction of the connection it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from nightshift.core.model_life import by_hand, champion_judged_against, repeated
from nightshift.deployment import Deployment
from nightshift.errors import ChampionChanged
from nightshift.io import warehouse_schema
from nightshift.io.warehouse_schema import Connection, table_name
from nightshift.usecase import UseCase

COLUMNS = ("partition", "action", "role", "model_version", "model", "replaces", "reason", "decided_by")


def decisions(connection: Connection, use_case: UseCase) -> list[Deployment]:
    """All decisions about the use case's models, in the order they were recorded."""
    query = sql.SQL("SELECT {} FROM {} ORDER BY deployment_id").format(
        sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), table_name(use_case, "deployments")
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        return [Deployment.model_validate(row) for row in cursor.execute(query)]


def record(
    connection: Connection,
    use_case: UseCase,
    made: Sequence[Deployment],
    expected_champion: str | EllipsisType | None,
) -> bool:
    """See Warehouse.record_deployments."""
    warehouse_schema.lock(connection, use_case.name, "deployments")
    known = decisions(connection, use_case)
    if repeated(known, made):
        return False
    if not isinstance(expected_champion, EllipsisType):
        _compare(use_case, known, made[-1], expected_champion)
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        table_name(use_case, "deployments"),
        sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        sql.SQL(", ").join([sql.Placeholder()] * len(COLUMNS)),
    )
    for decision in made:
        row = {name: getattr(decision, name) for name in COLUMNS}
        row["model"] = Jsonb(decision.model.model_dump()) if decision.model else None
        row["reason"] = Jsonb(dict(decision.reason))
        connection.execute(insert, list(row.values()))
    return True


def _compare(use_case: UseCase, known: Sequence[Deployment], made: Deployment, expected: str | None) -> None:
    champion = champion_judged_against(known, made)
    found = champion.model_version if champion else None
    if found != expected:
        next_step = (
            "look at the champion there is, and decide again"
            if by_hand(made)
            else "and nothing need be done: the next partition judges against the champion there is. Mark the run as "
            "success"
        )
        raise ChampionChanged(
            f"{use_case.name}: {made.model_version} was to be {made.action} on partition {made.partition} against the "
            f"champion {expected or 'none'}, but the champion is {found or 'none'} by now"
            f"{f' ({champion.action} by {champion.decided_by} on {champion.partition})' if champion else ''}. "
            f"Nothing was recorded; {next_step}."
        )
