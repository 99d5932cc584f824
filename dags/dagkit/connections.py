"""Addresses of the stores for tasks: environment variables, else Airflow connections."""

from __future__ import annotations

import os
from typing import Any

WAREHOUSE_CONNECTION = "nightshift_warehouse"
OBJECT_STORE_CONNECTION = "nightshift_object_store"


def open_store() -> Any:
    """The artifact store of the settings, completed from Airflow connections."""
    use_connections()
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.settings import load_settings

    return ArtifactStore(load_settings())


def use_connections() -> None:
    """Set missing environment variables from Airflow connections.

    The environment takes precedence, so that tasks use what `make env` prints.
    """
    if "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ and (connection := _connection(WAREHOUSE_CONNECTION)):
        os.environ["NIGHTSHIFT_WAREHOUSE_URL"] = connection.get_uri().replace("postgres://", "postgresql://", 1)
    if "AWS_ACCESS_KEY_ID" not in os.environ and (connection := _connection(OBJECT_STORE_CONNECTION)):
        os.environ["AWS_ACCESS_KEY_ID"] = connection.login or ""
        os.environ["AWS_SECRET_ACCESS_KEY"] = connection.password or ""
        if endpoint := connection.extra_dejson.get("endpoint_url"):
            os.environ["AWS_ENDPOINT_URL"] = endpoint


def _connection(name: str) -> Any:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        return None
