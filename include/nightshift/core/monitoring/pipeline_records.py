"""What the manifests of a partition say about the pipeline: rows of pipeline_daily and feeds_daily."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime

import pyarrow as pa

from nightshift.artifact import Decision, Manifest
from nightshift.documents.ingest import LandedFeed

PIPELINE_SCHEMA = pa.schema(
    [
        pa.field("stage", pa.string()),
        pa.field("step", pa.string()),
        pa.field("variant", pa.string()),
        pa.field("status", pa.string()),
        pa.field("started_at", pa.timestamp("us", "UTC")),
        pa.field("seconds", pa.float64()),
        pa.field("tries", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("dag_id", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("artifact_uri", pa.string()),
    ]
)
"""Columns of pipeline_daily but `partition`."""

FEEDS_SCHEMA = pa.schema(
    [
        pa.field("feed", pa.string()),
        pa.field("delivery", pa.date32()),
        pa.field("files", pa.int64()),
        pa.field("delivered", pa.int64()),
        pa.field("duplicates", pa.int64()),
        pa.field("published", pa.int64()),
        pa.field("quarantined", pa.int64()),
        pa.field("bytes", pa.int64()),
    ]
)
"""Columns of feeds_daily but `partition`."""

Statuses = Mapping[tuple[str, str, str], tuple[Decision, Manifest | None]]
"""By stage, step and variant: the status, and the manifest of a published artifact."""

_DELIVERY = re.compile(r"/dt=(\d{4}-\d{2}-\d{2})/")


def pipeline_rows(statuses: Statuses) -> pa.Table:
    """Rows of pipeline_daily (PIPELINE_SCHEMA), in the order of `statuses`.

    A rejected variant of a step (a month of training rows that will be written again) has no row.
    """
    rows = []
    for (stage, step, variant), (_, manifest) in statuses.items():
        key: dict[str, object] = {"stage": stage, "step": step, "variant": variant}
        if manifest is not None:
            rows.append(key | _measured(manifest))
        elif not variant:
            rows.append(key | {"status": "rejected"})
    return pa.Table.from_pylist(rows, schema=PIPELINE_SCHEMA)


def _measured(manifest: Manifest) -> dict[str, object]:
    attempt = manifest.attempt
    return {
        "status": "published",
        "started_at": datetime.fromisoformat(attempt.started_at) if attempt.started_at else None,
        "seconds": attempt.seconds,
        "tries": attempt.try_number,
        "rows": manifest.ref.rows,
        "bytes": sum(file.bytes for file in manifest.files),
        "dag_id": attempt.dag_id,
        "run_id": attempt.run_id,
        "artifact_uri": manifest.ref.uri,
    }


def feed_rows(landed: Manifest | None, curated: Manifest | None) -> pa.Table:
    """Rows of feeds_daily (FEEDS_SCHEMA) from the manifests of `land` and `publish`, in the order of the feeds.

    Without `landed` there are none; without `curated` the numbers of published and quarantined rows are null. `publish`
    checks that no row gets lost, so the quarantined ones are those neither published nor exact duplicates.
    """
    rows = []
    for feed, metrics in (landed.metrics if landed else {}).items():
        numbers = LandedFeed.model_validate(metrics)
        uris = [ref.uri for ref in landed.inputs.get(feed, ())] if landed else []
        published = None if curated is None else int(curated.metrics["rows"][feed])
        rows.append(
            {
                "feed": feed,
                "delivery": _newest_delivery(uris),
                "files": len(uris),
                "delivered": numbers.delivered,
                "duplicates": numbers.exact_duplicates,
                "published": published,
                "quarantined": None if published is None else numbers.delivered - numbers.exact_duplicates - published,
                "bytes": numbers.bytes,
            }
        )
    return pa.Table.from_pylist(rows, schema=FEEDS_SCHEMA)


def _newest_delivery(uris: Iterable[str]) -> date | None:
    days = [match[1] for uri in uris if (match := _DELIVERY.search(uri))]
    return date.fromisoformat(max(days)) if days else None
