"""Annul a decision that was taken by hand, as if it had never been, for later partitions.

Trigger it with the number of the decision, as in the app (*Model*, *Decisions*) or in the column `deployment_id` of
`deployments`, and a reason. **annul_decision** records the annulment, who took it and why. Partitions up to the chosen
one keep what they were predicted with, also if they run again; its message names the first partition that it changes.

A rollback, the kill switch on or off, and a retirement can be annulled, for example one of a wrong date or a wrong
spec. Nothing is recorded, and the run fails, if the use case has no decision of that number, if a step or a rule took
it, if it is an annulment or annulled already, if it has no effect any more, or if the partition is later than the
newest published one.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition, reason
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "annul_decision", doc=__doc__),
        schedule=None,
        params={
            "deployment_id": Param(
                type="integer",
                minimum=1,
                title="Decision",
                description="The number of the decision, as in the app (Model, Decisions) or in `deployments`.",
            ),
            "reason": reason("the kill switch was turned on for the wrong use case"),
            "partition": partition("The decision has no effect on the partitions after it."),
        },
    ):
        StageTasks(use_case, "annul_decision").add(
            "annul_decision", arguments=filled_in("deployment_id", "reason", signed=True)
        )
