"""Take the champion off and let the fallback answer, or put the champion back, by hand.

Trigger it with `state` on or off and a reason. **kill_switch** records the decision, who took it and why.
On: predictions for the partitions after the chosen one come from the fallback model, whatever is promoted
meanwhile. Off: they come from the champion there is by then. Turning on what is on changes nothing.

It refuses to turn on if there is no fallback model. A drill of it (`drill_kill_switch`) runs every week.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import by_hand_arguments
from dagkit.forms import partition, reason
from dagkit.runtime import filled_in, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "kill_switch", doc=__doc__),
        schedule=None,
        params={
            "state": Param(
                type="string",
                enum=["on", "off"],
                title="State",
                description="on: the fallback answers. off: the champion answers again.",
            ),
            "reason": reason("scores are near zero for a whole airline"),
            "partition": partition(),
        },
    ) as dag:
        step(use_case, "kill_switch", arguments=filled_in("state", "reason", signed=True))()
    globals()[dag.dag_id] = dag
