"""Reject a partition of a stage whose run failed, so that later partitions are processed without it.

Artifact (variant: the stage): no files; `parameters` name the stage, the failed tasks and the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.lifecycle.specs import specs_to_fit
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.pipeline import find_stage
from nightshift.steps.context import StepContext

STEP = "record_failure"


def run(context: StepContext, *, stage: str, run_id: str, failed_tasks: Sequence[str]) -> ArtifactRef:
    """Reject the partition of the stage unless it has a status already.

    For train, add a `failed` row to deployments for each spec that has no version while others were registered or
    rejected, or, if there are none and the training is undecided, one `failed` row without a spec.

    A later run that succeeds replaces the status. Raises StoreUnavailable or WarehouseUnavailable.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    why = f"failed: task {', '.join(failed_tasks)}, run {run_id}"
    ref = context.commit(
        STEP,
        variant=stage,
        kind="failure",
        files={},
        parameters={"stage": stage, "run_id": run_id, "failed_tasks": sorted(failed_tasks)},
    )
    if decided_by := find_stage(stage).decided_by:
        rejected = Decision(status="rejected", ref=ref, reason=why)
        store.decide(use_case.name, decided_by, partition, rejected, only_if_undecided=True)
        return ref
    warehouse = context.warehouse
    if failed := _failed(use_case, warehouse, partition, {"why": why, "run_id": run_id}):
        warehouse.record_deployments(failed)
    return ref


def _failed(
    use_case: UseCase, warehouse: Warehouse, partition: date, reason: Mapping[str, str]
) -> Sequence[Deployment]:
    decisions = [one for one in warehouse.decisions() if one.partition == partition]
    decided = {one.spec_id for one in decisions if one.decided_by == "register"}
    training = Deployment(
        partition=partition,
        action="failed",
        role="champion",
        model_version="none",
        reason=reason,
        decided_by=STEP,
    )
    if not decided:
        return [] if warehouse.training_decided(partition) else [training]
    specs = specs_to_fit(warehouse.state_as_of(partition), use_case)
    return [
        training.model_copy(update={"role": role, "spec_id": spec.spec_id, "spec": spec})
        for spec, role in specs
        if spec.spec_id not in decided
    ]
