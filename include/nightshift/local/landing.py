"""Lands what a use case's producer delivers. Stands beside the pipeline: users land their own files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import READERS, ArtifactStore
from nightshift.usecase import UseCase

Delivery = tuple[str, str, str, bytes]
"""(feed, dt as YYYY-MM-DD, file name, bytes)"""


@dataclass(frozen=True)
class Landed:
    """How many files were written, and how many were there already with the same bytes."""

    written: int
    unchanged: int


def producer(use_case: UseCase) -> Callable[[date], Iterable[Delivery]]:
    """The `deliveries` function of the use case's module `replay`. Raises ConfigurationError if it has none."""
    name = f"{use_case.name}.replay"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (use_case.name, name):
            raise
        raise ConfigurationError(
            f"{use_case.name} has no producer (include/{name.replace('.', '/')}.py): "
            f"land its files at landing/{use_case.name}/<feed>/dt=<partition>/ yourself."
        ) from None
    deliveries: Callable[[date], Iterable[Delivery]] = module.deliveries
    return deliveries


def land(
    store: ArtifactStore,
    use_case: UseCase,
    partitions: Sequence[date],
    progress: Callable[[int, int], None] | None = None,
) -> Landed:
    """Put every delivery of the partitions at landing/<use case>/<feed>/dt=<dt>/<file name>.

    An object that has the very bytes already is left alone. `progress` gets (partitions done, all).
    """
    deliveries = producer(use_case)
    prefix = f"landing/{use_case.name}/"
    sizes = {found.key: found.bytes for found in store.list(prefix)}

    def put(delivery: Delivery) -> bool:
        feed, dt, file_name, body = delivery
        key = f"{prefix}{feed}/dt={dt}/{file_name}"
        if sizes.get(key) == len(body) and store.get(key) == body:
            return False
        return store.put(key, body)

    written = unchanged = 0
    with ThreadPoolExecutor(READERS) as pool:
        for number, partition in enumerate(partitions, start=1):
            for was_written in pool.map(put, deliveries(partition)):
                written += was_written
                unchanged += not was_written
            if progress is not None:
                progress(number, len(partitions))
    return Landed(written, unchanged)
