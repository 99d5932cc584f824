"""Compare a partition's deliveries, features, scores and known outcomes with those of the partitions before it.

**record_performance** fills `outcomes` and `performance_daily` (of every day that labels were delivered for, also late
ones, and by slice). **compare_drift** compares statistics of the last 1, 7 and 28 days with their range in the days
before, column by column, and sums up residuals and losses. **report_drift** writes the HTML report. **record_drift**
fills `drift_daily`. **apply_rules** evaluates the use case's monitoring rules, alerts people, turns on the kill switch
where a rule says so, and fills `rules_daily`, from which `promote` reads whether promotions are held.
**request_search** requests a search for better specs on the use case's search weekday and when a rule does, at most
once in seven partitions; otherwise it is skipped. **record_pipeline** fills `pipeline_daily` (seconds, tries, rows and
bytes of each step) and `feeds_daily` of the last eight partitions.

Drift is a result, not a failure: this DAG fails only if the comparison could not be made.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from dagkit.assets import predictions, search_request
from dagkit.defaults import dag_arguments
from dagkit.steps import StageTasks, skip_unless_search_is_due
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "check_drift", doc=__doc__),
        schedule=PartitionedAssetTimetable(assets=predictions(use_case)),
    ):

        @task(task_id="request_search", outlets=[search_request(use_case)])
        def request_search(use_case_name: str, applied_rules: dict[str, object]) -> None:
            """Request a search for this partition on the search weekday or if a rule requests one."""
            skip_unless_search_is_due(use_case_name, applied_rules)

        tasks = StageTasks(use_case, "check_drift")
        tasks.add_rest()
        request_search(use_case.name, tasks.tasks["apply_rules"])
