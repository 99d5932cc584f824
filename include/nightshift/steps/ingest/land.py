"""Read what was delivered for a partition, check its schema, convert types, and keep one row per key.

A feed is delivered as files, or as the published predictions of another use case (see services.upstream).

Artifact: `<feed>.parquet` (curated columns, columns for expectations only, landed_uri and
landed_row; in landed order), `landed.json` (a Landed document) and, where rows were quarantined,
`quarantine/<feed>.parquet`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightshift.artifact import ArtifactRef
from nightshift.core.ingest.curated_table import curate
from nightshift.core.ingest.landed_checks import check_size
from nightshift.core.ingest.landed_table import LandedTable, read_landed, reject_if_undelivered
from nightshift.core.ingest.quarantine import write_quarantine
from nightshift.declare.feeds import Feed
from nightshift.documents.ingest import Landed, LandedFeed
from nightshift.errors import NothingDelivered, PartitionNotReady
from nightshift.io.landing import DeliveredFeed, read_delivery
from nightshift.services.curated import STEP as PUBLISH
from nightshift.services.curated import rejecting
from nightshift.services.upstream import read_predictions
from nightshift.steps.context import StepContext

STEP = "land"


@dataclass(frozen=True)
class Delivered:
    """A feed's rows and what they are from: files or a scores artifact. `repeated`: see LandedFeed.repeated_files.

    `degraded`: why a feed of predictions is left without rows; "" if it is not. `bytes`: size of the files read.
    """

    tables: Sequence[LandedTable]
    refs: tuple[ArtifactRef, ...]
    repeated: Mapping[str, str] = field(default_factory=dict)
    degraded: str = ""
    bytes: int | None = None


def run(context: StepContext, *, reject_undelivered: bool = False) -> ArtifactRef:
    """Land all feeds of the partition.

    A file delivered twice with the same bytes is read once. Of a key delivered twice the last row is kept (see
    core.curated_table). A correction is a row of an earlier day; it is landed with the partition that delivered
    it, and the earlier partition does not change.
    Raises PartitionNotReady while a feed's delivery is missing or not complete, or with `reject_undelivered`
    NothingDelivered; SchemaChanged or MalformedFile; UpstreamHeld for predictions that may not be used. All but the
    first reject the partition, so that later ones are processed without it; with NothingDelivered an earlier status
    is kept. Having decided nothing, raises StatusChanged if another run decides it meanwhile.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    replaces = context.status_tag(PUBLISH)
    files: dict[str, Path] = {}
    inputs: dict[str, tuple[ArtifactRef, ...]] = {}
    landed: dict[str, LandedFeed] = {}
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        with rejecting(store, use_case, partition, replaces=replaces):
            for feed in use_case.feeds:
                local = Path(folder) / feed.name
                local.mkdir()
                delivered = _delivered(context, feed, local, last_try=reject_undelivered)
                curated = curate(feed, [table.rows for table in delivered.tables], local)
                quarantine = [*(table.quarantine for table in delivered.tables), curated.quarantine]
                quarantined = sum(spool.rows for spool in quarantine)
                files[f"{feed.name}.parquet"] = curated.file
                if quarantined:
                    aside = write_quarantine(local / "quarantine.parquet", quarantine)
                    files[f"quarantine/{feed.name}.parquet"] = aside
                inputs[feed.name] = delivered.refs
                landed[feed.name] = LandedFeed(
                    delivered=sum(table.delivered for table in delivered.tables),
                    quarantined=quarantined,
                    exact_duplicates=curated.exact_duplicates,
                    repeated_files=delivered.repeated,
                    degraded=delivered.degraded,
                    bytes=delivered.bytes,
                )
                rows += curated.rows
        return context.commit(
            STEP,
            kind="landed",
            files={**files, **Landed(feeds=landed).to_files()},
            inputs=inputs,
            metrics={name: one.model_dump() for name, one in landed.items()},
            rows=rows,
        )


def _delivered(context: StepContext, feed: Feed, folder: Path, *, last_try: bool) -> Delivered:
    use_case, store, partition = context.use_case, context.store, context.partition
    if feed.source is not None:
        read = read_predictions(
            context.settings, store, use_case, feed, feed.source, partition, folder, waited=last_try
        )
        return Delivered([read.table], read.refs, degraded=read.degraded)
    try:
        # On the last try, and in history, what is there is all there is.
        settle = 0 if last_try else context.settings.settle_seconds
        delivery = read_delivery(store, use_case, feed, partition, folder, settle_seconds=settle)
    except PartitionNotReady as error:
        if not last_try:
            raise
        hint = "It did not come in time; run ingest again once it is there."
        raise NothingDelivered("NS-LAND-020", f"{error.message} {hint}") from error
    tables, size, where = [], 0, store.uri(delivery.prefix)
    for file in delivery.files:
        size += file.copy.stat().st_size
        tables.append(read_landed(feed, file.uri, file.copy, folder))
        file.copy.unlink()
        check_size(feed, where, sum(table.rows.nbytes + table.quarantine.nbytes for table in tables))
    reject_if_undelivered(feed, tables, where)
    return Delivered(tables, _refs(delivery, tables), delivery.repeated, bytes=size)


def _refs(delivery: DeliveredFeed, tables: Sequence[LandedTable]) -> tuple[ArtifactRef, ...]:
    refs = {
        file.uri: ArtifactRef(uri=file.uri, sha256=file.sha256, kind="landed_file", rows=table.delivered)
        for file, table in zip(delivery.files, tables, strict=True)
    }
    refs |= {uri: refs[same].model_copy(update={"uri": uri}) for uri, same in delivery.repeated.items()}
    return tuple(refs[uri] for uri in sorted(refs))
