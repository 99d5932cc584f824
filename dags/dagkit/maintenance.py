"""The task of maintenance."""

from __future__ import annotations

import logging

from airflow.sdk import get_current_context

from dagkit.connections import open_store
from dagkit.steps import airflow_errors
from nightshift.declare.discovery import load_use_case

log = logging.getLogger(__name__)


def sweep_orphans(use_case_name: str) -> str:
    """Find the orphans that the parameters of the current run name; delete them in a scheduled run, or if they say so.

    Returns how many there are.
    """
    store = open_store()
    from nightshift.services.orphans import sweep
    from nightshift.settings import load_settings

    context = get_current_context()
    params = context["params"]
    delete = params["delete"] or context["dag_run"].run_type == "scheduled"
    with airflow_errors():
        orphans = sweep(load_use_case(use_case_name), load_settings(), store, days=params["days"], delete=delete)
    for info in orphans:
        log.info("%s, %d bytes, of %s", store.uri(info.key), info.bytes, info.modified)
    return f"{len(orphans)} orphans {'deleted' if delete else 'found'}"
