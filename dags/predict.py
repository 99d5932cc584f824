"""Score the next day with the champion's newest version and publish the predictions, exactly once.

**resolve_model** chooses the champion's newest version from an earlier partition, or the fallback's, and the shadow
versions. It waits about eight minutes for the training of the partition before, in a backfill an hour if
that one is under way, and for no older one.
**calibrate** fits an intercept on the log odds of each spec from its scores of recent partitions and the labels
known by now. **score** runs the versions in onnxruntime on the features their signatures name, and applies the
calibration; a canary scores its share of the rows. **audit** compares the scores with the schedule and with the
bounds of the audit policy. **publish_predictions** replaces the partition in the warehouse in one transaction.
**queue_reviews** puts the least certain predictions into the review queue; nothing waits for it.

If the audit fails nothing is published and the table does not change; the audit's artifact has the reasons.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dagkit.assets import features, predictions
from dagkit.defaults import NIGHTS_AT_ONCE, dag_arguments
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "predict", doc=__doc__) | {"max_active_runs": NIGHTS_AT_ONCE},
        schedule=PartitionedAssetTimetable(assets=features(use_case)),
    ):
        tasks = StageTasks(use_case, "predict")
        tasks.add("publish_predictions", outlets=[predictions(use_case)])
        tasks.add_rest()
