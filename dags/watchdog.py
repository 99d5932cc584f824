"""Check at the deadline that the day's predictions are published, and alert people if they are not.

**check_publication** looks in the warehouse for the publication of the partition whose deadline passed last. If there
is none, it sends an alert that says what each stage decided, and fails. It also sends the alerts that a receiver has
not accepted yet. It follows no other DAG: a stage that never started cannot fail, and would send no alert.

A use case that cannot be loaded has no DAGs, and no watchdog either: `nightshift.watchdog` is for all of them. Its
task **check_use_cases** fails each day, and sends an alert, while there is one.

A scheduler that does not run starts no watchdog either: let cron on another machine run `nightshift watchdog` as well.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, task

from dagkit.defaults import dag_arguments
from dagkit.watchdog import check_publication, check_use_cases
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    last = use_case.last_partition
    with DAG(
        **dag_arguments(use_case, "watchdog", doc=__doc__) | {"end_date": last and use_case.deadline_of(last)},
        schedule=CronTriggerTimetable(use_case.deadline_cron, timezone=use_case.timezone),
    ):

        @task(
            task_id="check_publication",
            retries=2,
            retry_delay=timedelta(minutes=1),
            doc_md="Fails if the predictions that are due are not published.",
        )
        def check(use_case_name: str) -> str:
            """Check the newest partition whose deadline has passed."""
            return check_publication(use_case_name)

        check(use_case.name)


with DAG(
    "nightshift.watchdog",
    description="Check that all use cases can be loaded.",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
    tags=["nightshift", "watchdog"],
):
    task(check_use_cases, execution_timeout=timedelta(minutes=10))()
