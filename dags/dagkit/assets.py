"""The assets that chain the DAGs of a use case, one partition a day."""

from __future__ import annotations

from airflow.sdk import Asset

from nightshift.declare.use_case import UseCase


def curated(use_case: UseCase) -> Asset:
    """Validated, typed tables of a partition. Made by ingest."""
    return _asset(use_case.name, "curated")


def features(use_case: UseCase) -> Asset:
    """Feature views of a partition, in the offline and the online store. Made by materialize."""
    return _asset(use_case.name, "features")


def history(use_case: UseCase) -> Asset:
    """Many past partitions of tables and features; the event names the last. Made by backfill_history."""
    return _asset(use_case.name, "history")


def predictions(use_case: UseCase) -> Asset:
    """Published predictions of a partition. Made by predict."""
    return _asset(use_case.name, "predictions")


def upstream_predictions(use_case: UseCase) -> list[Asset]:
    """The predictions of other use cases that it reads. They start no run: ingest waits for them."""
    return [_asset(name, "predictions") for name in use_case.upstreams]


def search_request(use_case: UseCase) -> Asset:
    """A request to search for better specs, as of a partition. Made by check_drift, weekly or on drift."""
    return _asset(use_case.name, "search_request")


def _asset(use_case: str, name: str) -> Asset:
    return Asset(name=f"{use_case}.{name}", uri=f"nightshift://{use_case}/{name}", group=use_case)
