"""Rebuild a past training or prediction from its recorded inputs and compare the artifacts byte by byte.

Trigger it with a partition and what to rebuild. **reproduce** runs the same steps on the inputs that the recorded
artifacts name by hash. It reports that all artifacts are identical, or the first step that differs and how, with the
code and library versions that changed since. Only the result is written; a difference is not a failure of the run.
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
            "partition": partition("This partition is rebuilt."),
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
