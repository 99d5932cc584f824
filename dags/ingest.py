"""Land, profile, validate and publish one day of deliveries.

The only scheduled DAG: every night at the cutoff it processes the partition of the day before.
Backfilling it backfills the whole chain, because the other DAGs are triggered by its assets.

**land** reads what producers delivered to `landing/<use case>/<feed>/dt=<partition>/`, or what another use case
predicted, checks its schema and types it. It waits over an hour for what is late. **profile** describes every
column. **validate** runs the Great Expectations suites: a failed critical expectation rejects the partition, other
invalid rows go to quarantine with their reasons. **publish** publishes the rows that passed as the curated partition.

If it fails: the message names the file, the column and examples. Have the file delivered again (or
fixed in place) and clear the failed task. **record_failure** rejects a partition that could not be ingested, so that
later ones are processed without it; a later successful run replaces that status.
"""

from airflow.sdk import DAG, CronPartitionTimetable

from dagkit.assets import curated, upstream_predictions
from dagkit.defaults import dag_arguments
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

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
        tasks.add_rest()
