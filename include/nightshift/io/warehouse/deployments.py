"""Decisions about models in the warehouse: append-only, each checked against the champion that it expects.

A decision that people have to know is recorded with its alert, in one transaction.

Every function works in the transaction of its `connection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from nightshift.core.lifecycle.annulment import check_annulment
from nightshift.core.lifecycle.state import by_hand, repeated, state_after
from nightshift.core.monitoring.alerts import decision_alert
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.errors import ChampionChanged
from nightshift.io.warehouse import alerts
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.schema import Connection, column_list, insert_row, table_name

COLUMNS = tuple(Deployment.model_fields)
NUMBER = "deployment_id"
"""The column that the database fills."""


def decisions(connection: Connection, use_case: UseCase, *, without: Sequence[str] = ()) -> list[Deployment]:
    """All decisions about the use case's models but those with the actions `without`, in the order of recording."""
    query = sql.SQL("SELECT {} FROM {} WHERE action <> ALL(%s) ORDER BY deployment_id").format(
        column_list(COLUMNS), table_name(use_case, "deployments")
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        return [Deployment.model_validate(row) for row in cursor.execute(query, [list(without)])]


def record(
    connection: Connection,
    use_case: UseCase,
    new: Sequence[Deployment],
    expected_champion: str | EllipsisType | None,
) -> bool:
    """See Warehouse.record_deployments."""
    warehouse_schema.lock(connection, use_case.name, "deployments")
    recorded = decisions(connection, use_case)
    if repeated(recorded, new):
        return False
    for decision in new:
        check_annulment(use_case.name, recorded, decision)
    if not isinstance(expected_champion, EllipsisType):
        _check_champion(use_case, recorded, new[-1], expected_champion)
    for decision in new:
        row = {name: getattr(decision, name) for name in COLUMNS if name != NUMBER}
        row["spec"] = Jsonb(decision.spec.model_dump(mode="json")) if decision.spec else None
        row["model"] = Jsonb(decision.model.model_dump()) if decision.model else None
        row["reason"] = Jsonb(dict(decision.reason))
        cursor = insert_row(connection, table_name(use_case, "deployments"), row, "RETURNING deployment_id")
        ((deployment_id,),) = cursor.fetchall()
        recorded.append(decision.model_copy(update={NUMBER: deployment_id}))
        killed = state_after(recorded, decision.partition).killed is not None
        if alert := decision_alert(decision, deployment_id, killed=killed, recorded=recorded):
            alerts.record(connection, use_case, alert)
    return True


def _check_champion(use_case: UseCase, recorded: Sequence[Deployment], new: Deployment, expected: str | None) -> None:
    """Raise ChampionChanged unless `expected` is the champion that follows from all other decisions.

    Earlier decisions of the same step for the partition are left out, since the new one replaces them; those taken
    by hand are kept.
    """
    own = None if by_hand(new) else (new.partition, new.decided_by)
    others = [one for one in recorded if (one.partition, one.decided_by) != own]
    champion = state_after(others, new.partition).champion
    if champion != expected:
        raise ChampionChanged(
            "NS-DEPLOY-003",
            f"{use_case.name}: {new.spec_id} was to be {new.action} on partition {new.partition} against the champion "
            f"{expected or 'none'}, but the champion is {champion or 'none'} by now. Nothing was recorded. Look at the "
            f"newest rows of deployments; a nightly step needs no action (the next partition decides again), a "
            f"decision by hand has to be triggered again.",
        )
