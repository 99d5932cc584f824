"""What each role of the warehouse may do, and what it must not."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql
from pydantic import SecretStr

from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.io.warehouse import roles
from nightshift.io.warehouse import schema as warehouse_schema
from nightshift.io.warehouse.roles import OWNER, PIPELINE, READER
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings
from support.desk import Desk, begin, days_after
from support.errors import raises_code
from support.parcels import DAY, killed, night, publish_by_day, without_months
from support.privileges import CHANGES_DECISIONS, LEAVES_CODE

PUBLISHED = {"predictions", "publications", "outcomes", "performance_daily", "drift_daily"}


@pytest.fixture
def users(settings: Settings) -> Iterator[dict[str, str]]:
    """A user of this test's own for each role, by role."""
    url, suffix = settings.warehouse_url.get_secret_value(), uuid.uuid4().hex[:8]
    made = {role: f"{role}_{suffix}" for role in roles.ROLES}
    with psycopg.connect(url) as connection:
        roles._create(connection)
        for role, user in made.items():
            statement = sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}")
            connection.execute(statement.format(sql.Identifier(user), sql.Identifier(role)))
    yield made
    with psycopg.connect(url) as connection:
        for user in made.values():
            connection.execute(sql.SQL("DROP OWNED BY {u} CASCADE; DROP ROLE {u}").format(u=sql.Identifier(user)))


@contextmanager
def connected(settings: Settings, user: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(as_user(settings, user).warehouse_url.get_secret_value()) as connection:
        yield connection


def as_user(settings: Settings, user: str) -> Settings:
    """The settings with the warehouse's URL of another user."""
    url = settings.warehouse_url.get_secret_value()
    assert "//postgres:@" in url
    return settings.model_copy(update={"warehouse_url": SecretStr(url.replace("//postgres:@", f"//{user}:@"))})


def check_forbidden(settings: Settings, user: str, use_case: UseCase, statements: Iterable[str]) -> None:
    """None of the statements is allowed to that user."""
    for statement in statements:
        with pytest.raises(errors.InsufficientPrivilege), connected(settings, user) as connection:  # noqa: PT012
            connection.execute(in_schema(statement, use_case))
            pytest.fail(f"{user}: {statement}")


def in_schema(statement: str, use_case: UseCase) -> sql.Composed:
    names = {"s": sql.Identifier(use_case.name), "month": sql.Identifier(f"predictions_{DAY:%Y%m}")}
    return sql.SQL(statement).format(**names)  # type: ignore[arg-type]


def test_decisions_are_changed_by_nobody_but_the_owner(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str]
) -> None:
    warehouse.record_deployment(killed(DAY))
    for role in (PIPELINE, READER):
        check_forbidden(settings, users[role], use_case, CHANGES_DECISIONS)
    assert warehouse.decisions() == [killed(DAY, 1)]


def test_pipeline_appends_decisions(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str]
) -> None:
    warehouse.migrate()
    Warehouse(as_user(settings, users[PIPELINE]), use_case).record_deployment(killed(DAY))
    assert warehouse.decisions() == [killed(DAY, 1)]


def test_reader_reads_what_is_published_and_nothing_else(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str]
) -> None:
    warehouse.migrate()
    with connected(settings, users[READER]) as connection:
        query = (
            "SELECT relname, has_table_privilege(oid, 'SELECT'), "
            "has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN') "
            "FROM pg_class WHERE relnamespace = quote_ident(%s)::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')"
        )
        tables = connection.execute(query, [use_case.name]).fetchall()
        for name in PUBLISHED:
            connection.execute(in_schema(f"SELECT * FROM {{s}}.{name}", use_case))
    assert {name for name, may_read, _ in tables if may_read} == PUBLISHED
    assert [name for name, _, may_write in tables if may_write] == []
    check_forbidden(
        settings,
        users[READER],
        use_case,
        (
            "SELECT * FROM {s}.deployments",
            "SELECT * FROM {s}.alerts",
            "INSERT INTO {s}.outcomes DEFAULT VALUES",
            "CREATE TABLE {s}.mine (n integer)",
        ),
    )


def test_everything_is_the_owners(warehouse: Warehouse, use_case: UseCase) -> None:
    warehouse.publish_predictions(*night(3))
    with warehouse.connection() as connection:
        owners = connection.execute(
            "SELECT relname, pg_get_userbyid(relowner) FROM pg_class "
            "WHERE relnamespace = quote_ident(%(s)s)::regnamespace "
            "UNION SELECT proname, pg_get_userbyid(proowner) FROM pg_proc "
            "WHERE pronamespace = quote_ident(%(s)s)::regnamespace",
            {"s": use_case.name},
        ).fetchall()
    assert {"predictions", f"predictions_{DAY:%Y%m}", "deployments", "create_month"} <= {name for name, _ in owners}
    assert {owner for _, owner in owners} == {OWNER}


def test_pipeline_leaves_no_code_for_others(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str]
) -> None:
    warehouse.migrate()
    assert Warehouse(as_user(settings, users[PIPELINE]), use_case).publish_predictions(*night(3))
    check_forbidden(settings, users[PIPELINE], use_case, LEAVES_CODE)
    check_forbidden(settings, users[READER], use_case, ["SELECT {s}.create_month('2013-01-01')"])


def test_a_month_is_created_by_no_function_of_the_caller(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str]
) -> None:
    warehouse.migrate()
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        names = map(sql.Identifier, (connection.info.dbname, users[PIPELINE]))
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(*names))
    with connected(settings, users[PIPELINE]) as connection:
        own = sql.Identifier(users[PIPELINE])
        body = "LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'called by %', current_user; END$$"
        # Without it, the schema is passed over where the owner looks up a name.
        connection.execute(sql.SQL("CREATE SCHEMA {s}; GRANT USAGE ON SCHEMA {s} TO PUBLIC").format(s=own))
        for signature in ("date_trunc(text, date) RETURNS timestamptz", "format(text, text, text) RETURNS text"):
            connection.execute(sql.SQL(f"CREATE FUNCTION {{}}.{signature} {body}").format(own))  # type: ignore[arg-type]
        connection.execute(sql.SQL("SET search_path = {}, pg_catalog").format(own))
        with pytest.raises(errors.RaiseException), connection.transaction():
            connection.execute("SELECT date_trunc('month', date '2013-01-01')")
        connection.execute(in_schema("SELECT {s}.create_month('2013-01-31')", use_case))
    with warehouse.connection() as connection:
        assert warehouse_schema.exists(connection, warehouse.table("predictions_201301"))


def test_nights_run_as_a_member_of_the_pipeline_role(desk: Desk, users: dict[str, str]) -> None:
    desk.warehouse.migrate()
    as_reader = as_user(desk.settings, users[READER])
    desk.settings = as_user(desk.settings, users[PIPELINE])
    desk.warehouse = Warehouse(desk.settings, desk.use_case)
    begin(desk)
    for number in range(2):
        desk.night(days_after(number))
        desk.check_drift(days_after(number))
    # Delivered again: the day's rows are replaced.
    before = desk.rows("publications")
    desk.deliver(days_after(1), bookings=30)
    desk.predict(days_after(1))
    assert len(desk.rows("publications")) == len(before) + 1
    with psycopg.connect(as_reader.warehouse_url.get_secret_value()) as connection:
        row = connection.execute(in_schema("SELECT count(*) FROM {s}.predictions", desk.use_case)).fetchone()
    assert row == (70,)


def test_days_of_another_user_become_months(
    settings: Settings, use_case: UseCase, users: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of days belong to whoever published them, `predictions` to the pipeline; a member of owner and pipeline
    migrates them all the same, and then they are the owner's."""
    with monkeypatch.context() as patch:
        patch.setattr(warehouse_schema, "MIGRATIONS", without_months(tmp_path))
        Warehouse(settings, use_case).migrate()
        with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
            for statement in ("GRANT CREATE ON SCHEMA {s} TO {to}", "ALTER TABLE {s}.predictions OWNER TO {to}"):
                names = {"s": sql.Identifier(use_case.name), "to": sql.Identifier(PIPELINE)}
                connection.execute(sql.SQL(statement).format(**names))  # type: ignore[arg-type]
        with connected(settings, users[PIPELINE]) as connection:
            publish_by_day(connection, use_case, *night(12))
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        both = sql.SQL("GRANT {}, {} TO {}").format(*map(sql.Identifier, (OWNER, PIPELINE, users[OWNER])))
        connection.execute(both)
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, sql.Identifier(users[OWNER])))
    assert Warehouse(as_user(settings, users[OWNER]), use_case).migrate()[0] == "0012_months"
    pipeline = Warehouse(as_user(settings, users[PIPELINE]), use_case)
    assert pipeline.publish_predictions(*night(9, day=DAY + timedelta(days=40)))
    assert pipeline.publish_predictions(*night(7, version="b"))
    with connected(settings, users[READER]) as connection:
        assert connection.execute(in_schema("SELECT count(*) FROM {s}.predictions", use_case)).fetchone() == (16,)
    check_forbidden(settings, users[PIPELINE], use_case, LEAVES_CODE)


def test_pipeline_cannot_migrate_what_the_owner_did_not(
    settings: Settings, use_case: UseCase, users: dict[str, str]
) -> None:
    with raises_code(ConfigurationError, "NS-WAREHOUSE-004"):
        Warehouse(as_user(settings, users[PIPELINE]), use_case).migrate()


def test_migrations_call_no_function_of_the_pipeline(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str]
) -> None:
    """A schema of the user's name would be searched first, and `format` is called with these types."""
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        names = map(sql.Identifier, (connection.info.dbname, users[PIPELINE]))
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(*names))
    with connected(settings, users[PIPELINE]) as connection:
        connection.execute("CREATE SCHEMA postgres")
        connection.execute(
            "CREATE FUNCTION postgres.format(text, regclass, text) RETURNS text LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'called by %', session_user; END$$"
        )
    assert warehouse.migrate()


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE TABLE {s}.schema_migrations (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz);"
        "CREATE TRIGGER trap BEFORE INSERT ON {s}.schema_migrations EXECUTE FUNCTION {s}.trap()",
        "CREATE FUNCTION {s}.called() RETURNS text LANGUAGE plpgsql AS "
        "$$BEGIN ALTER ROLE {user} SUPERUSER; RETURN 'x'; END$$;"
        "CREATE VIEW {s}.schema_migrations AS SELECT {s}.called() AS name, 'x' AS sha256",
        "CREATE FUNCTION {s}.run(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$BEGIN EXECUTE statement; END$$",
    ],
    ids=["trigger", "view", "function for the owner"],
)
def test_migrations_run_nothing_that_waits_in_a_schema(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, users: dict[str, str], trap: str
) -> None:
    """The pipeline's user may create schemas, also that of a use case to come."""
    names = {"s": sql.Identifier(use_case.name), "user": sql.Identifier(users[PIPELINE])}
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {user}").format(database, **names))
    function = (
        "CREATE SCHEMA {s}; CREATE FUNCTION {s}.trap() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN ALTER ROLE {user} SUPERUSER; RETURN NEW; END$$;"
    )
    with connected(settings, users[PIPELINE]) as connection:
        connection.execute(sql.SQL(function + trap).format(**names))  # type: ignore[arg-type]
    with raises_code(ConfigurationError, "NS-WAREHOUSE-011", users[PIPELINE]):
        warehouse.migrate()
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
        assert connection.execute(query, [users[PIPELINE]]).fetchone() == (False,)


def test_schema_of_an_earlier_version_is_handed_over(
    settings: Settings, warehouse: Warehouse, use_case: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(roles, "grant", lambda connection, schema: None)
        warehouse.migrate()
    with warehouse.connection() as connection:
        assert not roles.are_granted(connection, use_case.name)
    assert Warehouse(settings, use_case).migrate() == []
    with warehouse.connection() as connection:
        assert roles.are_granted(connection, use_case.name)


def test_user_without_the_right_to_grant_goes_on_and_is_told(
    settings: Settings, use_case: UseCase, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"plain_{uuid.uuid4().hex[:8]}"
    url = settings.warehouse_url.get_secret_value()
    name = sql.Identifier(user)
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, name))
    try:
        plain = Warehouse(as_user(settings, user), use_case)
        assert plain.migrate()
        assert "nightshift migrate" in caplog.text
        plain.record_deployment(killed(DAY))
        assert plain.decisions() == [killed(DAY, 1)]
    finally:
        with psycopg.connect(url) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {u} CASCADE; DROP ROLE {u}").format(u=name))
