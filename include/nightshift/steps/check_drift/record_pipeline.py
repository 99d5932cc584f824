"""Record how long the steps of a partition took, how much they wrote, and what its feeds delivered.

Artifact: `pipeline.parquet` and `feeds.parquet`, the rows of pipeline_daily and feeds_daily of the partition and of the
LOOK_BACK partitions before it. Those are recorded again: trainings end after the drift check of their partition, and a
rejected partition may have been made good. The same number of requests is made however long the history is.
"""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa

from nightshift.artifact import ArtifactRef, Decision, Manifest
from nightshift.core.monitoring.pipeline_records import Statuses, feed_rows, pipeline_rows
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.partitions import partition_range
from nightshift.pipeline import STAGES
from nightshift.steps.context import StepContext

STEP = "record_pipeline"
LOOK_BACK = 7

STEPS = [(stage.name, step.name) for stage in STAGES if stage.nightly for step in stage.own_steps if step.name != STEP]
"""All nightly steps but this one: a record of itself would differ each time."""


def run(context: StepContext) -> ArtifactRef:
    """Replace the rows of pipeline_daily and feeds_daily of the partitions and commit them.

    Steps that have no status yet have no row. Raises WarehouseUnavailable, StoreUnavailable.
    """
    use_case, store, partition, warehouse = context.use_case, context.store, context.partition, context.warehouse
    days = partition_range(max(partition - timedelta(days=LOOK_BACK), use_case.first_partition), partition)
    statuses: dict[date, Statuses] = {day: {} for day in days}
    pairs = [(day, stage, step) for day in days for stage, step in STEPS]
    found = in_parallel(lambda pair: _statuses(store, use_case.name, *pair), pairs)
    for (day, *_), of_step in zip(pairs, found, strict=True):
        statuses[day] = {**statuses[day], **of_step}
    tables: dict[str, list[pa.Table]] = {"pipeline_daily": [], "feeds_daily": []}
    recorded: list[ArtifactRef] = []
    for day, of_day in statuses.items():
        manifests = {step: manifest for (_, step, _), (_, manifest) in of_day.items() if manifest}
        recorded += [manifest.ref for _, manifest in of_day.values() if manifest]
        curated = manifests.get("publish")
        landed = store.manifest(curated.inputs["landed"][0]) if curated else manifests.get("land")
        steps, feeds = pipeline_rows(of_day), feed_rows(landed, curated)
        warehouse.replace_partition("pipeline_daily", day, steps)
        warehouse.replace_partition("feeds_daily", day, feeds)
        for name, table in (("pipeline_daily", steps), ("feeds_daily", feeds)):
            tables[name].append(table.append_column("partition", pa.array([day] * table.num_rows, pa.date32())))
    files = {f"{name.removesuffix('_daily')}.parquet": pa.concat_tables(each) for name, each in tables.items()}
    return context.commit(
        STEP,
        kind="pipeline",
        files=files,
        inputs={"recorded": recorded},
        rows=files["pipeline.parquet"].num_rows,
    )


def _statuses(store: ArtifactStore, use_case: str, day: date, stage: str, step: str) -> Statuses:
    """The statuses of a step in a partition, with the manifests of published artifacts."""

    def manifest(decision: Decision) -> Manifest | None:
        return store.manifest(decision.published) if decision.published else None

    return {
        (stage, step, variant): (decision, manifest(decision))
        for variant, decision in store.variants(use_case, step, day).items()
    }
