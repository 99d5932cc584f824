"""Record that a partition's training ended without a version, so that nothing waits for its decision."""

from __future__ import annotations

from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.deployment import Deployment
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase


def run(
    use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date, *, run_id: str = ""
) -> ArtifactRef:
    """Add a `failed` row to `deployments` unless the partition was decided already.

    Returns the ref of the record. Raises WarehouseUnavailable.
    """
    warehouse = Warehouse(settings, use_case)
    if not warehouse.training_decided(partition):
        warehouse.record_deployment(
            Deployment(
                partition=partition,
                action="failed",
                role="champion",
                model_version="none",
                reason={"why": "the training run failed; its failed task says why", "run_id": run_id},
                decided_by="record_failure",
            )
        )
    return store.commit(
        use_case=use_case.name,
        step="record_failure",
        partition=partition,
        kind="failed_training",
        files={},
        parameters={"run_id": run_id},
    )
