"""Review the specs on the labels known by now: a challenger's next step, or the champion's way back.

**review** compares a challenger's live losses with those of its backtest, and a fresh champion's with the former
champion's. **advance** records what follows: canary, champion, withdrawn, confirmed, rolled back; or that a person
is to approve. **mirror_models** lets MLflow's aliases follow; nothing waits for that.

Where the use case's risks demand it, a person must agree before a spec becomes champion. **approval_needed** skips
the rest if no approval is needed. **approve** waits for an answer (Airflow shows it under "Required actions") and holds
no worker while it does; without an answer in time, that counts as no. **record_approval** records the answer, or
that there was none, and who gave it.

All three answers leave the run green: they are decisions. It is red when something broke. Nothing waits for the
answer: the champion goes on, and a question that stays open for too long is closed by a later review.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, PartitionedAssetTimetable, task

from dagkit.approval import APPROVE, REJECT, answered, evidence_for_approval
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
            """Return the evidence for the person who is to approve; empty if none is needed: the rest is skipped."""
            return evidence_for_approval(advanced)

        # Not the runs: one that waits for a person stays active for as long as it takes.
        tasks = StageTasks(use_case, "promote")
        tasks.add("review", max_active_tis_per_dag=NIGHTS_AT_ONCE)
        needed = approval_needed(tasks.add("advance"))
        approve = HITLOperator(
            task_id="approve",
            subject=f"{use_case.title}: may the challenger become champion after {{{{ dag_run.partition_key }}}}?",
            body="{{ ti.xcom_pull(task_ids='approval_needed') }}",
            options=[APPROVE, REJECT],
            # What counts without an answer in time. With a default the task ends green and once only: one that
            # fails would be tried again, and a failure of another kind could not be told from no answer.
            defaults=REJECT,
            response_timeout=answer_within,
            assigned_users=[{"id": user, "name": user} for user in policy.approvers] or None,
            doc_md="Waits until a person approves or rejects the spec, or the time for an answer is up.",
        )
        needed >> approve
        tasks.add("record_approval", arguments=answered, refs={"response": approve.output})
        tasks.add_rest()
