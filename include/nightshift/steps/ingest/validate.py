"""Run the Great Expectations suites over the landed tables.

Artifact: `results/<feed>.json`, `data_docs/*.html` (open index.html), and if there are any
`quarantine/<feed>.parquet` (rows to remove, with all reasons) and `warnings/<feed>.parquet`
(rows with warnings, which are kept), both in the QUARANTINE schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.ingest.quarantine import QUARANTINE, set_aside
from nightshift.core.parquet_file import row_batches, write_parquet
from nightshift.declare.feeds import Severity
from nightshift.documents.ingest import Landed
from nightshift.errors import DataContractError
from nightshift.io.expectation_arguments import suite_parameters
from nightshift.io.expectations import Verdict, examine, render_data_docs
from nightshift.services.curated import STEP as PUBLISH
from nightshift.services.curated import rejecting
from nightshift.services.upstream import degraded_feeds
from nightshift.steps.context import StepContext

STEP = "validate"
_FOLDERS: dict[str, Severity] = {"quarantine": "quarantine", "warnings": "warning"}


def run(context: StepContext, *, landed: ArtifactRef) -> ArtifactRef:
    """Validate all feeds of the landed artifact but degraded ones, which are without rows by declaration.

    Raises DataContractError if a critical expectation fails, after results and Data Docs are written and the partition
    is rejected with them as evidence; Superseded, having decided nothing, if the partition was landed again.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    replaces = context.status_tag(PUBLISH)
    context.check_current("land", landed)
    left_out = degraded_feeds(store.read_document(landed, Landed).feeds)
    with ExitStack() as stack:
        tables = {
            feed.name: pq.ParquetFile(stack.enter_context(store.opened(landed, f"{feed.name}.parquet")))
            for feed in use_case.feeds
        }
        parameter = suite_parameters(use_case, partition, lambda feed, column: _distinct(tables[feed], column))
        verdicts = [
            examine(use_case, feed, tables[feed.name], parameter)
            for feed in use_case.feeds
            if feed.name not in left_out
        ]
        files: dict[str, bytes | Path] = {
            f"results/{verdict.feed}.json": json.dumps(verdict.json, indent=1, sort_keys=True).encode()
            for verdict in verdicts
        }
        pages = render_data_docs(f"{use_case.title}: {partition}", verdicts)
        files |= {f"data_docs/{path}": page for path, page in pages.items()}
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        for folder, severity in _FOLDERS.items():
            for verdict in verdicts:
                if verdict.rows(severity):
                    rows = _set_aside(tables[verdict.feed], verdict, severity)
                    path = scratch / f"{severity}-{verdict.feed}"
                    write_parquet(path, QUARANTINE, rows)
                    files[f"{folder}/{verdict.feed}.parquet"] = path
        with rejecting(store, use_case, partition, replaces=replaces) as evidence:
            evidence.ref = context.commit(
                STEP,
                kind="validation",
                files=files,
                inputs={"landed": [landed]},
                metrics={verdict.feed: _metrics(verdict) for verdict in verdicts},
                rows=landed.rows,
            )
            breaches = [f"{one.feed}: {finding}" for one in verdicts for finding in one.breached("critical")]
            if breaches:
                raise DataContractError(
                    "NS-CURATE-011",
                    f"{use_case.name} {partition} was rejected. {'; '.join(breaches)}. See {evidence.ref.uri}results/ "
                    "and data_docs/; have the producer deliver again, then run ingest again.",
                )
            return evidence.ref


def _distinct(rows: pq.ParquetFile, column: str) -> pa.Array:
    """The different values of a column, ascending."""
    values = rows.read([column])[column].drop_null().unique()
    return values.take(pc.array_sort_indices(values))


def _set_aside(rows: pq.ParquetFile, verdict: Verdict, severity: Severity) -> Iterator[pa.Table]:
    """The rows that have reasons of that severity, as QUARANTINE tables."""
    first = 0
    for batch in row_batches(rows):
        reasons = verdict.reasons(severity, first, first + batch.num_rows)
        if reasons:
            positions = pa.array([position - first for position in reasons], pa.int64())
            found = pa.Table.from_batches([batch.take(positions)])
            yield set_aside(found, list(reasons.values()), step=STEP)
        first += batch.num_rows


def _metrics(verdict: Verdict) -> dict[str, list[str] | dict[str, int | str]]:
    return {
        "critical": [str(finding) for finding in verdict.breached("critical")],
        "quarantine": {f.expectation.reason: f.unexpected for f in verdict.breached("quarantine")},
        "warning": {f.expectation.reason: f.unexpected or f.observed for f in verdict.breached("warning")},
    }
