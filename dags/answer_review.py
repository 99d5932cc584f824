"""Answer a prediction in the review queue, by hand.

Trigger it with the key of a prediction in `review_queue` and its label, 0 or 1. **answer_review** records the answer
with the user. It is the label of a training row of the partition after `partition`, unless one was or will be
delivered.

The run fails if the prediction is not in the queue, or if the training rows of that partition are written already.
"""

from airflow.sdk import DAG, Param

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    columns = ", ".join(column.name for column in use_case.prediction_key)
    with DAG(
        **by_hand_arguments(use_case, "answer_review", doc=__doc__),
        schedule=None,
        params={
            "key": Param(
                type="array",
                items={"type": "string"},
                minItems=len(use_case.prediction_key),
                maxItems=len(use_case.prediction_key),
                title="Key",
                description=f"The values of {columns}, a line each.",
            ),
            "answer": Param(type="integer", enum=[0, 1], title="Answer", description=f"The value of {use_case.label}."),
            "partition": partition("The answer is known from the partition after it on."),
        },
    ):
        StageTasks(use_case, "answer_review").add("answer_review", arguments=filled_in("key", "answer", signed=True))
