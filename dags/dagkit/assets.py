"""The assets that chain the DAGs of a use case, one partition a day."""

from __future__ import annotations

from airflow.sdk import Asset

from nightshift.declare.use_case import UseCase


def curated(use_case: UseCase) -> Asset:
    """Validated, typed tables of a partition. Made by ingest."""
    return _asset(use_case, "curated")


def features(use_case: UseCase) -> Asset:
    """Feature views of a partition, in the offline and the online store. Made by materialize."""
    return _asset(use_case, "features")


def history(use_case: UseCase) -> Asset:
    """Many past partitions of tables and features; the event names the last. Made by backfill_history."""
    return _asset(use_case, "history")


def predictions(use_case: UseCase) -> Asset:
    """Published predictions of a partition. Made by predict."""
    return _asset(use_case, "predictions")


def search_request(use_case: UseCase) -> Asset:
    """A request to search for better specs, as of a partition. Made by check_drift, weekly or on drift."""
    return _asset(use_case, "search_request")


def _asset(use_case: UseCase, name: str) -> Asset:
    return Asset(name=f"{use_case.name}.{name}", uri=f"nightshift://{use_case.name}/{name}", group=use_case.name)
