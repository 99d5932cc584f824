"""Review the specs on the labels known by now: promote or withdraw a challenger, confirm or roll back a champion.

**review** compares a challenger's live losses with those of its backtest, and a new champion's with the former
champion's. **advance** records the decision: canary, promoted, withdrawn, confirmed, rolled back, or awaiting
approval. **mirror_models** syncs MLflow's aliases; no other task depends on it.

If the use case's risks demand it, a person must approve a spec before it becomes champion. **approval_needed** skips
the rest if no approval is needed. **approve** waits for a response (shown in Airflow under "Required actions") without
occupying a worker; a timeout counts as a rejection. **record_approval** records the response or the timeout, and the
user. **record_failure** rejects a partition that could not be reviewed, so that the next one does not wait for it.

Approval, rejection and timeout are all successful runs. No other DAG waits for the response: the champion keeps
serving, and a pending approval that is too old is closed by a later review.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, PartitionedAssetTimetable, task

from dagkit.approval import APPROVE, REJECT, approval_arguments, evidence_for_approval
from dagkit.assets import features, history
from dagkit.defaults import NIGHTS_AT_ONCE, dag_arguments
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    policy = use_case.risk
    answer_within = timedelta(hours=policy.approval_hours)
    arguments = dag_arguments(use_case, "promote", doc=__doc__)
    with DAG(
        **arguments | {"dagrun_timeout": arguments["dagrun_timeout"] + answer_within},
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ):

        @task.short_circuit(task_id="approval_needed")
        def approval_needed(advanced: dict[str, object]) -> str:
            """The evidence for the approval; empty if none is needed, which skips the rest."""
            return evidence_for_approval(advanced)

        # Tasks are limited, not runs: a run that waits for a person stays active.
        tasks = StageTasks(use_case, "promote")
        tasks.add("review", max_active_tis_per_dag=NIGHTS_AT_ONCE)
        needed = approval_needed(tasks.add("advance"))
        approve = HITLOperator(
            task_id="approve",
            subject=f"{use_case.title}: may the challenger become champion after {{{{ dag_run.partition_key }}}}?",
            body="{{ ti.xcom_pull(task_ids='approval_needed') }}",
            options=[APPROVE, REJECT],
            # The result of a timeout. Without a default the task would fail and be retried, and a timeout could not be
            # distinguished from another failure.
            defaults=REJECT,
            response_timeout=answer_within,
            assigned_users=[{"id": user, "name": user} for user in policy.approvers] or None,
            doc_md="Waits until a person approves or rejects the spec, or the timeout.",
        )
        needed >> approve
        tasks.add("record_approval", arguments=approval_arguments, refs={"response": approve.output})
        tasks.add_rest()
