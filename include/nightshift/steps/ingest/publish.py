"""Make the rows that passed the curated partition, and put the others in quarantine.

Artifact: `<feed>.parquet` with the curated columns, landed_uri and landed_row, in landed order.
Rows set aside are also written to `quarantine/<use case>/<feed>/dt=<partition>/<content id>.parquet`.
Metrics: `rows` {feed: n}, `quarantined_rows` n, `quarantined` {reason: n}, `warnings` {reason: n},
`exact_duplicates` {feed: n}, `quarantine_uris` {feed: uri}.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from nightshift.artifact import ArtifactRef, Manifest, sha256_hex
from nightshift.core.curated_table import published_columns
from nightshift.core.quarantine import LANDED_ROW, LANDED_URI, QUARANTINE, gathered, reason_counts
from nightshift.errors import DataContractError
from nightshift.io.artifact_store import ArtifactStore, parquet_bytes
from nightshift.io.curated import STEP, refusing
from nightshift.settings import Settings
from nightshift.usecase import Feed, UseCase


@dataclass(frozen=True)
class _Published:
    rows: pa.Table
    quarantine: pa.Table
    warnings: pa.Table


def run(
    use_case: UseCase,
    settings: Settings,  # noqa: ARG001 - every step takes the same arguments
    store: ArtifactStore,
    partition: date,
    *,
    validated: ArtifactRef,
    profiled: ArtifactRef,
) -> ArtifactRef:
    """Publish the partition of a validation that no critical expectation stopped.

    Every delivered row is published, quarantined, or an exact duplicate of one that is; raises
    DataContractError, and refuses the partition, if the sums say otherwise.
    """
    validation = store.manifest(validated)
    landed = validation.inputs["landed"][0]
    landing = store.manifest(landed)
    published = {feed.name: _publish(store, feed, landing, validation) for feed in use_case.feeds}
    with refusing(store, use_case, partition) as evidence:
        evidence.ref = validated
        for name, feed in published.items():
            _check_sums(use_case, partition, name, feed, landing)
    quarantined = {name: feed.quarantine for name, feed in published.items() if feed.quarantine.num_rows}
    uris = {name: _keep(store, use_case, partition, name, rows) for name, rows in quarantined.items()}
    return store.commit(
        use_case=use_case.name,
        step=STEP,
        partition=partition,
        kind="curated",
        files={f"{name}.parquet": feed.rows for name, feed in published.items()},
        inputs={"landed": [landed], "profiled": [profiled], "validated": [validated]},
        metrics={
            "rows": {name: feed.rows.num_rows for name, feed in published.items()},
            "quarantined_rows": sum(rows.num_rows for rows in quarantined.values()),
            "quarantined": _reasons([feed.quarantine for feed in published.values()]),
            "warnings": _reasons([feed.warnings for feed in published.values()]),
            "exact_duplicates": {name: landing.metrics[name]["exact_duplicates"] for name in published},
            "quarantine_uris": uris,
        },
        rows=sum(feed.rows.num_rows for feed in published.values()),
    )


def _publish(store: ArtifactStore, feed: Feed, landing: Manifest, validation: Manifest) -> _Published:
    def rows_of(manifest: Manifest, folder: str) -> pa.Table:
        path = f"{folder}/{feed.name}.parquet"
        named = any(file.path == path for file in manifest.files)
        return store.read_table(manifest.ref, path) if named else QUARANTINE.empty_table()

    rows = store.read_table(landing.ref, f"{feed.name}.parquet")
    set_aside = rows_of(validation, "quarantine")
    if set_aside.num_rows:
        refused = set(zip(set_aside[LANDED_URI].to_pylist(), set_aside[LANDED_ROW].to_pylist(), strict=True))
        places = zip(rows[LANDED_URI].to_pylist(), rows[LANDED_ROW].to_pylist(), strict=True)
        rows = rows.filter(pa.array([place not in refused for place in places], pa.bool_()))
    return _Published(
        rows=published_columns(feed, rows).combine_chunks(),
        quarantine=gathered([rows_of(landing, "quarantine"), set_aside]),
        warnings=rows_of(validation, "warnings"),
    )


def _check_sums(use_case: UseCase, partition: date, name: str, feed: _Published, landing: Manifest) -> None:
    delivered, duplicates = landing.metrics[name]["delivered"], landing.metrics[name]["exact_duplicates"]
    rows, quarantined = feed.rows.num_rows, feed.quarantine.num_rows
    if delivered != rows + quarantined + duplicates:
        raise DataContractError(
            f"{use_case.name} {partition} {name}: {delivered} rows were delivered, but {rows} are to be published, "
            f"{quarantined} quarantined and {duplicates} are exact duplicates. Rows got lost on the way: "
            f"compare {landing.ref.uri} with the landed files."
        )


def _keep(store: ArtifactStore, use_case: UseCase, partition: date, name: str, rows: pa.Table) -> str:
    body = parquet_bytes(rows)
    key = f"quarantine/{use_case.name}/{name}/dt={partition}/{sha256_hex(body)[:16]}.parquet"
    store.put(key, body, immutable=True)
    return store.uri(key)


def _reasons(tables: list[pa.Table]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for table in tables:
        counts.update(reason_counts(table))
    return dict(sorted(counts.items()))
