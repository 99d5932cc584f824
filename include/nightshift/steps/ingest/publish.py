"""Publish the rows that passed as the curated partition, and write the others to quarantine.

Artifact: `<feed>.parquet` with the curated columns, landed_uri and landed_row, in landed order.
Quarantined rows are also written to `quarantine/<use case>/<feed>/dt=<partition>/<content id>.parquet`.
Metrics: `rows` {feed: n}, `quarantined_rows` n, `quarantined` {reason: n}, `warnings` {reason: n},
`exact_duplicates` {feed: n}, `quarantine_uris` {feed: uri}, `label_corrections` (see LabelCorrections), and, where a
feed of predictions is without rows, `degraded` {feed: why}.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef, Manifest, sha256_hex
from nightshift.core.ingest.curated_table import published_columns
from nightshift.core.ingest.quarantine import QUARANTINE, gathered, reason_counts, without_rows
from nightshift.core.parquet_file import row_batches, write_parquet
from nightshift.declare.feeds import Feed
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import Landed, LandedFeed
from nightshift.errors import DataContractError
from nightshift.io.artifact_store import ArtifactStore, parquet_bytes
from nightshift.services.curated import STEP, rejecting
from nightshift.services.label_corrections import check_corrections
from nightshift.services.upstream import degraded_feeds
from nightshift.steps.context import StepContext


def run(context: StepContext, *, validated: ArtifactRef, profiled: ArtifactRef) -> ArtifactRef:
    """Publish a partition that passed all critical expectations.

    Every delivered row must be published, quarantined, or an exact duplicate of one that is, and labels of the past
    may be changed within bounds; otherwise raises DataContractError and rejects the partition. Having decided nothing,
    raises Superseded if the partition was landed or validated again, StatusChanged if another run decides it meanwhile.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    replaces = context.status_tag(STEP)
    validation = store.manifest(validated)
    landed = validation.inputs["landed"][0]
    for step, ref in (("land", landed), ("validate", validated), ("profile", profiled)):
        context.check_current(step, ref)
    landing, counts = store.manifest(landed), store.read_document(landed, Landed).feeds
    rows: dict[str, int] = {}
    quarantined: dict[str, pa.Table] = {}
    with TemporaryDirectory() as folder:
        files = {feed.name: Path(folder) / feed.name for feed in use_case.feeds}
        with rejecting(store, use_case, partition, replaces=replaces) as evidence:
            evidence.ref = validated
            for feed in use_case.feeds:
                failed_rows = _set_aside(store, validation, "quarantine", feed)
                rows[feed.name] = _write_others(files[feed.name], store, landed, feed, failed_rows)
                quarantined[feed.name] = gathered([_set_aside(store, landing, "quarantine", feed), failed_rows])
                removed = quarantined[feed.name].num_rows
                _check_sums(use_case, partition, feed, rows[feed.name], removed, counts[feed.name])
            corrections = check_corrections(store, use_case, partition, files)
        warnings = [_set_aside(store, validation, "warnings", feed) for feed in use_case.feeds]
        uris = {
            name: _keep(store, use_case, partition, name, table) for name, table in quarantined.items() if len(table)
        }
        return context.commit(
            STEP,
            kind="curated",
            files={f"{name}.parquet": path for name, path in files.items()},
            inputs={"landed": [landed], "profiled": [profiled], "validated": [validated]},
            metrics={
                "rows": rows,
                "quarantined_rows": sum(table.num_rows for table in quarantined.values()),
                "quarantined": reason_counts(gathered(list(quarantined.values()))),
                "warnings": reason_counts(gathered(warnings)),
                "exact_duplicates": {name: counts[name].exact_duplicates for name in rows},
                "quarantine_uris": uris,
                "label_corrections": corrections.model_dump(),
                **({"degraded": degraded} if (degraded := degraded_feeds(counts)) else {}),
            },
            rows=sum(rows.values()),
            replaces=replaces,
        )


def _write_others(path: Path, store: ArtifactStore, landed: ArtifactRef, feed: Feed, failed: pa.Table) -> int:
    """Write the landed rows of a feed without those that failed, with the published columns; returns their number."""
    with store.opened(landed, f"{feed.name}.parquet") as copy:
        file = pq.ParquetFile(copy)
        tables = (
            published_columns(feed, without_rows(pa.Table.from_batches([batch]), failed)) for batch in row_batches(file)
        )
        schema = published_columns(feed, file.schema_arrow.empty_table()).schema
        return write_parquet(path, schema, tables)


def _set_aside(store: ArtifactStore, manifest: Manifest, folder: str, feed: Feed) -> pa.Table:
    """The quarantined or warned rows of a feed in an artifact; empty if it has no such file."""
    path = f"{folder}/{feed.name}.parquet"
    present = any(file.path == path for file in manifest.files)
    return store.read_table(manifest.ref, path) if present else QUARANTINE.empty_table()


def _check_sums(
    use_case: UseCase, partition: date, feed: Feed, rows: int, quarantined: int, landed: LandedFeed
) -> None:
    delivered, duplicates = landed.delivered, landed.exact_duplicates
    if delivered != rows + quarantined + duplicates:
        raise DataContractError(
            "NS-CURATE-010",
            f"{use_case.name} {partition} {feed.name}: {delivered} rows were delivered, but {rows} are to be "
            f"published, {quarantined} quarantined and {duplicates} are exact duplicates. Rows got lost on the "
            f"way: compare the artifacts of land and validate with the landed files.",
        )


def _keep(store: ArtifactStore, use_case: UseCase, partition: date, name: str, rows: pa.Table) -> str:
    body = parquet_bytes(rows)
    key = f"quarantine/{use_case.name}/{name}/dt={partition}/{sha256_hex(body)[:16]}.parquet"
    store.put(key, body, immutable=True)
    return store.uri(key)
