"""Rehearse the kill switch every week: does the fallback really answer?

**drill_kill_switch** turns the switch on in a transaction that is undone, checks that the fallback would answer
the next partition, loads it, has it score the newest published night, checks the answers, turns the switch off
again and checks that the model of before is back. Nothing that serves is touched. Its report is `drill.html`;
if a check fails, an alert is sent and the run is red.

It runs by the calendar, also when no new data comes in: what is rehearsed is the newest published night.
Before anything was published it is skipped.
"""

from airflow.sdk import DAG, CronTriggerTimetable

from dagkit.defaults import by_hand_arguments
from dagkit.forms import partition
from dagkit.runtime import step
from nightshift.usecase import all_use_cases

WEEKLY = "0 10 * * 1"
"""Monday at ten, when there is somebody to look at an alert."""

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "drill_kill_switch", doc=__doc__) | {"is_paused_upon_creation": True},
        schedule=CronTriggerTimetable(WEEKLY, timezone=use_case.timezone),
        params={"partition": partition("It is the night that the fallback scores.")},
    ) as dag:
        step(use_case, "drill_kill_switch")()
    globals()[dag.dag_id] = dag
