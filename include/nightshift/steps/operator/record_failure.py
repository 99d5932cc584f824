"""Decide a partition of a stage whose run failed, so that later partitions go on without it.

Artifact (variant: the stage): no files; `parameters` name the stage, the failed tasks and the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from nightshift.artifact import ArtifactRef, Decision
from nightshift.deployment import Deployment
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.pipeline import find_stage
from nightshift.settings import Settings
from nightshift.usecase import UseCase

STEP = "record_failure"


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    stage: str,
    run_id: str,
    failed_tasks: Sequence[str],
) -> ArtifactRef:
    """Reject the partition of the stage unless it has a status already; for train, add a `failed` row.

    A later run that succeeds replaces the status. Raises StoreUnavailable or WarehouseUnavailable.
    """
    why = f"failed: task {', '.join(failed_tasks)}, run {run_id}"
    ref = store.commit(
        use_case=use_case.name,
        step=STEP,
        partition=partition,
        variant=stage,
        kind="failure",
        files={},
        parameters={"stage": stage, "run_id": run_id, "failed_tasks": sorted(failed_tasks)},
    )
    if decided_by := find_stage(stage).decided_by:
        rejected = Decision(status="rejected", ref=ref, reason=why)
        store.decide(use_case.name, decided_by, partition, rejected, only_if_undecided=True)
        return ref
    warehouse = Warehouse(settings, use_case)
    if not warehouse.training_decided(partition):
        warehouse.record_deployment(
            Deployment(
                partition=partition,
                action="failed",
                role="champion",
                model_version="none",
                reason={"why": why, "run_id": run_id},
                decided_by=STEP,
            )
        )
    return ref
