"""Lands the deliveries of a use case's replay module. Not a part of the pipeline: users land their own files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import READERS

Delivery = tuple[str, str, str, bytes]
"""(feed, dt as YYYY-MM-DD, file name, bytes)"""


SAY_EVERY = 50
"""Partitions between two lines of progress."""


def producer(use_case: UseCase) -> Callable[[date], Iterable[Delivery]]:
    """The `deliveries` function of the use case's module `replay`. Raises ConfigurationError if it has none."""
    name = f"{use_case.name}.replay"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (use_case.name, name):
            raise
        raise ConfigurationError(
            "NS-USECASE-022",
            f"{use_case.name} has no producer (include/{name.replace('.', '/')}.py): "
            f"land its files at landing/{use_case.name}/<feed>/dt=<partition>/.",
        ) from None
    deliveries: Callable[[date], Iterable[Delivery]] = module.deliveries
    return deliveries


def land(store: ArtifactStore, use_case: UseCase, partitions: Sequence[date], say: Callable[[str], None]) -> int:
    """Put every delivery of the partitions at landing/<use case>/<feed>/dt=<dt>/<file name>.

    An object with the same bytes is not written again. `say` gets lines of progress. Returns the number of
    files written. Raises ConfigurationError if the use case has no producer.
    """
    deliveries = producer(use_case)
    prefix = f"landing/{use_case.name}/"
    sizes = {info.key: info.bytes for info in store.list(prefix)}

    def put(delivery: Delivery) -> bool:
        feed, dt, file_name, body = delivery
        key = f"{prefix}{feed}/dt={dt}/{file_name}"
        if sizes.get(key) == len(body) and store.get(key) == body:
            return False
        return store.put(key, body)

    was_written: list[bool] = []
    with ThreadPoolExecutor(READERS) as pool:
        for number, partition in enumerate(partitions, start=1):
            was_written += pool.map(put, deliveries(partition))
            if number % SAY_EVERY == 0 or number == len(partitions):
                say(f"{number} of {len(partitions)} partitions landed.")
    written = sum(was_written)
    say(f"{written} files written, {len(was_written) - written} existed already.")
    return written
