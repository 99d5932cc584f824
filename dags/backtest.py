"""Backtest specs on past partitions, by hand, and make the best one that passes a challenger.

**backtest** walks each spec forward over stored partitions, refitted and calibrated as in the nightly runs, together
with champion, fallback and a version that is never refitted, all on the same rows. It writes the losses to the table
`backtests` and a page with the curve by month, slices and paired differences.

**attack** and **nominate** run only if *nominate* is selected in the form. The first attacks the challengers (see the
DAG `attack`). The second evaluates them by the promotion policy and, where the declared risks demand it, by the bounds
on attacks; the best that passes goes into shadow from the next partition on, failed ones are recorded as
backtest_failed with the reasons. No spec becomes champion without it.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task

from dagkit.defaults import by_hand_arguments
from dagkit.params import filled_in, partition
from dagkit.steps import StageTasks
from nightshift.declare.discovery import all_use_cases

LONGEST = timedelta(hours=2)


def day(title: str, default: str) -> Param:
    """A partition parameter that may be left empty; `default` describes the value used then."""
    return Param(
        None, type=["null", "string"], format="date", title=title, description=f"YYYY-MM-DD. Left empty: {default}"
    )


for use_case in all_use_cases():
    policy = use_case.promotion

    with DAG(
        **by_hand_arguments(use_case, "backtest", doc=__doc__),
        schedule=None,
        params={
            "specs": Param(
                "",
                type=["null", "string"],
                title="Specs",
                description="Names or ids, separated by commas, or one spec as JSON. Left empty: "
                f"{', '.join(spec.name for spec in use_case.challengers) or 'none but champion and fallback'}.",
            ),
            "first": day("First", f"the newest {policy.backtest_partitions} partitions."),
            "last": day("Last", "the partition before 'Partition', the newest with labels."),
            "refit_every": Param(
                None,
                type=["null", "integer"],
                minimum=1,
                title="Refit every",
                description=f"Partitions between refits. Left empty: {policy.refit_every}.",
            ),
            "nominate": Param(False, type="boolean", title="Nominate", description="Evaluate the specs by the result."),
            "partition": partition("Labels known by then are used; a nomination takes effect after it."),
        },
    ):

        @task.short_circuit(task_id="nominate_requested")
        def nominate_requested() -> bool:
            """Whether a nomination is selected in the form."""
            return bool(get_current_context()["params"]["nominate"])

        tasks = StageTasks(use_case, "backtest")
        chosen = filled_in("specs", "first", "last", "refit_every")
        walked = tasks.add("backtest", arguments=chosen, execution_timeout=LONGEST)
        walked >> nominate_requested() >> tasks.add("attack", execution_timeout=LONGEST)
        tasks.add("nominate")
