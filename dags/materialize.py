"""Build the features of one partition and put them into the offline and the online store.

**build_features** computes every feature view in one pass over the curated partitions, as of
the cutoff. **publish_features** audits them against the Feast definitions and publishes them to the offline
store; this triggers training and predictions. **load_online** loads them into the online store,
which no other task reads: its failure affects nothing else.

A partition that ingest rejected is left out. An undecided one is waited for once, for some minutes, and then
left out as well; `missing` in the manifest of build_features names them. To repair this, run ingest for that
partition and then this DAG for the ones after it. **record_failure** rejects a partition whose features could not be
built, so that later ones are processed.
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
