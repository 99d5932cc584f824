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

from airflow.sdk import DAG, PartitionedAssetTimetable, TriggerRule

from dagkit.assets import features, history
from dagkit.defaults import NIGHTS_AT_ONCE, RETRIES_WAITING, WAITED_ENOUGH, dag_arguments
from dagkit.steps import decide_on_failure, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **dag_arguments(use_case, "train", doc=__doc__) | {"max_active_runs": NIGHTS_AT_ONCE},
        schedule=PartitionedAssetTimetable(assets=features(use_case) | history(use_case)),
    ):
        waiting = {"on_last_try": {"allow_undecided": True}, "last_retries": WAITED_ENOUGH, **RETRIES_WAITING}
        rows = step(use_case, "append_training_rows", **waiting)()
        training_set = step(use_case, "build_training_set", **waiting)(rows=rows)
        specs = step(use_case, "choose_specs")()
        versions = step(use_case, "fit", map_name="spec").partial(training_set=training_set).expand(spec=specs)
        # What was fitted is verified and registered, whatever became of the other specs.
        verify = step(use_case, "verify", map_name="version", trigger_rule=TriggerRule.ALL_DONE)
        verified = verify.partial(training_set=training_set).expand(version=versions)
        register = step(use_case, "register", trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
        registered = register(verified=verified)
        for leaf in ("report_training", "track_training"):
            step(use_case, leaf)(registered=registered)
        decided = decide_on_failure(use_case, "train", TriggerRule.ALL_DONE)
        [rows, training_set, specs, versions, verified, registered] >> decided
