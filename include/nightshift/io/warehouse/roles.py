"""Roles of the warehouse's database, and what each may do with the schema of a use case.

OWNER owns schema and tables, so no other role can change `deployments` or disable its triggers. PIPELINE writes rows,
and only appends to `deployments`; OWNER's function `create_month` creates the tables of predictions for it. READER
reads what is published. None can log in: users are made members of them.
"""

from __future__ import annotations

import logging
from typing import Any, LiteralString

import psycopg
from psycopg import sql

LOG = logging.getLogger(__name__)

OWNER, PIPELINE, READER = ROLES = ("nightshift_owner", "nightshift_pipeline", "nightshift_reader")
PUBLISHED = ("predictions", "publications", "outcomes", "performance_daily", "drift_daily")
"""The tables that READER may read."""
PRIVILEGES: dict[str, LiteralString] = {"deployments": "SELECT, INSERT", "schema_migrations": "SELECT"}
"""What PIPELINE may do with a table, where it is not WRITE."""
WRITE: LiteralString = "SELECT, INSERT, UPDATE, DELETE"

_MAY_GRANT = """
SELECT rolsuper OR CASE (SELECT count(*) FROM pg_roles WHERE rolname = ANY(%(roles)s))
    WHEN 3 THEN pg_has_role(%(owner)s, 'SET') AND pg_has_role(%(pipeline)s, 'SET')
    ELSE rolcreaterole END
FROM pg_roles WHERE rolname = current_user
"""
_IS_GRANTED = """
SELECT pg_get_userbyid(relowner) = %s FROM pg_class
WHERE relnamespace = quote_ident(%s)::regnamespace AND relname = 'deployments'
"""
_OWNED_BY_ANOTHER = """
SELECT rolname FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
WHERE nspname = %s AND NOT rolsuper AND rolname NOT IN (%s, current_user)
"""
_TABLES = """
SELECT relname, relispartition FROM pg_class
WHERE relnamespace = quote_ident(%s)::regnamespace AND relkind IN ('r', 'p') ORDER BY relname
"""

_FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = quote_ident(%s)::regnamespace ORDER BY proname"

Connection = psycopg.Connection[tuple[Any, ...]]


def are_granted(connection: Connection, schema: str) -> bool:
    """Whether the tables of a schema belong to OWNER. The schema must exist."""
    return bool(_value(connection, _IS_GRANTED, [OWNER, schema]))


def may_grant(connection: Connection) -> bool:
    """Whether the connection's user may create the roles where they are missing, and give tables to them."""
    return bool(_value(connection, _MAY_GRANT, {"roles": list(ROLES), "owner": OWNER, "pipeline": PIPELINE}))


def owner_to_distrust(connection: Connection, schema: str) -> str:
    """The owner of a schema if it is another user than OWNER, the connection's own and a superuser; else "".

    What is in such a schema would run with the rights of whoever migrates it, or become OWNER's.
    """
    return _value(connection, _OWNED_BY_ANOTHER, [schema, OWNER]) or ""


def grant(connection: Connection, schema: str) -> None:
    """Create the roles that are missing, and set owner and privileges of the schema and its tables. Idempotent.

    Without the right to, nothing is changed, and a warning says what to do.
    """
    if not may_grant(connection):
        LOG.warning(
            "The roles %s were not set up for schema %s: this user may not create roles. What the warehouse keeps is "
            "as before. Run `nightshift migrate` as a superuser, or as a member of %s and %s.",
            ", ".join(ROLES), schema, OWNER, PIPELINE,
        )  # fmt: skip
        return
    _create(connection)
    names = {role.partition("_")[2]: sql.Identifier(role) for role in ROLES} | {"schema": sql.Identifier(schema)}

    def run(statement: LiteralString, **more: sql.Composable) -> None:
        connection.execute(sql.SQL(statement).format(**names, **more))

    run("GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner}")
    run("GRANT USAGE ON SCHEMA {schema} TO {pipeline}, {reader}")
    # Tables of months were the pipeline's, up to 0015_create_month.
    run("REVOKE CREATE ON SCHEMA {schema} FROM {pipeline}")
    for name, is_month in connection.execute(_TABLES, [schema]).fetchall():
        table = sql.Identifier(schema, name)
        run("ALTER TABLE {table} OWNER TO {owner}", table=table)
        if is_month:
            continue  # rows are written and read through `predictions`
        run("GRANT {rights} ON {table} TO {pipeline}", table=table, rights=sql.SQL(PRIVILEGES.get(name, WRITE)))
        if name in PUBLISHED:
            run("GRANT SELECT ON {table} TO {reader}", table=table)
    for (name,) in connection.execute(_FUNCTIONS, [schema]).fetchall():
        function = sql.Identifier(schema, name)
        run("ALTER FUNCTION {function} OWNER TO {owner}", function=function)
        run("GRANT EXECUTE ON FUNCTION {function} TO {pipeline}", function=function)
    # The owner of a schema may drop what is in it.
    run("ALTER SCHEMA {schema} OWNER TO {owner}")


def _create(connection: Connection) -> None:
    present = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    for role in ROLES:
        if role not in present:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
            # Who creates a role is not a member of it, and only members may give tables to it.
            grant_it = sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role))
            if not _value(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", []):
                connection.execute(grant_it)


def _value(connection: Connection, query: LiteralString, parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None
