"""Feast's PostgreSQL online store, configured by one URL, with a way to delete expired rows.

Feast takes host, user and password separately; here they are read from a libpq URL, also of a unix
socket (`postgresql://user:@/db?host=/folder`), so that Nightshift, Feast's command line and
every other client read the same variable.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from feast import FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore, PostgreSQLOnlineStoreConfig
from feast.repo_config import RepoConfig
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr, model_validator

from nightshift.io.warehouse.schema import LOCK_TIMEOUT_SECONDS, STATEMENT_TIMEOUT_SECONDS, plain_url

ONLINE_SCHEMA = "feast_online"


class PostgresUrlOnlineStoreConfig(PostgreSQLOnlineStoreConfig):  # type: ignore[misc, unused-ignore]
    """`url` is a libpq URL; host, port, database, user, password and sslmode are read from it."""

    # Feast's store requires this name; the class path in feature_store.yaml selects this class.
    type: Literal["postgres"] = "postgres"

    @model_validator(mode="before")
    @classmethod
    def _read_url(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "url" not in values:
            return values
        rest = {name: value for name, value in values.items() if name not in ("url", "type")}
        return {"type": "postgres", "db_schema": ONLINE_SCHEMA, **connection_parts(values["url"]), **rest}


def connection_parts(url: str) -> dict[str, str | int]:
    """Feast's connection settings from a libpq URL or an SQLAlchemy one for PostgreSQL."""
    parts = conninfo_to_dict(plain_url(SecretStr(url)))
    return {
        "host": str(parts.get("host", "localhost")),
        "port": int(parts.get("port") or 5432),
        "database": str(parts["dbname"]),
        "user": str(parts.get("user", "postgres")),
        "password": str(parts.get("password") or ""),
        "sslmode": str(parts.get("sslmode", "prefer")),
    }


class PostgresUrlOnlineStore(PostgreSQLOnlineStore):
    """Feast's store with PostgresUrlOnlineStoreConfig and limits on waiting. See the module docstring."""

    _limited: Connection[Any] | None = None

    @contextmanager
    def _get_conn(self, config: RepoConfig, autocommit: bool = False) -> Generator[Connection[Any], Any, Any]:
        with super()._get_conn(config, autocommit) as connection:
            if connection is not self._limited:
                # Feast opens the connection with options of its own.
                connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
                connection.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'")
                if not autocommit:
                    connection.commit()
                self._limited = connection
            yield connection

    def drop_expired(self, config: RepoConfig, view: FeatureView, known_at: datetime) -> int:
        """Delete a view's rows that are older than its ttl at `known_at`; returns how many (row, feature) pairs.

        Online reads no longer return them, and rows of short-lived entities would accumulate.
        """
        if not view.ttl:
            return 0
        table = compute_table_id(config.project, view)
        statement = sql.SQL("DELETE FROM {} WHERE event_ts < %s").format(sql.Identifier(table))
        oldest = (known_at - view.ttl).astimezone(UTC).replace(tzinfo=None)
        with self._get_conn(config) as connection, connection.cursor() as cursor:
            cursor.execute(statement, (oldest,))
            connection.commit()
            return int(cursor.rowcount)
