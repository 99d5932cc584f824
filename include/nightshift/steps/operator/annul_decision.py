"""Annul a decision that was taken by hand: it has no effect on later partitions.

Artifact: `annulment.json`.
"""

from __future__ import annotations

from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.annulment import decision_to_annul, described, first_affected
from nightshift.core.lifecycle.state import state_as_of
from nightshift.deployment import Deployment
from nightshift.services.manual_decisions import check_in_reach, make_known, recorded_by_this_run, stated
from nightshift.steps.context import StepContext


def run(context: StepContext, *, deployment_id: int, reason: str, decided_by: str) -> ArtifactRef:
    """Record that the decision `deployment_id` has no effect on partitions after `partition`; commit `annulment.json`.

    Partitions up to `partition` keep the state that they had. The annulment is an alert, and MLflow's aliases are
    synced. A retry in the same run continues where the earlier try stopped.

    Raises ConfigurationError if the use case has no such decision, if it is an annulment, was not taken by hand, or is
    annulled already; if the state stays as it is without it; or if the partition is later than the newest published.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    warehouse = context.warehouse
    check_in_reach(use_case, warehouse, partition)
    annulment = recorded_by_this_run(warehouse.decisions(), "annulled")
    changed = False
    if annulment is None:
        annulled = decision_to_annul(use_case.name, warehouse.decisions(), deployment_id)
        annulment = Deployment(
            partition=partition,
            action="annulled",
            role=annulled.role,
            spec_id=annulled.spec_id,
            model_version=annulled.model_version,
            annuls=deployment_id,
            reason=stated(reason) | {"annulled": described(annulled)},
            decided_by=decided_by,
        )
        changed = warehouse.record_deployment(annulment)
    decisions = warehouse.decisions()
    affected = first_affected(decisions, annulment) or partition + timedelta(days=1)
    primary = state_as_of(decisions, affected).primary
    serves = primary[1].model_version if primary else "nothing"
    what = annulment.reason["annulled"]
    return make_known(
        use_case, settings, store, warehouse, partition,
        f"decision {what} is annulled after partition {partition}; from {affected} on {serves} serves",
        changed=changed,
        effective=affected - timedelta(days=1),
        result={
            "deployment_id": deployment_id,
            "annulled": what,
            "serves": serves,
            "reason": reason,
            "decided_by": decided_by,
        },
        step="annul_decision",
        kind="annulment",
        inputs={"model": [primary[1].model] if primary else []},
        parameters={"deployment_id": deployment_id},
        variant=str(deployment_id),
    )  # fmt: skip
