"""Rebuild a past training or prediction from its manifests and compare, byte by byte.

Trigger it with a partition and what to rebuild. **replay** reads the inputs that the recorded artifacts name by
hash, runs the same steps with the same seeds, and says that all is identical, or names the first step that
differs and how, with the code and library versions that changed since. Nothing that counts is touched; a
difference is a finding, and leaves the run green.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import dag_arguments
from dagkit.forms import partition
from dagkit.runtime import filled_in, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "replay", doc=__doc__) | {"end_date": None, "is_paused_upon_creation": False},
        schedule=None,
        params={
            "partition": partition("It is the one that is rebuilt."),
            "what": Param(
                "training",
                type="string",
                enum=["training", "prediction"],
                title="What to rebuild",
                description="training: from the training set to the selected model. prediction: from the night's "
                "features to the audited scores.",
            ),
        },
    ) as dag:
        step(use_case, "replay", arguments=filled_in("what"))()
    globals()[dag.dag_id] = dag
