"""What each user of docker-compose.yaml's PostgreSQL may do. After test_compose.py: its night's tables are read."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors, sql

from support.compose_stack import ADMIN, DATABASE_USERS, USE_CASE, Compose
from support.privileges import CHANGES_DECISIONS, LEAVES_CODE

MONTH = sql.Identifier("predictions_201302")
"""That of the night of test_compose.py."""
UNPRIVILEGED = [user for user in DATABASE_USERS if user != ADMIN]
TABLES_MAY_BE_MADE = ("CREATE TABLE another (n integer)", "CREATE TEMPORARY TABLE another (n integer)")
IS_DONE = {
    "airflow": ("SELECT * FROM dag", *TABLES_MAY_BE_MADE),
    "mlflow": ("SELECT * FROM experiments", *TABLES_MAY_BE_MADE),
    "pipeline": (
        "INSERT INTO {s}.deployments (partition, action, role, model_version, reason, decided_by) "
        "VALUES ('2013-01-01', 'killed', 'champion', '', '[]', 'hand:ann')",
        "UPDATE {s}.alerts SET cause = cause",
        "CREATE SCHEMA another",
        "CREATE TEMPORARY TABLE another (n integer)",
    ),
    "pages": ("SELECT * FROM {s}.deployments", "SELECT * FROM {s}.predictions"),
    "analyst": ("SELECT * FROM {s}.predictions",),
}
WRITES = (
    "INSERT INTO {s}.alerts DEFAULT VALUES",
    "INSERT INTO {s}.deployments DEFAULT VALUES",
    "UPDATE {s}.predictions SET decision = true",
    "DELETE FROM {s}.publications",
    "TRUNCATE {s}.predictions",
    "DROP TABLE {s}.predictions",
    "CREATE TABLE {s}.another (n integer)",
    "CREATE TABLE public.another (n integer)",
    "CREATE TEMPORARY TABLE another (n integer)",
    "CREATE SCHEMA another",
)
NEEDS_ADMIN = (
    "CREATE ROLE another",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEROLE CREATEDB",
    "ALTER ROLE nightshift PASSWORD 'another'",
    "GRANT pg_read_all_data TO CURRENT_USER",
    "SET ROLE nightshift",
    "SET SESSION AUTHORIZATION nightshift",
    "CREATE EXTENSION file_fdw",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)
IS_REFUSED = {
    "airflow": NEEDS_ADMIN,
    "mlflow": NEEDS_ADMIN,
    "pipeline": (*NEEDS_ADMIN, *CHANGES_DECISIONS, *LEAVES_CODE, "CREATE TABLE public.another (n integer)"),
    "pages": (*NEEDS_ADMIN, *CHANGES_DECISIONS, *WRITES),
    "analyst": (*NEEDS_ADMIN, *CHANGES_DECISIONS, *WRITES, "SELECT * FROM {s}.deployments", "SELECT * FROM {s}.alerts"),
}


@pytest.fixture(scope="module")
def databases(compose: Compose) -> Compose:
    password = sql.Literal(compose.variables[DATABASE_USERS["analyst"][1]])
    with compose.connect(ADMIN) as connection:
        connection.execute(sql.SQL("CREATE ROLE analyst LOGIN PASSWORD {} IN ROLE nightshift_reader").format(password))
    return compose


def _try(connection: psycopg.Connection, statement: str) -> None:
    """Run a statement, and leave nothing of it."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL(statement).format(s=sql.Identifier(USE_CASE), month=MONTH))  # type: ignore[arg-type]


@pytest.mark.parametrize("user", UNPRIVILEGED)
def test_database_users_enter_their_own_database_only(databases: Compose, user: str) -> None:
    with databases.connect(ADMIN) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    for (name,) in names:
        if name == DATABASE_USERS[user][0]:
            databases.connect(user, name).close()
        else:
            with pytest.raises(psycopg.OperationalError, match=f'permission denied for database "{name}"'):
                databases.connect(user, name).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        databases.connect(user, password="another").close()


@pytest.mark.parametrize(
    ("user", "statement"), [(user, statement) for user, statements in IS_DONE.items() for statement in statements]
)
def test_database_users_do_what_they_need(databases: Compose, user: str, statement: str) -> None:
    with databases.connect(user) as connection:
        _try(connection, statement)


@pytest.mark.parametrize(
    ("user", "statement"), [(user, statement) for user, statements in IS_REFUSED.items() for statement in statements]
)
def test_database_users_may_do_no_more(databases: Compose, user: str, statement: str) -> None:
    with databases.connect(user) as connection, pytest.raises(errors.InsufficientPrivilege):
        _try(connection, statement)


@pytest.mark.parametrize("statement", NEEDS_ADMIN)
def test_admin_may_do_what_others_may_not(databases: Compose, statement: str) -> None:
    with databases.connect(ADMIN) as connection:
        _try(connection, statement)


@pytest.mark.parametrize("user", DATABASE_USERS)
def test_databases_are_created_by_the_admin_only(databases: Compose, user: str) -> None:
    # Neither statement runs within a transaction.
    with databases.connect(user, autocommit=True) as connection:
        if user == ADMIN:
            connection.execute("CREATE DATABASE another")
            connection.execute("DROP DATABASE another")
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("CREATE DATABASE another")
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("ALTER SYSTEM SET work_mem = '5MB'")


def test_admin_calls_nothing_that_the_pipeline_may_create(databases: Compose) -> None:
    """A schema of a user's name comes first on PostgreSQL's own search path, and the pipeline may create schemas."""
    may_create = (
        "SELECT name FROM unnest(current_schemas(true)) name WHERE has_schema_privilege('pipeline', name, 'CREATE')"
    )
    with databases.connect("pipeline", autocommit=True) as pipeline:
        pipeline.execute(f"CREATE SCHEMA {ADMIN}")
        try:
            with databases.connect(ADMIN) as connection:
                assert connection.execute(may_create).fetchall() == []
        finally:
            pipeline.execute(f"DROP SCHEMA {ADMIN}")


def test_pages_read_all_tables_of_the_night_and_write_none(databases: Compose) -> None:
    query = """
        SELECT nspname, relname,
            has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN')
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm') AND nspname !~ '^pg_|^information_schema$'
    """
    with databases.connect("pages") as connection:
        tables = connection.execute(query).fetchall()
        for schema, name, _ in tables:
            connection.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(schema, name)))
    assert {USE_CASE, "feast_registry"} <= {schema for schema, _, _ in tables}
    assert [name for _, name, may_write in tables if may_write] == []
