"""Build the features of one partition and put them into the offline and the online store.

**build_features** computes every feature view in one pass over the curated partitions, strictly as of
the cutoff. **publish_features** audits them against the Feast definitions and makes them the offline
store's partition; training and predictions start then. **load_online** loads them into the online store,
which nothing in the night reads: if it fails, only it is red.

A partition that ingest rejected is left out. One that ingest never decided is waited for some minutes,
once, and then left out as well; `missing` in the manifest of build_features names them. To make it good, run
ingest for that partition and then this DAG for the ones after it. **record_failure** rejects a partition whose
features could not be built, so that later ones go on.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dagkit.assets import curated, features
from dagkit.defaults import dag_arguments
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "materialize", doc=__doc__),
        schedule=PartitionedAssetTimetable(assets=curated(use_case)),
    ):
        tasks = StageTasks(use_case, "materialize")
        tasks.add("publish_features", outlets=[features(use_case)])
        tasks.add_rest()
