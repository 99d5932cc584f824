"""Load many past partitions of data, features and training rows, and start one training.

Run it by hand, once, with `first` and `last`: days are ingested, then materialized, then their training rows kept, in
chunks side by side, by the same steps as every night. It ends by telling train about the last partition, whose
training registers the first champion and the fallback. No predictions are made for the past: no model existed then.

A day whose data is rejected is noted in the task's result and left out; the rest is loaded.
"""

from airflow.sdk import DAG, Param, task

from dagkit.assets import history
from dagkit.defaults import by_hand_arguments
from dagkit.runtime import APPEND, INGEST, MATERIALIZE, announce_history, plan_history, run_history_chunk
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "backfill_history", doc=__doc__),
        schedule=None,
        params={
            "first": Param(use_case.first_partition.isoformat(), type="string", format="date"),
            "last": Param(type="string", format="date", description="the last past partition, included"),
        },
    ) as dag:
        name = use_case.name

        @task(task_id="plan_history")
        def plan() -> list[list[str]]:
            """Cut the range into chunks, one mapped task each."""
            return plan_history()

        @task(
            task_id="ingest_history",
            map_index_template="{{ map_name }}",
            doc_md="Runs the steps of ingest on every partition of a chunk, in one process.",
        )
        def ingest_chunk(chunk: list[str], use_case_name: str) -> dict[str, object]:
            """Ingest every partition of a chunk."""
            return run_history_chunk(use_case_name, INGEST, chunk)

        @task(
            task_id="materialize_history",
            map_index_template="{{ map_name }}",
            doc_md="Builds and publishes the features of every partition of a chunk, in one process.",
        )
        def materialize_chunk(chunk: list[str], use_case_name: str) -> dict[str, object]:
            """Build and publish the features of every partition of a chunk."""
            return run_history_chunk(use_case_name, MATERIALIZE, chunk)

        @task(
            task_id="append_history",
            map_index_template="{{ map_name }}",
            doc_md="Keeps the training rows that every partition of a chunk delivered, in one process.",
        )
        def append_chunk(chunk: list[str], use_case_name: str) -> dict[str, object]:
            """Keep the training rows of every partition of a chunk; they need the features of the day before."""
            return run_history_chunk(use_case_name, APPEND, chunk)

        @task(task_id="announce_history", outlets=[history(use_case)])
        def announce(use_case_name: str) -> str:
            """Tell train that the history up to its last partition is there."""
            return announce_history(use_case_name)

        chunks = plan()
        ingested = ingest_chunk.partial(use_case_name=name).expand(chunk=chunks)
        materialized = materialize_chunk.partial(use_case_name=name).expand(chunk=chunks)
        appended = append_chunk.partial(use_case_name=name).expand(chunk=chunks)
        ingested >> materialized >> appended >> announce(name)
    globals()[dag.dag_id] = dag
