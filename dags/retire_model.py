"""Retire a spec, or one version, permanently and archive it, by hand.

Trigger it with a spec id or a version and a reason. **retire_model** writes one archive (files and manifests of the
version or the spec's newest one, every decision and every gate result about it) to `archive/<use case>/<name>.zip`
and records that it is retired: it is never used again and cannot be rolled back to. If a version is retired, the
previous version of its spec is used. Retiring a challenger's spec withdraws it.

The run fails for the champion, the watched former champion, the fallback, and the only version of one of them.
"""

from airflow.sdk import DAG

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition, reason, spec_or_version
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

for use_case in all_use_cases():
    with DAG(
        **by_hand_arguments(use_case, "retire_model", doc=__doc__),
        schedule=None,
        params={
            "spec_or_version": spec_or_version(
                "The spec or version to retire, as in `deployments`, for example baseline-0123abcd or "
                "2013-06-01-0123abcd."
            ),
            "reason": reason("trained on the partitions whose weather was wrong"),
            "partition": partition(),
        },
    ):
        StageTasks(use_case, "retire_model").add(
            "retire_model", arguments=filled_in("spec_or_version", "reason", signed=True)
        )
