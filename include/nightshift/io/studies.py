"""Where the studies of hyperparameters are kept: Optuna's tables in the warehouse's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from nightshift.errors import ConfigurationError, WarehouseUnavailable
from nightshift.io.warehouse_schema import Connection, connect
from nightshift.settings import Settings

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

SCHEMA = "optuna"


@contextmanager
def study_storage(settings: Settings, study_name: str) -> Iterator[RDBStorage]:
    """Optuna's tables in the warehouse's database, held by one search of that study at a time.

    Raises WarehouseUnavailable if the database does not answer or another process is searching, and
    ConfigurationError if it refuses, or its tables are of another version of Optuna.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import OperationalError

    with connect(settings) as connection:
        # The lock is the session's: a search is no transaction.
        connection.autocommit = True
        if not _locked(connection, study_name):
            raise WarehouseUnavailable(f"Another process is searching in the study {study_name!r}; wait until it ends.")
        try:
            storage = _storage(settings, connection)
            try:
                yield storage
            finally:
                storage.remove_session()
                storage.engine.dispose()
        except (OperationalError, StorageInternalError) as error:
            raise WarehouseUnavailable(f"The study {study_name!r} could not be read or written: {error}") from error


def _storage(settings: Settings, connection: Connection) -> RDBStorage:
    import optuna

    _, _, address = settings.warehouse_url.get_secret_value().partition("://")
    # Two searches may begin at the same time, on an empty database.
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [SCHEMA])
    try:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        return optuna.storages.RDBStorage(
            f"postgresql+psycopg://{address}", engine_kwargs={"connect_args": {"options": f"-csearch_path={SCHEMA}"}}
        )
    except RuntimeError as error:
        raise ConfigurationError(
            f"The tables in schema {SCHEMA!r} do not suit optuna {optuna.__version__}: {error}"
        ) from error
    finally:
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [SCHEMA])


def _locked(connection: Connection, study_name: str) -> bool:
    query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
    row = connection.execute(query, [f"{SCHEMA}/{study_name}"]).fetchone()
    return bool(row and row[0])
