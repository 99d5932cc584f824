"""A night of many use cases at once, through Airflow: seconds, and how long tasks wait to be started.

    python benchmarks/many_use_cases.py [--cases 1,5,20]

Use cases are copies of one of `nightshift new`, on a local stack of this run's own. Each loads the days of history that
a first training needs. Then the next night of one use case is run, the next ones of five at once, and of twenty. Their
DAGs are unpaused, so that today's run of each waits for a delivery meanwhile. Takes an hour on two cores.

Exits with 1 if the seconds of a night, or the mean seconds that a task waits, grow by more than STEEPEST times the
number of use cases.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from parsing import STEEPEST, copies

from nightshift.core.checks.declaration_checks import partitions_needed
from nightshift.declare.discovery import ROOTS_VARIABLE, load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.local import demo, processes
from nightshift.local.demo import Nights, Plan, Progress
from nightshift.local.landing import land
from nightshift.local.stack import Stack
from nightshift.pipeline import NIGHTLY
from nightshift.settings import load_settings

POLL_SECONDS = 30.0
"""How often the client of each use case polls Airflow's API; twenty of them load the API server with more."""


def quiet() -> Progress:
    """Progress that is not printed."""
    return Progress(say=lambda _: None)


def load(use_case: UseCase, stack: Stack, nights: int) -> Nights:
    """Land, migrate and load the history of a use case; returns its nights that can be run."""
    first = use_case.first_partition
    last = first + timedelta(days=partitions_needed(use_case))
    plan = Plan.of(use_case, first, last, nights)
    settings = load_settings()
    land(ArtifactStore(settings), use_case, [*plan.history, *plan.nights], lambda _: None)
    Warehouse(settings, use_case).migrate()
    loaded = Nights(plan, stack, quiet())
    loaded.load_history()
    return loaded


def night(use_cases: Sequence[Nights]) -> tuple[float, float]:
    """Run a night of each of these use cases at once: seconds, and mean seconds that a task waits for its start."""
    with ThreadPoolExecutor(len(use_cases)) as pool:
        list(pool.map(Nights.run_nights, use_cases))
    tasks = [task for one in use_cases for task in tasks_of(one)]
    waited = [(started - scheduled).total_seconds() for scheduled, started, _ in tasks]
    took = max(ended for _, _, ended in tasks) - min(scheduled for scheduled, _, _ in tasks)
    return took.total_seconds(), sum(waited) / len(waited)


def tasks_of(nights: Nights) -> list[tuple[datetime, datetime, datetime]]:
    """When each task of the night was scheduled, started and ended, in its last try."""
    (partition,) = nights.plan.nights
    found = []
    for stage in NIGHTLY:
        run = nights.api.newest_runs(nights.plan.dag_id(stage))[partition.isoformat()]
        path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances"
        for task in nights.api.call("GET", path, limit=100)["task_instances"]:
            moments = [task[name] for name in ("scheduled_when", "start_date", "end_date")]
            if all(moments):
                scheduled, started, ended = map(datetime.fromisoformat, moments)
                found.append((scheduled, started, ended))
    return found


def measure(counts: Sequence[int], root: Path) -> list[str]:
    """Run everything and print it; returns the aims that were missed."""
    copies(root, max(counts))
    names = sorted(path.name for path in (root / "include").iterdir())
    use_cases = [load_use_case(name) for name in names]
    stack = Stack(say=lambda _: None)
    stack.up()
    try:
        os.environ.update(stack.environment())
        load_settings.cache_clear()
        started = time.perf_counter()
        with ThreadPoolExecutor(max(counts)) as pool:
            loaded = list(pool.map(lambda one: load(one, stack, len(counts)), use_cases))
        print(f"history of {len(loaded)} use cases: {time.perf_counter() - started:.0f} s", flush=True)
        ahead = [list(one.plan.nights) for one in loaded]
        measured: list[tuple[float, float]] = []
        for count in counts:
            # The next night of each: after one that was left out, the next would wait for it.
            chosen = [
                Nights(replace(one.plan, nights=[nights.pop(0)]), stack, quiet())
                for one, nights in zip(loaded[:count], ahead[:count], strict=True)
            ]
            took, waited = night(chosen)
            measured.append((took, waited))
            print(f"{count:3} use cases  {took:8.1f} s  a task waits {waited:6.2f} s", flush=True)
    finally:
        stack.down()
    return [
        f"{what} of {count} use cases"
        for count, taken in zip(counts[1:], measured[1:], strict=True)
        for what, one, of_first in zip(("seconds", "waiting"), taken, measured[0], strict=True)
        if one > of_first * count / counts[0] * STEEPEST
    ]


def main() -> None:
    """Measure, print, and exit with 1 if an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="1,5,20", help="comma-separated numbers of use cases")
    counts = sorted(map(int, parser.parse_args().cases.split(",")))
    demo.POLL_SECONDS = POLL_SECONDS
    processes.forget_ambient_stack(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    folder.chmod(0o711)
    os.environ |= {f"NIGHTSHIFT_{name}_PORT": "0" for name in ("UI", "MLFLOW", "S3")}
    os.environ |= {"NIGHTSHIFT_LOCAL_DIR": str(folder / "stack"), ROOTS_VARIABLE: str(folder / "root")}
    try:
        missed = measure(counts, folder / "root")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
