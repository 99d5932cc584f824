"""Fit new versions of the specs that serve or are scored, on everything known at the cutoff.

**append_training_rows** keeps the labels that the partition delivered, each with the features it was predicted with.
**build_training_set** lists the files of all training rows. **choose_specs** says which specs are fitted: champion,
challenger, watched former champion, fallback. For each of them **fit** fits on all rows and exports to ONNX, and
**verify** judges the version by every gate: runtime, parity, speed, memory, leakage, behaviour, and how far it moves
from the version it replaces. **register** records which versions serve or are scored from the next partition on.

A rejected version is recorded, not an error: the earlier version of its spec goes on. If **fit** or **verify** of one
spec fails, the versions of the others are registered, and **record_failure** records that one as failed; if there is
no version at all, it records the training as failed. Nothing waits for the model card (**report_training**) or for
MLflow (**track_training**).
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
