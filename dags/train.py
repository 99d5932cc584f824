"""Fit new versions of the specs in use, on all training rows known at the cutoff.

**append_training_rows** writes the labels that the partition delivered, each with the features of its prediction.
**build_training_set** lists the files of all training rows. **choose_specs** chooses the specs to fit: champion,
challenger, watched former champion, fallback. For each of them **fit** fits on all rows and exports to ONNX, and
**verify** evaluates the version by every gate: runtime, parity, speed, memory, leakage, behaviour, and the change of
scores from the version it replaces. **register** records which versions are used from the next partition on.

A rejected version is recorded and is not an error: the earlier version of its spec stays in use. If **fit** or
**verify** of one spec fails, the versions of the others are registered, and **record_failure** records that one as
failed; if there is no version at all, it records the training as failed. No other task depends on the model card
(**report_training**) or on MLflow (**track_training**).
"""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dagkit.assets import features, history
from dagkit.defaults import NIGHTS_AT_ONCE, dag_arguments
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "train", doc=__doc__) | {"max_active_runs": NIGHTS_AT_ONCE},
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ):
        StageTasks(use_case, "train").add_rest()
