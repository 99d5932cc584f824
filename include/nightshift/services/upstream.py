"""Feeds of predictions: finds what another use case published for a partition, and decides whether it may be used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.ingest.landed_table import LandedTable, nothing_landed, read_landed
from nightshift.core.parquet_file import row_batches, write_parquet
from nightshift.declare.discovery import load_fault, load_use_case
from nightshift.declare.feeds import Feed
from nightshift.declare.predictions import Predictions
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import LandedFeed
from nightshift.errors import NothingDelivered, PartitionNotReady, UpstreamHeld
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.publications import Publication
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.live_scores import SCORES
from nightshift.settings import Settings

DECIDING_STEPS = ("publish", "publish_features", "publish_predictions")
"""The steps whose rejection of a partition means that it will not be published, in the order of the stages."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unusable:
    """Why there are no predictions that may be used. `decided`: waiting does not help."""

    reason: str
    decided: bool


@dataclass(frozen=True)
class PredictionsDelivery:
    """What a feed of predictions delivers: its rows, and the scores artifact that they are from. `degraded`: why there
    are none; "" if there are."""

    table: LandedTable
    refs: tuple[ArtifactRef, ...] = ()
    degraded: str = ""


def read_predictions(
    settings: Settings,
    store: ArtifactStore,
    use_case: UseCase,
    feed: Feed,
    source: Predictions,
    partition: date,
    folder: Path,
    *,
    waited: bool,
) -> PredictionsDelivery:
    """The published predictions that a feed reads for a partition, by its schema `landed`, kept in a local folder.

    They are those of the scores artifact that the current publication of the upstream partition names, not rows of
    the predictions table. If there are none that may be used, the source's `on_missing` decides: `degrade` delivers
    no rows; `hold` raises UpstreamHeld, or NothingDelivered if the upstream partition is undecided. While it is
    undecided and `waited` is False, PartitionNotReady is raised under both rules. Raises SchemaChanged.
    """
    day = partition - timedelta(days=source.lag)
    published = _published(settings, store, source, day, partition)
    if isinstance(published, Publication):
        with store.opened(published.scores, SCORES) as scores:
            columns = _columns(feed, scores, folder / "delivered")
        rows = read_landed(feed, f"{published.scores.uri}{SCORES}", columns, folder)
        return PredictionsDelivery(rows, (published.scores.model_copy(update={"rows": published.rows}),))
    what = f"{use_case.name} {partition}: feed {feed.name} has no predictions of {source.use_case} {day}"
    if not (published.decided or waited):
        raise PartitionNotReady(
            "NS-UPSTREAM-007",
            f"{what}: {published.reason}. The task is retried until they are published; after the last retry "
            f"on_missing={source.on_missing!r} decides.",
        )
    if source.on_missing == "degrade":
        log.warning("%s: %s; features of it are null", what, published.reason)
        return PredictionsDelivery(
            nothing_landed(feed, folder), degraded=f"{source.use_case} {day}: {published.reason}"
        )
    advice = (
        f"Run {source.use_case} for {day} if it can be made good, then {use_case.name}.ingest for {partition} again; "
        "later partitions go on without this one."
    )
    if published.decided:
        raise UpstreamHeld("NS-UPSTREAM-008", f"{what}: {published.reason}. {advice}")
    raise NothingDelivered("NS-UPSTREAM-009", f"{what}: {published.reason}. They did not come in time. {advice}")


def is_undecided(settings: Settings, store: ArtifactStore, source: Predictions, partition: date) -> bool:
    """Whether the predictions that a feed reads for a partition are neither there nor decided against."""
    published = _published(settings, store, source, partition - timedelta(days=source.lag), partition)
    return isinstance(published, Unusable) and not published.decided


def _columns(feed: Feed, scores: Path, file: Path) -> Path:
    """A Parquet file with the columns of the scores that the feed declares, those that are there."""
    with pq.ParquetFile(scores) as reader:
        names = [column.name for column in feed.landed if column.name in reader.schema_arrow.names]
        schema = pa.schema([reader.schema_arrow.field(name) for name in names])
        batches = row_batches(reader, names)
        write_parquet(file, schema, (pa.table(batch).select(names) for batch in batches))
    return file


def _published(
    settings: Settings, store: ArtifactStore, source: Predictions, day: date, partition: date
) -> Publication | Unusable:
    """The publication of the upstream partition `day`, or why its predictions may not be used by `partition`."""
    if fault := load_fault(source.use_case):
        return Unusable(f"its declaration cannot be loaded ({fault})", decided=False)
    upstream = load_use_case(source.use_case)
    warehouse = Warehouse(settings, upstream)
    publications = warehouse.publications(day, day)
    if not publications:
        return _unpublished(store, upstream, day)
    (publication,) = publications
    # A switch turned on after the upstream partition was published stops its predictions, too.
    killed = warehouse.state_as_of(partition).killed
    if killed is not None and publication.role != "fallback":
        why = f"the kill switch is on since partition {killed.partition}, by {killed.decided_by}"
        return Unusable(f"{why}, and they are of {publication.role} {publication.model_version}", decided=True)
    if publication.role == "fallback" and not source.accept_fallback:
        why = f" (the kill switch is on since partition {killed.partition}, by {killed.decided_by})" if killed else ""
        return Unusable(f"its fallback serves{why}, and accept_fallback is not declared", decided=True)
    return publication


def _unpublished(store: ArtifactStore, upstream: UseCase, day: date) -> Unusable:
    if day < upstream.first_partition or (upstream.last_partition and day > upstream.last_partition):
        return Unusable("it is not one of its partitions", decided=True)
    for step in DECIDING_STEPS:
        decision = store.decision(upstream.name, step, day)
        if decision is not None and decision.status == "rejected":
            return Unusable(f"{step} rejected it: {decision.reason}", decided=True)
    return Unusable("they are not published yet", decided=False)


def degraded_feeds(landed: Mapping[str, LandedFeed]) -> dict[str, str]:
    """The feeds that `land` left without rows, by name, with the reasons."""
    return {name: one.degraded for name, one in landed.items() if one.degraded}
