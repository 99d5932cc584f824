"""Connections to the warehouse, its errors, and the migrations that create a use case's schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from nightshift.artifact import sha256_hex
from nightshift.declare.feeds import Column
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, WarehouseUnavailable
from nightshift.io.warehouse import roles
from nightshift.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS: float = 60
STATEMENT_TIMEOUT_SECONDS = 600
IDLE_SECONDS = 300
"""How long a transaction may be idle before the server ends it: a process that hangs keeps no lock."""
LONGEST_TASK_SECONDS = 35 * 60
"""Longer than a task may run: how long one may hold a lock while it works elsewhere."""
VANISHED_SECONDS = 10
"""How often a side checks whether the other is still there: a worker that vanished keeps no lock."""
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": VANISHED_SECONDS, "keepalives_count": 3}

SQL_TYPES: dict[str, LiteralString] = {
    "string": "text",
    "int64": "bigint",
    "float64": "double precision",
    "bool": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
}

_REJECTED = ("does not exist", "no pg_hba.conf entry", "permission denied", "no password")
"""Not "authentication failed", which is transient: while a password is rotated, the old or the new one is rejected."""


def plain_url(url: SecretStr) -> str:
    """A PostgreSQL URL as libpq reads it, without the name of an SQLAlchemy driver."""
    scheme, separator, rest = url.get_secret_value().partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def describe(url: str) -> str:
    """Host, port and database of a PostgreSQL URL, without its user and password. Raises ConfigurationError."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "NS-WAREHOUSE-001",
            "NIGHTSHIFT_WAREHOUSE_URL is not a PostgreSQL URL; write postgresql://user:password@host:port/database.",
        ) from None
    host, port, name = parts.get("host") or "localhost", parts.get("port") or 5432, parts.get("dbname") or ""
    return f"{host}:{port}/{name}"


@contextmanager
def connect(settings: Settings, *, url: SecretStr | None = None) -> Iterator[Connection]:
    """One connection to the warehouse, or to `url`: time zone UTC, committed at the end of the block, rolled back on
    any error.

    The server ends the transaction if it is idle for IDLE_SECONDS, or if this process is gone. Raises
    WarehouseUnavailable where a retry may help (not reachable, lock timeout, statement timeout, idle, deadlock) and
    ConfigurationError where the server rejects the connection.
    """
    address = plain_url(url or settings.warehouse_url)
    where = describe(address)
    values = {
        "timezone": "UTC",
        # Who may create a schema could otherwise put functions there that another user calls in place of PostgreSQL's.
        "search_path": "pg_catalog",
        "lock_timeout": int(LOCK_TIMEOUT_SECONDS * 1000),
        "statement_timeout": STATEMENT_TIMEOUT_SECONDS * 1000,
        "idle_in_transaction_session_timeout": IDLE_SECONDS * 1000,
        "client_connection_check_interval": VANISHED_SECONDS * 1000,
        **{f"tcp_{name}": value for name, value in KEEPALIVES.items()},
    }
    options = " ".join(f"-c {name}={value}" for name, value in values.items())
    try:
        connection = psycopg.connect(
            make_conninfo(address, **KEEPALIVES),
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            options=options,
            application_name="nightshift",
        )
    except psycopg.OperationalError as error:
        message = str(error).strip()
        if any(words in message for words in _REJECTED):
            raise ConfigurationError(
                "NS-WAREHOUSE-002",
                f"The warehouse at {where} rejected the connection: {message}. Check NIGHTSHIFT_WAREHOUSE_URL.",
            ) from None
        raise WarehouseUnavailable(
            "NS-WAREHOUSE-003",
            f"The warehouse at {where} did not answer: {message}. Is it up, and is the password in force?",
        ) from None
    try:
        with connection:
            yield connection
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            "NS-WAREHOUSE-004",
            f"The warehouse at {where} does not allow this: {error}. Grant the role the schema, or use another role.",
        ) from error
    except (psycopg.OperationalError, errors.IdleInTransactionSessionTimeout) as error:
        raise WarehouseUnavailable(
            "NS-WAREHOUSE-005", f"The warehouse at {where} failed: {str(error).strip()}. Try again."
        ) from error


def table_name(use_case: UseCase, name: str) -> sql.Identifier:
    """The qualified name of a table of a use case."""
    return sql.Identifier(use_case.name, name)


def column_list(names: Iterable[str]) -> sql.Composed:
    """Column names for a statement, quoted and separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def insert_row(
    connection: Connection, table: sql.Identifier, row: Mapping[str, object], ending: LiteralString = ""
) -> psycopg.Cursor[tuple[Any, ...]]:
    """INSERT one row, column -> value or SQL expression; `ending` is SQL after VALUES. Returns the cursor."""
    values = [value if isinstance(value, sql.Composable) else sql.Literal(value) for value in row.values()]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) {}")
    return connection.execute(statement.format(table, column_list(row), sql.SQL(", ").join(values), sql.SQL(ending)))


def lock(connection: Connection, *names: str) -> None:
    """Hold an advisory lock on those names until the transaction ends. Raises WarehouseUnavailable on a timeout."""
    name = "nightshift/" + "/".join(names)
    try:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
    except errors.LockNotAvailable as error:
        raise WarehouseUnavailable(
            "NS-WAREHOUSE-006",
            f"Another process holds the lock {name!r}: {error}. See pg_locks in that database for its holder.",
        ) from error


@contextmanager
def hold_lock(settings: Settings, *names: str, url: SecretStr | None = None) -> Iterator[None]:
    """Hold an advisory lock on those names, in the warehouse or at `url`, while the block works elsewhere.

    Its connection is idle meanwhile; the server releases the lock after LONGEST_TASK_SECONDS. Raises
    WarehouseUnavailable on a timeout, or at the end of the block if the lock was released before.
    """
    with connect(settings, url=url) as connection:
        connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_TASK_SECONDS}s'")
        lock(connection, *names)
        yield


def exists(connection: Connection, table: sql.Identifier) -> bool:
    """Whether there is a table of that qualified name."""
    row = connection.execute("SELECT to_regclass(%s)", [table.as_string(connection)]).fetchone()
    return row is not None and row[0] is not None


def migrate(settings: Settings, use_case: UseCase) -> list[str]:
    """Bring the schema of a use case up to date, all pending migrations in one transaction, and grant the roles theirs.

    Idempotent, and safe to run concurrently. Returns the names of the migrations applied. Raises
    ConfigurationError if an applied migration was edited since, if the schema is newer than this
    code, if the predictions table does not have the columns the use case declares, or if the schema is another user's
    and this one may grant.
    """
    shipped = {path.stem: path for path in sorted(MIGRATIONS.glob("*.sql"))}
    hashes = {name: sha256_hex(path.read_bytes()) for name, path in shipped.items()}
    table = table_name(use_case, "schema_migrations")
    with connect(settings) as connection:
        _check_owner(connection, use_case)
        pending: list[str] = []
        if _applied(connection, table) != hashes:
            lock(connection, use_case.name, "migrate")
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(use_case.name)))
            connection.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, sha256 text NOT NULL, "
                    "applied_at timestamptz NOT NULL DEFAULT now())"
                ).format(table)
            )
            applied = _applied(connection, table)
            _check_history(applied, hashes, use_case)
            pending = [name for name in shipped if name not in applied]
        for name in pending:
            try:
                connection.execute(_render(shipped[name], use_case))
            except errors.FeatureNotSupported as error:
                fault = error.diag
                raise ConfigurationError(
                    "NS-WAREHOUSE-007",
                    f"Schema {use_case.name}: {name} cannot be applied: {fault.message_primary}. {fault.message_hint}",
                ) from error
            insert_row(connection, table, {"name": name, "sha256": hashes[name]})
        is_granted = roles.are_granted(connection, use_case.name)
        if pending or (not is_granted and roles.may_grant(connection)):
            # Roles are shared by all use cases of a server.
            lock(connection, "roles")
            roles.grant(connection, use_case.name)
        _check_columns(connection, use_case)
        return pending


def _check_owner(connection: Connection, use_case: UseCase) -> None:
    """Raise ConfigurationError if a user with the right to grant would run what another user put into the schema."""
    name = use_case.name
    if (owner := roles.owner_to_distrust(connection, name)) and roles.may_grant(connection):
        raise ConfigurationError(
            "NS-WAREHOUSE-011",
            f"Schema {name} belongs to the user {owner}, whose functions would run with this user's rights. "
            f"If {owner} made it by running Nightshift, look at what is in it, ALTER SCHEMA {name} OWNER TO "
            f"{roles.OWNER}, and migrate again; else drop it.",
        )


def pending(settings: Settings, use_case: UseCase) -> list[str]:
    """Names of the migrations that `migrate` would apply."""
    with connect(settings) as connection:
        applied = _applied(connection, table_name(use_case, "schema_migrations"))
    return [path.stem for path in sorted(MIGRATIONS.glob("*.sql")) if path.stem not in applied]


def _applied(connection: Connection, table: sql.Identifier) -> dict[str, str]:
    if not exists(connection, table):
        return {}
    return dict(connection.execute(sql.SQL("SELECT name, sha256 FROM {}").format(table)).fetchall())


def _check_history(applied: Mapping[str, str], shipped: Mapping[str, str], use_case: UseCase) -> None:
    if unknown := sorted(applied.keys() - shipped.keys()):
        raise ConfigurationError(
            "NS-WAREHOUSE-008",
            f"Schema {use_case.name} has migrations unknown to this code ({unknown}): run a newer version of it.",
        )
    if edited := sorted(name for name in applied if applied[name] != shipped[name]):
        raise ConfigurationError(
            "NS-WAREHOUSE-009",
            f"Migrations {edited} were applied to schema {use_case.name} and edited since: "
            f"restore them and put the change into a new file in {MIGRATIONS.name}/.",
        )


def _check_columns(connection: Connection, use_case: UseCase) -> None:
    rows = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = 'predictions'",
        [use_case.name],
    ).fetchall()
    actual = {name: "timestamptz" if kind == "timestamp with time zone" else kind for name, kind in rows}
    declared = {c.name: SQL_TYPES[c.type] for c in (*use_case.prediction_key, *use_case.prediction_extra)}
    declared[use_case.score] = "double precision"
    wrong = [
        f"{name} {kind} (actual: {actual.get(name)})" for name, kind in declared.items() if actual.get(name) != kind
    ]
    if wrong:
        raise ConfigurationError(
            "NS-WAREHOUSE-010",
            f"{use_case.name}.predictions does not have the columns its use case declares: {', '.join(wrong[:5])}. "
            "Alter the table, or give the use case a new name.",
        )


def _definitions(columns: tuple[Column, ...], *, key: bool) -> sql.Composed:
    return sql.SQL(",\n    ").join(
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            sql.SQL(SQL_TYPES[column.type]),
            sql.SQL(" NOT NULL" if key or not column.nullable else ""),
        )
        for column in columns
    )


def _comments(use_case: UseCase, table: str, columns: tuple[Column, ...]) -> sql.Composed:
    parts = []
    for column in columns:
        implied = {"timestamp": "UTC", "date": f"a day in {use_case.timezone}"}.get(column.type, "")
        unit = implied if column.type == "timestamp" else column.unit or implied
        text = f"{column.description} [{unit}]" if unit else column.description
        name = sql.Identifier(use_case.name, table, column.name)
        parts.append(sql.SQL("COMMENT ON COLUMN {} IS {};").format(name, sql.Literal(text.strip())))
    return sql.SQL("\n").join(parts)


def _render(path: Path, use_case: UseCase) -> sql.Composed:
    """A migration with the use case's names and columns put in, every one of them quoted."""
    key, extra = use_case.prediction_key, use_case.prediction_extra
    key_by_day = sorted(use_case.key_columns, key=lambda name: name != use_case.prediction_date)
    extra_definitions = sql.SQL("{},").format(_definitions(extra, key=False)) if extra else sql.SQL("")
    zone = use_case.timezone
    to_next_cutoff = ", from its cutoff to the next day's" if use_case.window == "cutoff_to_cutoff" else ""
    template = path.read_text(encoding="utf-8")
    return sql.SQL(template).format(
        schema=sql.Identifier(use_case.name),
        schema_name=sql.Literal(use_case.name),
        key=column_list(use_case.key_columns),
        key_by_day=sql.Literal(column_list(key_by_day).as_string()),
        key_definitions=_definitions(key, key=True),
        extra_definitions=extra_definitions,
        score=sql.Identifier(use_case.score),
        label=sql.Identifier(use_case.label),
        prediction_date=sql.Identifier(use_case.prediction_date),
        prediction_date_name=sql.Literal(use_case.prediction_date),
        predictions_comment=sql.Literal(f"{use_case.title}. One row per key; each day is replaced as a whole."),
        score_comment=sql.Literal(f"Probability, 0 to 1, that {use_case.label} is 1."),
        decision_comment=sql.Literal(f"Whether {use_case.score} reached the threshold its use case declares."),
        partition_comment=sql.Literal(f"Partition: the day whose data was ingested last (a day in {zone})."),
        prediction_date_comment=sql.Literal(f"The day the predictions are for{to_next_cutoff} (a day in {zone})."),
        prediction_column_comments=_comments(use_case, "predictions", (*key, *extra)),
        outcome_column_comments=_comments(use_case, "outcomes", key),
    )
