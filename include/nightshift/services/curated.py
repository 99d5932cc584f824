"""Curated partitions: reads ranges of them, and rejects one that breaks its data contract."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.features.feature_computation import (
    DELIVERED_ON,
    OpenSpine,
    check_days,
    check_moments,
    compute_spine,
    open_spine,
)
from nightshift.core.ingest.landed_table import landed_schema
from nightshift.core.parquet_file import BATCH_ROWS, row_batches
from nightshift.declare.feeds import Feed
from nightshift.declare.use_case import UseCase
from nightshift.errors import DataContractError, NothingDelivered, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.partitions import parse_partition, partition_range
from nightshift.services.training_rows import STEP as ROWS_STEP
from nightshift.services.training_rows import withdraw_rows

STEP = "publish"
CACHED_TABLES = 2_000
CACHED_ROWS = 20_000
"""Of an artifact whose tables readers keep in this process: the history of a use case reads each of them many times."""
UNDECIDED = "ingest has not decided it"

log = logging.getLogger(__name__)

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)

_cache: dict[tuple[str, str], pa.Table] = {}
"""Tables read by this process, by content id of the artifact and path."""


@dataclass(frozen=True)
class CuratedFeed:
    """Rows of a feed over a range of partitions.

    `table`: the curated columns, landed_uri, landed_row and `delivered_on` (date32: the
    partition), by partition and then in landed order. `refs`: the published artifacts read, by
    partition. `missing`: partitions without data, with the reason.
    """

    table: pa.Table
    refs: tuple[ArtifactRef, ...]
    missing: Mapping[date, str]


def load_feeds(
    store: ArtifactStore,
    use_case: UseCase,
    feeds: Sequence[str],
    first: date,
    last: date,
    *,
    may_be_undecided: Collection[date] = (),
) -> dict[str, CuratedFeed]:
    """The named feeds of the partitions first to last, both included, by name.

    Partitions before the use case's first one are left out. Of a snapshot feed only the newest
    partition's rows are returned. Files are cached in this process: artifacts never
    change. Undecided partitions among `may_be_undecided` are returned as missing; for others raises
    PartitionNotReady.
    """
    return _loaded(store, use_case, feeds, *_published(store, use_case, first, last, may_be_undecided))


def load_artifacts(
    store: ArtifactStore, use_case: UseCase, feeds: Sequence[str], refs: Sequence[ArtifactRef]
) -> dict[str, CuratedFeed]:
    """What `load_feeds` returns, of these curated artifacts, one for each partition, whatever is published now."""
    return _loaded(store, use_case, feeds, {parse_partition(store.manifest(ref).partition): ref for ref in refs}, {})


def _loaded(
    store: ArtifactStore,
    use_case: UseCase,
    feeds: Sequence[str],
    published: Mapping[date, ArtifactRef],
    missing: Mapping[date, str],
) -> dict[str, CuratedFeed]:
    loaded = {}
    for name in feeds:
        feed = use_case.feed(name)
        chosen = _chosen(feed, published)
        loaded[name] = CuratedFeed(_load(store, feed, chosen), tuple(chosen.values()), missing)
    return loaded


def _published(
    store: ArtifactStore, use_case: UseCase, first: date, last: date, may_be_undecided: Collection[date] = ()
) -> tuple[dict[date, ArtifactRef], dict[date, str]]:
    """The curated artifacts of the partitions first to last, and why the other partitions have none."""
    partitions = partition_range(max(first, use_case.first_partition), last)
    decisions = store.decisions(use_case.name, STEP, partitions)
    undecided = [day.isoformat() for day, status in decisions.items() if status is None and day not in may_be_undecided]
    if undecided:
        more = f" and {len(undecided) - 5} more" if len(undecided) > 5 else ""
        raise PartitionNotReady(
            "NS-CURATE-012",
            f"{use_case.name} has no curated data yet for {', '.join(undecided[:5])}{more}. "
            f"Run or backfill {use_case.name}.ingest for them; the task is retried until they are there.",
        )
    published: dict[date, ArtifactRef] = {}
    missing: dict[date, str] = {}
    for day, decision in decisions.items():
        if decision and decision.published:
            published[day] = decision.published
        else:
            missing[day] = decision.reason if decision else UNDECIDED
    return published, missing


def _chosen(feed: Feed, published: Mapping[date, ArtifactRef]) -> dict[date, ArtifactRef]:
    """The artifacts to read a feed from: of a snapshot, the newest."""
    return dict(sorted(published.items())[-1:]) if feed.cadence == "snapshot" else dict(published)


@dataclass(frozen=True)
class Spine:
    """`rows` of a spine (see core.feature_computation.compute_spine), the artifacts read, and why the partition has
    no data ("" if it has)."""

    rows: pa.Table
    refs: tuple[ArtifactRef, ...]
    rejected: str


def delivered_spine(
    use_case: UseCase, store: ArtifactStore, partition: date, sql: Path, feeds: Sequence[str] = ()
) -> Spine:
    """Run a spine's SQL over the deliveries of one partition, of all feeds or those named.

    Raises PartitionNotReady if the partition has not been ingested.
    """
    loaded = load_feeds(store, use_case, feeds or use_case.feed_names, partition, partition)
    rows = compute_spine(use_case, sql, {name: feed.table for name, feed in loaded.items()}, partition)
    if sql == use_case.scoring_spine:
        # Not of labels: a correction may move the moment of a row that was scored.
        check_days(use_case, sql, rows)
        check_moments(use_case, sql, rows, partition)
    refs = {ref.sha256: ref for feed in loaded.values() for ref in feed.refs}
    rejected = next((reason for feed in loaded.values() for reason in feed.missing.values()), "")
    return Spine(rows, tuple(refs.values()), rejected)


@dataclass(frozen=True)
class ScoringSpine:
    """The rows to score of one partition, as batches; the artifacts read, and why there is no data ("": there is)."""

    spine: OpenSpine
    partition: date
    refs: tuple[ArtifactRef, ...]
    rejected: str

    @property
    def rows(self) -> int:
        """Their number."""
        return self.spine.rows

    @property
    def session(self) -> duckdb.DuckDBPyConnection:
        """Where they are the table `spine`."""
        return self.spine.session

    def check(self) -> None:
        """Raise FeatureContractError for rows of another day, or outside of the partition's window."""
        for _ in self.batches(BATCH_ROWS):
            pass

    def batches(self, rows: int) -> Iterator[pa.Table]:
        """All rows, sorted by key, at most `rows` at a time; one table without rows if there are none.

        Raises FeatureContractError for rows of another day, or outside of the partition's window.
        """
        use_case, sql = self.spine.use_case, self.spine.use_case.scoring_spine
        reader = self.spine.batches(rows)
        for batch in reader if self.rows else [reader.schema.empty_table()]:
            table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            check_days(use_case, sql, table)
            check_moments(use_case, sql, table, self.partition)
            yield table


@contextmanager
def open_scoring_spine(use_case: UseCase, store: ArtifactStore, partition: date) -> Iterator[ScoringSpine]:
    """`delivered_spine` of the scoring spine, for more rows than fit in memory, within the block."""
    with ExitStack() as files:
        feeds = files.enter_context(open_feeds(store, use_case, partition, partition))
        with open_spine(use_case, use_case.scoring_spine, feeds.rows, partition) as spine:
            files.close()  # what was read is in the session
            yield ScoringSpine(spine, partition, feeds.refs, next(iter(feeds.missing.values()), ""))


@dataclass(frozen=True)
class OpenFeeds:
    """All feeds over a range of partitions: what CuratedFeed has, with readers of the `rows` in place of tables."""

    rows: Mapping[str, pa.RecordBatchReader]
    refs: tuple[ArtifactRef, ...]
    missing: Mapping[date, str]


@contextmanager
def open_feeds(
    store: ArtifactStore, use_case: UseCase, first: date, last: date, *, may_be_undecided: Collection[date] = ()
) -> Iterator[OpenFeeds]:
    """`load_feeds` of all feeds, for more rows than fit in memory, read once within the block."""
    published, missing = _published(store, use_case, first, last, may_be_undecided)
    chosen = {feed.name: _chosen(feed, published) for feed in use_case.feeds}
    with ExitStack() as files:
        rows = {feed.name: _reader(store, feed, chosen[feed.name], files) for feed in use_case.feeds}
        refs = {ref.uri: ref for of_feed in chosen.values() for ref in of_feed.values()}
        yield OpenFeeds(rows, tuple(refs.values()), missing)


def _reader(
    store: ArtifactStore, feed: Feed, refs: Mapping[date, ArtifactRef], files: ExitStack
) -> pa.RecordBatchReader:
    """The rows that `_load` returns, batch by batch."""
    schema, path = _schema(feed), f"{feed.name}.parquet"

    def opened(item: tuple[date, ArtifactRef]) -> pa.Table | Path:
        partition, ref = item
        if ref.rows <= CACHED_ROWS:
            return _read_once(store, path, schema, partition, ref)
        return files.enter_context(store.opened(ref, path))

    sources = in_parallel(opened, refs.items())

    def batches() -> Iterator[pa.RecordBatch]:
        for partition, source in zip(refs, sources, strict=True):
            if isinstance(source, pa.Table):
                yield from source.to_batches()
                continue
            with pq.ParquetFile(source) as file:
                for batch in row_batches(file):
                    yield _delivered(batch, partition, schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _schema(feed: Feed) -> pa.Schema:
    return landed_schema(feed.curated).append(pa.field(DELIVERED_ON, pa.date32()))


def _load(store: ArtifactStore, feed: Feed, refs: Mapping[date, ArtifactRef]) -> pa.Table:
    schema = _schema(feed)
    tables = in_parallel(lambda item: _read_once(store, f"{feed.name}.parquet", schema, *item), refs.items())
    return pa.concat_tables([schema.empty_table(), *tables])


def _read_once(store: ArtifactStore, path: str, schema: pa.Schema, partition: date, ref: ArtifactRef) -> pa.Table:
    table = _cache.get((ref.sha256, path))
    if table is None:
        table = _delivered(store.read_table(ref, path), partition, schema)
        if len(_cache) >= CACHED_TABLES:
            _cache.clear()
        _cache[ref.sha256, path] = table
    return table


def _delivered(rows: Rows, partition: date, schema: pa.Schema) -> Rows:
    """The rows with `delivered_on`."""
    return rows.append_column(DELIVERED_ON, pa.repeat(pa.scalar(partition, pa.date32()), rows.num_rows)).cast(schema)


def last_published(store: ArtifactStore, use_case: UseCase, partition: date) -> ArtifactRef | None:
    """The artifact that counts for a partition, or that counted before it was rejected; None if none ever did."""
    decision = store.decision(use_case.name, STEP, partition)
    return None if decision is None else decision.published or decision.last_published


@dataclass
class Evidence:
    """The artifact that shows why a partition is rejected; the block sets `ref` once it has committed one."""

    ref: ArtifactRef | None = None


@contextmanager
def rejecting(store: ArtifactStore, use_case: UseCase, partition: date, *, replaces: str) -> Iterator[Evidence]:
    """Reject the partition if the block raises DataContractError, and re-raise the error.

    This replaces an earlier status, also a published one: the files in the landing folder now decide. Training rows of
    the partition are withdrawn. Only if there are no files (NothingDelivered), an earlier status is kept: removed files
    say nothing about the data. Another run of ingest after a new delivery replaces the status again. Raises
    StatusChanged if the status has changed since it had the tag `replaces`. Consumers leave a rejected partition out
    and record that.
    """
    evidence = Evidence()
    try:
        yield evidence
    except DataContractError as error:
        before = last_published(store, use_case, partition)
        decision = Decision(status="rejected", ref=evidence.ref, reason=str(error), last_published=before)
        first_only = isinstance(error, NothingDelivered)
        tag = None if first_only else replaces
        if not store.decide(use_case.name, STEP, partition, decision, only_if_undecided=first_only, replaces=tag):
            earlier = store.decision(use_case.name, STEP, partition)
            status = f"{use_case.name} {partition} stays {earlier.status if earlier else 'as it was'}"
            log.error("%s, although its landed files are gone: %s", status, error)
            raise NothingDelivered(error.code, f"{status}; this run changed nothing. {error.message}") from error
        # Without curated data no training follows that would withdraw them.
        rows = store.decision(use_case.name, ROWS_STEP, partition)
        if rows is not None and rows.published:
            withdraw_rows(store, use_case, partition, decision.reason)
        raise
