"""Decommission a model and archive it, by hand.

Trigger it with a model version and a reason. **retire_model** writes one archive of the model (its files, its
manifests, every decision and every gate's verdict about it) to `archive/<use case>/<version>.zip` and records
that it is retired: it never serves again and cannot be rolled back to. A model on trial is withdrawn by it.

It refuses to retire the champion, the model that stands by while a fresh champion is watched, and the fallback.
"""

from airflow.sdk import DAG

from dagkit.defaults import by_hand_arguments
from dagkit.forms import model_version, partition, reason
from dagkit.runtime import filled_in, step
from nightshift.usecase import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "retire_model", doc=__doc__),
        schedule=None,
        params={
            "model_version": model_version(
                "The model to retire, as in `deployments`, for example 2013-06-01-0123abcd."
            ),
            "reason": reason("trained on the partitions whose weather was wrong"),
            "partition": partition(),
        },
    ) as dag:
        step(use_case, "retire_model", arguments=filled_in("model_version", "reason", signed=True))()
    globals()[dag.dag_id] = dag
