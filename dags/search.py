"""Search for better hyperparameters, within bounds, by hand or when drift asks for retraining.

**search_hyperparameters** goes on with the use case's study where the last search left off, until the trials
or the seconds of the use case's search policy (or of the form) are used up, and records the best settings
found. Nightly training refits with the best known settings; it never searches.

check_drift starts it with the partition whose drift asked for retraining.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, PartitionedAssetTimetable

from dagkit.assets import search_request
from dagkit.defaults import by_hand_arguments
from dagkit.forms import partition
from dagkit.runtime import filled_in, step
from nightshift.usecase import all_use_cases

LONGEST = timedelta(hours=5)

for use_case in all_use_cases():
    bounds = use_case.search
    with DAG(
        **by_hand_arguments(use_case, "search_hyperparameters", doc=__doc__) | {"is_paused_upon_creation": True},
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
                description=f"Time to spend, about. Left empty: {bounds.seconds:g}, as the use case declares.",
            ),
            "partition": partition("Its training set is searched on."),
        },
    ) as dag:
        step(
            use_case,
            "search_hyperparameters",
            arguments=filled_in("trials", "seconds"),
            execution_timeout=LONGEST,
        )()
    globals()[dag.dag_id] = dag
