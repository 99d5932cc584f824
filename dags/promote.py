"""Judge the model on trial by the night's labels: let it go on, make it champion, or take it back.

**judge_trial** compares the challenger with the model that serves, night by night, on outcomes that have
matured. **advance_model** records what follows: from shadow to canary, from canary to champion, withdrawn, or,
for a fresh champion that does worse than its predecessor, rolled back. **mirror_models** lets MLflow's aliases
follow; nothing waits for that.

Where the use case's risks demand it, a person must agree before a model becomes champion. **approval_needed**
skips the rest if nobody is to be asked. **approve** waits for an answer (Airflow shows it under "Required
actions") and holds no worker while it does; if nobody answers in time, that counts as no. **record_approval**
records approval, refusal or silence, and who it was.

All three answers leave the run green: they are decisions. It is red when something broke. A challenger that
waits for an answer holds up nobody: the champion goes on.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, PartitionedAssetTimetable, task

from dagkit.assets import features, history
from dagkit.defaults import NIGHTS_AT_ONCE, RETRIES_IN_LINE, dag_arguments
from dagkit.runtime import APPROVE, REJECT, answered, evidence_for_approval, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    policy = use_case.risk
    answer_within = timedelta(hours=policy.approval_hours)
    arguments = dag_arguments(use_case, "promote", doc=__doc__)
    with DAG(
        **arguments | {"dagrun_timeout": arguments["dagrun_timeout"] + answer_within},
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ) as dag:

        @task.short_circuit(task_id="approval_needed")
        def approval_needed(use_case_name: str, advanced: dict[str, object]) -> str:
            """Return the evidence for the person who is to be asked; empty, and the rest is skipped, if nobody is."""
            return evidence_for_approval(use_case_name, advanced)

        judged = step(
            use_case,
            "judge_trial",
            on_last_try={"allow_undecided": True},
            # Not the runs: one that waits for a person stays active for as long as it takes.
            max_active_tis_per_dag=NIGHTS_AT_ONCE,
            **RETRIES_IN_LINE,
        )()
        advanced = step(use_case, "advance_model")(judged=judged)
        step(use_case, "mirror_models")(advanced=advanced)
        needed = approval_needed(use_case.name, advanced)
        approve = HITLOperator(
            task_id="approve",
            subject=f"{use_case.title}: may the model on trial become champion after {{{{ dag_run.partition_key }}}}?",
            body="{{ ti.xcom_pull(task_ids='approval_needed') }}",
            options=[APPROVE, REJECT],
            # What counts if nobody answers in time. With a default the task ends green and once only: one that
            # fails would be tried again, and a failure of another kind could not be told from silence.
            defaults=REJECT,
            response_timeout=answer_within,
            assigned_users=[{"id": user, "name": user} for user in policy.approvers] or None,
            doc_md="Waits until a person approves or rejects the model, or the time for an answer is up.",
        )
        needed >> approve
        step(use_case, "record_approval", arguments=answered)(advanced=advanced, response=approve.output)
    globals()[dag.dag_id] = dag
