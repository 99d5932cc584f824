"""Fit, compress, export, verify and register a model on everything known at the cutoff.

**build_training_set** takes an immutable point-in-time snapshot through the feature service. **fit** fits the
declared estimators, **compress** distils the best of them into small students, **export** turns every candidate
into ONNX, **verify** checks row by row that it answers like the fitted one and measures it. **register** picks
the winner within the declared budget and promotes it if the gate lets it: no worse than champion and fallback.

A rejected model is recorded, not an error. A failed run is recorded too (**record_failure**), so that no
prediction waits for it; predictions go on with the champion they have.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable, TriggerRule, task

from dagkit.assets import features, history
from dagkit.defaults import RETRIES_WAITING, dag_arguments
from dagkit.runtime import fail_after_recording, step
from nightshift.core.candidates import candidates, estimators, students
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "train", doc=__doc__),
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ) as dag:

        @task(task_id="record_failure", trigger_rule=TriggerRule.ONE_FAILED)
        def record_failure(use_case_name: str) -> None:
            """Say in `deployments` that this partition's training failed, and keep the run red."""
            fail_after_recording(use_case_name)

        training_set = step(use_case, "build_training_set", **RETRIES_WAITING)()
        fitted = (
            step(use_case, "fit", map_name="estimator")
            .partial(training_set=training_set)
            .expand(estimator=list(estimators(use_case)))
        )
        compressed = (
            step(use_case, "compress", map_name="technique")
            .partial(training_set=training_set, teachers=fitted)
            .expand(technique=list(students(use_case)))
            if students(use_case)
            else []
        )
        exported = (
            step(use_case, "export", map_name="candidate")
            .partial(teachers=fitted, students=compressed)
            .expand(candidate=list(candidates(use_case)))
        )
        verified = (
            step(use_case, "verify", map_name="candidate")
            .partial(training_set=training_set, exports=exported)
            .expand(candidate=list(candidates(use_case)))
        )
        registered = step(use_case, "register", on_last_try={"allow_undecided": True}, **RETRIES_WAITING)(
            training_set=training_set, verified=verified
        )
        stages = [training_set, fitted, compressed, exported, verified, registered]
        [stage for stage in stages if stage] >> record_failure(use_case.name)
    globals()[dag.dag_id] = dag
