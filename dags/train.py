"""Fit, distil, compress, export, verify and register a model on everything known at the cutoff.

**build_training_set** takes an immutable point-in-time snapshot through the feature service. **fit** fits the
declared estimators, **distil** fits small students on the answers of the best of them, and **compress** makes
both smaller, each recipe in a task of its own. **export** turns every candidate into ONNX; **verify** holds it
to every gate by itself (runtime, parity, behaviour, leakage, speed) and measures it. **select_model** picks the
winner within the declared budget among those no gate refused. **register** holds it against the models in
service and says what becomes of it: on trial beside the champion, champion at once if there was none, or rejected.

A rejected model is recorded, not an error. A failed run is recorded too (**record_failure**), so that no
prediction waits for it; predictions go on with the champion they have.
"""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dagkit.assets import features, history
from dagkit.defaults import NIGHTS_AT_ONCE, RETRIES_WAITING, dag_arguments
from dagkit.runtime import decide_on_failure, step
from nightshift.core.candidates import candidates, compressed, estimators, students
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "train", doc=__doc__) | {"max_active_runs": NIGHTS_AT_ONCE},
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ) as dag:
        training_set = step(use_case, "build_training_set", **RETRIES_WAITING)()
        fitted = (
            step(use_case, "fit", map_name="estimator")
            .partial(training_set=training_set)
            .expand(estimator=list(estimators(use_case)))
        )
        distilled = (
            step(use_case, "distil", map_name="student")
            .partial(training_set=training_set, teachers=fitted)
            .expand(student=list(students(use_case)))
            if students(use_case)
            else []
        )
        small = (
            step(use_case, "compress", map_name="candidate")
            .partial(training_set=training_set, fitted=fitted, distilled=distilled)
            .expand(candidate=list(compressed(use_case)))
            if compressed(use_case)
            else []
        )
        exported = (
            step(use_case, "export", map_name="candidate")
            .partial(fitted=fitted, distilled=distilled, compressed=small)
            .expand(candidate=list(candidates(use_case)))
        )
        verified = (
            step(use_case, "verify", map_name="candidate")
            .partial(training_set=training_set, fitted=fitted, exports=exported)
            .expand(candidate=list(candidates(use_case)))
        )
        selected = step(use_case, "select_model")(training_set=training_set, verified=verified)
        registered = step(use_case, "register", on_last_try={"allow_undecided": True}, **RETRIES_WAITING)(
            training_set=training_set, selected=selected
        )
        stages = [training_set, fitted, distilled, small, exported, verified, selected, registered]
        [stage for stage in stages if stage] >> decide_on_failure(use_case, "train")
    globals()[dag.dag_id] = dag
