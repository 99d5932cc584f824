"""Fit new versions of the specs that serve or are scored, on everything known at the cutoff.

**append_training_rows** keeps the labels that the partition delivered, each with the features it was predicted with.
**build_training_set** lists the files of all training rows. **choose_specs** says which specs are fitted: champion,
challenger, watched former champion, fallback. For each of them **fit** fits on all rows and exports to ONNX, and
**verify** judges the version by every gate: runtime, parity, speed, memory, leakage, behaviour, and how far it moves
from the version it replaces. **register** records which versions serve or are scored from the next partition on.

A rejected version is recorded, not an error: the earlier version of its spec goes on. A failed run is recorded too
(**record_failure**). Nothing waits for the model card (**report_training**) or for MLflow (**track_training**).
"""

from airflow.sdk import DAG, PartitionedAssetTimetable, TriggerRule, task

from dagkit.assets import features, history
from dagkit.defaults import RETRIES_WAITING, dag_arguments
from dagkit.runtime import fail_after_recording, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        # One at a time, in order: each version is compared with the one before it.
        **dag_arguments(use_case, "train", doc=__doc__) | {"max_active_runs": 1},
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ) as dag:

        @task(task_id="record_failure", trigger_rule=TriggerRule.ONE_FAILED)
        def record_failure(use_case_name: str) -> None:
            """Say in `deployments` that this partition's training failed, and keep the run red."""
            fail_after_recording(use_case_name)

        rows = step(use_case, "append_training_rows", on_last_try={"allow_undecided": True}, **RETRIES_WAITING)()
        training_set = step(use_case, "build_training_set")(rows=rows)
        specs = step(use_case, "choose_specs")()
        versions = step(use_case, "fit", map_name="spec").partial(training_set=training_set).expand(spec=specs)
        verified = (
            step(use_case, "verify", map_name="version").partial(training_set=training_set).expand(version=versions)
        )
        registered = step(use_case, "register")(verified=verified)
        for leaf in ("report_training", "track_training"):
            step(use_case, leaf)(registered=registered)
        [rows, training_set, specs, versions, verified, registered] >> record_failure(use_case.name)
    globals()[dag.dag_id] = dag
