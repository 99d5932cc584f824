"""Make a former champion spec champion again, by hand.

Trigger it with a reason. Without a spec the newest former champion is restored. **rollback_model** records the
decision, who took it and why; the partitions after the chosen one are predicted by the newest version of the restored
spec, which is trained every night from then on.

Nothing is recorded, and the run fails, if there is no former champion, if the spec was none or was retired, if the
partition is later than the newest published one, or if another decision changed the champion meanwhile.
"""

from airflow.sdk import DAG

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, optional_spec, partition, reason
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "rollback_model", doc=__doc__),
        schedule=None,
        params={
            "reason": reason("late flights are missed since the champion of Tuesday"),
            "to_spec": optional_spec(
                "Id of the former champion spec to go back to, as in `deployments`. Left empty: the newest one."
            ),
            "partition": partition(),
        },
    ):
        StageTasks(use_case, "rollback_model").add(
            "rollback_model", arguments=filled_in("reason", "to_spec", signed=True)
        )
