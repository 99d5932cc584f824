"""The tasks of the watchdog."""

from __future__ import annotations

from airflow.sdk import get_current_context

from dagkit.connections import open_store, use_connections
from dagkit.steps import airflow_errors
from nightshift.declare.discovery import load_use_case


def check_publication(use_case_name: str) -> str:
    """Check that the predictions that are due are published, as of the time that the current DAG run is for.

    Returns the partition, or that none is due. Fails if they are not published.
    """
    store = open_store()
    from nightshift.services import watchdog
    from nightshift.settings import load_settings

    now = get_current_context()["dag_run"].run_after
    with airflow_errors():
        due = watchdog.check_publication(load_use_case(use_case_name), load_settings(), store, now)
    return f"{due} is published" if due else "nothing is due"


def check_use_cases() -> None:
    """Fails, after an alert, if a use case cannot be loaded."""
    use_connections()
    from nightshift.services import watchdog
    from nightshift.settings import load_settings

    with airflow_errors():
        watchdog.check_use_cases(load_settings())
