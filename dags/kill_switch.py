"""Turn the kill switch on or off by hand: on, the fallback serves instead of the champion.

Trigger it with `state` on or off and a reason. **kill_switch** records the decision, who took it and why.
On: the partitions after the chosen one are predicted by the newest version of the fallback, even if a spec is promoted
meanwhile. Off: by the current champion. Setting the present state again changes nothing.

Nothing is recorded, and the run fails, if the fallback has no version or if the partition is later than the newest
published one.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition, reason
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "kill_switch", doc=__doc__),
        schedule=None,
        params={
            "state": Param(
                type="string",
                enum=["on", "off"],
                title="State",
                description="on: the fallback serves. off: the champion serves again.",
            ),
            "reason": reason("scores are near zero for a whole airline"),
            "partition": partition(),
        },
    ):
        StageTasks(use_case, "kill_switch").add("kill_switch", arguments=filled_in("state", "reason", signed=True))
