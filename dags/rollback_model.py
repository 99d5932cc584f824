"""Put an earlier champion back in charge, by hand.

Trigger it with a reason. Without a model version the newest earlier champion takes over; the model it replaces
is not promoted again by itself. **rollback_model** records the decision, who took it and why; predictions for
the partitions after the chosen one come from the model that is back. With `switch_published`, the night that
is published already is switched too, from the scores that were stored when both models were asked: nothing
is scored anew.

It refuses, and records nothing, if there is no earlier champion, if the version is none or was retired, or if
another decision changed the champion meanwhile.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import by_hand_arguments
from dagkit.forms import optional_model_version, partition, reason
from dagkit.runtime import filled_in, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "rollback_model", doc=__doc__),
        schedule=None,
        params={
            "reason": reason("late flights are missed since the champion of Tuesday"),
            "to_version": optional_model_version(
                "The earlier champion to go back to, as in `deployments`. Left empty: the newest one."
            ),
            "switch_published": Param(
                False,
                type="boolean",
                title="Switch the published night, too",
                description="Also answer the night that is published already from the model that is back, if its "
                "scores of that night were stored.",
            ),
            "partition": partition(),
        },
    ) as dag:
        given = filled_in("reason", "to_version", "switch_published", signed=True)
        step(use_case, "rollback_model", arguments=given)()
    globals()[dag.dag_id] = dag
