"""Rebuild a past training or prediction from what was recorded and compare, byte by byte.

Trigger it with a partition and what to rebuild. **reproduce** runs the same steps on the inputs that the recorded
artifacts name by hash, and says that all is identical, or names the first step that differs and how, with the code
and library versions that changed since. Nothing is written but the result; a difference leaves the run green.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "reproduce", doc=__doc__),
        schedule=None,
        params={
            "partition": partition("It is the one that is rebuilt."),
            "what": Param(
                "training",
                type="string",
                enum=["training", "prediction"],
                title="What to rebuild",
                description="training: from the training rows to the verified versions. prediction: from the features "
                "to the audited scores.",
            ),
        },
    ):
        StageTasks(use_case, "reproduce").add("reproduce", arguments=filled_in("what"))
