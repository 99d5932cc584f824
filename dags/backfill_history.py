"""Load many past partitions of data, features and training rows, and start one training.

Run it once by hand with `first` and `last`: partitions are ingested and materialized and their training rows written,
in parallel chunks, by the same steps as in the nightly runs. At the end it triggers train for the last partition,
which registers the first champion and the fallback. No predictions are made for past partitions: no model existed
then.

A partition whose data is rejected is listed in the task's result and left out; the others are loaded.
"""

from typing import Any

from airflow.sdk import DAG, Param, task

from dagkit.assets import history
from dagkit.defaults import by_hand_arguments
from dagkit.history import announce_history, plan_history, run_history_chunk
from nightshift.declare.discovery import all_use_cases
from nightshift.declare.use_case import UseCase


def on_chunks(use_case: UseCase, chunks: Any, task_id: str, stage: str, doc: str) -> Any:
    """A mapped task that runs a stage on every partition of each chunk, a chunk in one process."""

    @task(task_id=task_id, map_index_template="{{ map_name }}", doc_md=doc)
    def run_chunk(chunk: list[str]) -> dict[str, object]:
        return run_history_chunk(use_case, stage, chunk)

    return run_chunk.expand(chunk=chunks)


for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "backfill_history", doc=__doc__),
        schedule=None,
        params={
            "first": Param(use_case.first_partition.isoformat(), type="string", format="date"),
            "last": Param(type="string", format="date", description="the last past partition, included"),
        },
    ):

        @task(task_id="plan_history")
        def plan() -> list[list[str]]:
            """Split the range into chunks, one mapped task each."""
            return plan_history()

        @task(task_id="announce_history", outlets=[history(use_case)])
        def announce(use_case_name: str) -> str:
            """Trigger train for the last partition of the history."""
            return announce_history(use_case_name)

        chunks = plan()
        ingested = on_chunks(use_case, chunks, "ingest_history", "ingest", "Ingests every partition of a chunk.")
        materialized = on_chunks(
            use_case, chunks, "materialize_history", "materialize", "Builds and publishes the features of a chunk."
        )
        appended = on_chunks(
            use_case, chunks, "append_history", "train", "Writes the training rows that a chunk delivered."
        )
        ingested >> materialized >> appended >> announce(use_case.name)
