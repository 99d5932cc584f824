"""Compare the night's features, scores and labels with what the model was trained on.

**compare_drift** measures data, prediction and label drift against thresholds that come from resampled
blocks of the reference's own days. **report_drift** writes the HTML report. **record_drift** fills
`drift_daily`, `performance_daily` and `outcomes`, and raises the alert or asks for retraining.

Drift is a finding, not a failure: this DAG is red only when it could not look.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dagkit.assets import predictions
from dagkit.defaults import dag_arguments
from dagkit.runtime import step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "check_drift", doc=__doc__),
        schedule=PartitionedAssetTimetable(assets=predictions(use_case)),
    ) as dag:
        compared = step(use_case, "compare_drift")()
        reported = step(use_case, "report_drift")(drift=compared)
        step(use_case, "record_drift")(drift=compared, report=reported)
    globals()[dag.dag_id] = dag
