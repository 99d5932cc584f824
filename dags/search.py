"""Search for better model specs, weekly, by hand, or by a monitoring rule.

**study** searches hyperparameters on older rows. **plan_race** expands estimators, compression techniques and what
the study found into candidate specs; **race** fits all of them at weekly origins and scores the partitions that
follow, one task per origin. **select_candidates** compares them: quality is the objective, cost the
constraint. Only the Pareto front is fitted on all rows and verified in full (**fit**, **verify**: the steps of
train). **report_search** writes the page and the list of candidate specs; specs from it still have to pass a backtest.

check_drift requests a search on the use case's search weekday, and when a monitoring rule does.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, PartitionedAssetTimetable

from dagkit.assets import search_request
from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

LONGEST = timedelta(hours=5)

for use_case in all_use_cases():
    bounds = use_case.search
    with DAG(
        **by_hand_arguments(use_case, "search", doc=__doc__) | {"is_paused_upon_creation": True},
        schedule=PartitionedAssetTimetable(assets=search_request(use_case)),
        params={
            "trials": Param(
                None,
                type=["null", "integer"],
                minimum=1,
                title="Trials",
                description=f"Settings to try, at most. Left empty: {bounds.trials}, as the use case declares.",
            ),
            "seconds": Param(
                None,
                type=["null", "number"],
                minimum=1,
                maximum=LONGEST.total_seconds() / 2,
                title="Seconds",
                description=f"Time for the study, about. Left empty: {bounds.seconds:g}, as the use case declares.",
            ),
            "partition": partition("The search uses its training set."),
        },
    ):
        tasks = StageTasks(use_case, "search")
        tasks.add("study", arguments=filled_in("trials", "seconds"), execution_timeout=LONGEST)
        tasks.add_rest()
