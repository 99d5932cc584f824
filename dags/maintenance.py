"""Delete what interrupted commits left behind in the object store, once a week.

**sweep_orphans** looks for files of artifacts whose manifest was never written, all older than `days`. What a manifest
names is never one of them, nor is an artifact that a status, a publication or a decision names. A scheduled run deletes
them. A run that is triggered by hand lists them in its log, unless `delete` is set.

Do not backfill partitions older than `days` meanwhile: a step that is run again keeps a file that is there already. If
it is deleted before its manifest is written, the next step fails with NS-STORE-018; run the first again.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from dagkit.defaults import dag_arguments
from dagkit.maintenance import sweep_orphans
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "maintenance", doc=__doc__) | {"end_date": None, "max_active_runs": 1},
        schedule=CronTriggerTimetable("0 12 * * 0", timezone=use_case.timezone),
        params={
            "days": Param(
                30, type="integer", minimum=7, title="Days", description="Files written in these last days are kept."
            ),
            "delete": Param(
                False, type="boolean", title="Delete", description="Delete them. A scheduled run always does."
            ),
        },
    ):

        @task(
            task_id="sweep_orphans",
            execution_timeout=timedelta(hours=3),
            doc_md="Deletes the files of artifacts whose manifest was never written.",
        )
        def sweep(use_case_name: str) -> str:
            """Delete orphans; by hand, list them."""
            return sweep_orphans(use_case_name)

        sweep(use_case.name)
