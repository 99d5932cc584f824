"""Build the features of one partition and put them into the offline and the online store.

**build_features** computes every feature view in one pass over the curated partitions, strictly as of
the cutoff. **publish_features** audits them against the Feast definitions and makes them the offline
store's partition. **load_online** materializes them into the online store.

If it waits: a step that lacks an earlier partition says which one and tries again; backfill that
partition of the ingest DAG. A partition that ingest refused is left out, not waited for.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dagkit.assets import curated, features
from dagkit.defaults import RETRIES_WAITING, dag_arguments
from dagkit.runtime import step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "materialize", doc=__doc__),
        schedule=PartitionedAssetTimetable(assets=curated(use_case)),
    ) as dag:
        built = step(use_case, "build_features", **RETRIES_WAITING)()
        published = step(use_case, "publish_features")(features=built)
        step(use_case, "load_online", outlets=[features(use_case)])(published=published)
    globals()[dag.dag_id] = dag
