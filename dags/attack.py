"""Attack a spec and measure what the attacks achieve against declared bounds: weekly, by hand, before a nomination.

**attack** fits the spec on half of the newest training rows and measures evasion by feasible changes, a back door,
flipped labels, extraction by a number of queries, and membership inference (see docs/security.md). It leaves a page
and gate results; a champion that fails a bound which the declared risks demand is an alert.

It runs with each request for a search, unless it is paused. A backtest that nominates attacks its challengers by the
same step.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, PartitionedAssetTimetable

from dagkit.assets import search_request
from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "attack", doc=__doc__) | {"is_paused_upon_creation": True},
        schedule=PartitionedAssetTimetable(assets=search_request(use_case)),
        params={
            "spec": Param(
                None,
                type=["null", "string"],
                title="Spec",
                description="Name or id, or one spec as JSON. Left empty: the champion.",
            ),
            "partition": partition("Training rows known by then are used."),
        },
    ):
        StageTasks(use_case, "attack").add("attack", arguments=filled_in("spec"), execution_timeout=timedelta(hours=2))
