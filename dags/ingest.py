"""Land, profile, validate and publish one day of deliveries.

The only nightly DAG with a schedule of its own: at the cutoff it processes the partition of the day before.
Backfilling it backfills the whole chain, because the other DAGs are triggered by its assets.

**land** reads what producers delivered to `landing/<use case>/<feed>/dt=<partition>/`, or what another use case
predicted, checks its schema and types it. It waits over an hour for what is late. **profile** describes every
column. **validate** runs the Great Expectations suites: a failed critical expectation rejects the partition, other
invalid rows go to quarantine with their reasons. **publish** publishes the rows that passed as the curated partition.

If it fails: the message names the file, the column and examples. Have the file delivered again (or
fixed in place) and clear the failed task. **record_failure** rejects a partition that could not be ingested, so that
later ones are processed without it; a later successful run replaces that status.

**catch_up** looks back a week. Partitions that were left undecided, or that failed, are ingested again by
**run_missed** if their delivery is there, at most twice, and only in scheduled runs; the other DAGs follow. Deliveries
that changed after they were landed, and later partitions whose features lack an earlier one, are listed in its
artifact. **record_performance** records the outcomes that were delivered. No other task depends on these three.
"""

from typing import Any

from airflow.sdk import DAG, CronPartitionTimetable, task

from dagkit.assets import curated, upstream_predictions
from dagkit.defaults import TASK_LIMIT, dag_arguments
from dagkit.history import of_scheduled_run, run_missed_partitions
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases
from nightshift.documents.ingest import LOOKED_BACK_DAYS

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "ingest", doc=__doc__),
        schedule=CronPartitionTimetable(
            use_case.cron, timezone=use_case.timezone, run_offset=-1, key_format="%Y-%m-%d"
        ),
    ):
        tasks = StageTasks(use_case, "ingest")
        tasks.add("land", inlets=upstream_predictions(use_case))
        tasks.add("publish", outlets=[curated(use_case)])
        caught_up = tasks.add("catch_up", arguments=of_scheduled_run)

        @task(task_id="run_missed", outlets=[curated(use_case)], execution_timeout=TASK_LIMIT * LOOKED_BACK_DAYS)
        def run_missed(use_case_name: str, caught_up: dict[str, Any]) -> dict[str, Any]:
            """Ingest the partitions again that `catch_up` lists; skipped if there are none."""
            return run_missed_partitions(use_case_name, caught_up)

        run_missed(use_case.name, caught_up)
        tasks.add_rest()
