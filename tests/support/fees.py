"""The consumer of another use case's predictions: late_fees, its deliveries, and what it read."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from nightshift.artifact import ArtifactRef
from nightshift.declare.predictions import Predictions
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from support.desk import Desk
from support.nights import Nights

DAY = timedelta(days=1)
FEED = "return_scores"


def reading(use_case: UseCase, source: Predictions | None, **changes: Any) -> UseCase:
    """The use case with another source of its feed of predictions."""
    feeds = tuple(replace(feed, source=source) if feed.source else feed for feed in use_case.feeds)
    return replace(use_case, feeds=feeds, **changes)


def with_source(nights: Nights, source: Predictions | None, **changes: Any) -> Nights:
    return Nights(reading(nights.use_case, source, **changes), nights.settings, nights.store)


def deliver(consumer: Nights, partition: date, bookings: int = 40) -> None:
    """The consumer's own files of a partition: the bookings of tomorrow, as the desk numbers them, and fees.

    Fees are charged for most of the bookings from the 21st on, which the desk's champion finds likely to be late.
    """
    branch = ["south", "north"]
    tomorrow = "".join(f"{partition + DAY},{n},{branch[n % 2]}\n" for n in range(bookings))
    chance = np.where(np.arange(bookings) > 20, 0.8, 0.15)
    charged = np.random.default_rng(partition.toordinal()).random(bookings) < chance
    fees = "".join(f"{partition},{n},{branch[n % 2]},{int(charged[n])}\n" for n in range(bookings))
    prefix = f"landing/{consumer.use_case.name}"
    bookings_file = f"booking_date,booking,branch\n{tomorrow}"
    consumer.store.put(f"{prefix}/bookings/dt={partition}/bookings.csv", bookings_file.encode())
    consumer.store.put(
        f"{prefix}/fees/dt={partition}/fees.csv", f"booking_date,booking,branch,charged\n{fees}".encode()
    )


def ingest(consumer: Nights, partition: date) -> ArtifactRef:
    deliver(consumer, partition)
    return consumer.ingest(partition)


def published_scores(upstream: Desk, partition: date) -> ArtifactRef:
    (publication,) = upstream.warehouse.publications(partition, partition)
    return publication.scores


def read_by(consumer: Nights, partition: date) -> list[str]:
    """Hashes of the scores that the landed partition was made from."""
    landed = consumer.store.current(consumer.use_case.name, "land", partition)
    return [ref.sha256 for ref in consumer.store.manifest(landed).inputs[FEED]]


def status(consumer: Nights, partition: date) -> tuple[str, str]:
    decision = consumer.store.decision(consumer.use_case.name, "publish", partition)
    assert decision is not None
    return decision.status, decision.reason


def delivered_scores(store: ArtifactStore, curated: ArtifactRef) -> dict[tuple[date, int], float]:
    rows = store.read_table(curated, f"{FEED}.parquet").to_pylist()
    return {(row["booking_date"], row["booking"]): row["p_late"] for row in rows}
