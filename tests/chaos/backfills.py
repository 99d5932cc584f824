"""Thirty nights through Airflow: one at a time, four at once, with the scheduler killed, in reverse; compared.

Part of `make chaos` (`ARGS="--scene backfill"`): each way takes a stack of its own and many minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from unittest import mock

import psutil

from chaos.night import STAGES
from chaos.outcome import Left, differences, left_by
from nightshift.io.artifact_store import ArtifactStore
from nightshift.local.layout import Layout
from nightshift.settings import Settings
from support.local_stack import USE_CASE, LocalStack
from support.second_use_case import ROOT

HISTORY = (date(2020, 3, 1), date(2020, 3, 14))
FIRST = date(2020, 3, 15)
DAY = timedelta(days=1)
HOW_IT_RAN = frozenset({f"{USE_CASE}.pipeline_daily"})
"""Tables about runs: which of two runs of a step is recorded depends on their order."""
LONGEST_SECONDS = 7200.0
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Way:
    """How the nights are backfilled. `kill_every`: seconds from one SIGKILL of the scheduler to the next."""

    name: str
    happens: str
    active: int
    backwards: bool = False
    kill_every: float | None = None


ONE_AT_A_TIME = Way("one", "one night at a time", 1)
WAYS = (
    Way("four", "four nights at once", 4),
    Way("scheduler-killed", "the scheduler killed every minute, tasks with it every other time", 2, kill_every=60),
    Way("reverse", "the last night first, four at once", 4, backwards=True),
)


def compare(names: Sequence[str], nights: int) -> Iterator[tuple[str, bool]]:
    """Backfill the nights in each way, or in those named: a text, and whether they left what one at a time left."""
    expected, seconds = outcome_of(ONE_AT_A_TIME, nights)
    yield f"{nights} nights, one at a time: {seconds:.0f} s", True
    for way in WAYS:
        if not names or way.name in names:
            actual, seconds = outcome_of(way, nights)
            found = differences(expected, actual)
            places = Counter(map(_place, found))
            examples = {place: next(line for line in found if _place(line) == place) for place in places}
            lines = [f"  {places[place]:4} {examples[place][:300]}" for place in sorted(places)]
            head = f"{way.name}: {way.happens}: {seconds:.0f} s, {len(found)} differences"
            yield "\n".join([head, *lines]), not found


def _place(difference: str) -> str:
    """The table, or the step of an artifact."""
    return "/".join(difference.partition(":")[0].split("/")[:3])


def outcome_of(way: Way, nights: int) -> tuple[Left, float]:
    """What the nights leave, and how long they took [s]. Raises AssertionError if one does not succeed."""
    last = FIRST + DAY * (nights - 1)
    with _stack() as stack:
        stack.nightshift("land", "late_returns", "--from", str(HISTORY[0]), "--to", str(last))
        stack.nightshift("migrate")
        stack.airflow("dags", "unpause", "--yes", "--treat-dag-id-as-regex", r"late_returns\.(?!search|attack).*")
        conf = json.dumps({"first": str(HISTORY[0]), "last": str(HISTORY[1])})
        stack.airflow("dags", "trigger", "late_returns.backfill_history", "--conf", conf)
        stack.wait(("backfill_history", "train"), (str(HISTORY[1]),))
        backfill = ["backfill", "create", "--dag-id", "late_returns.ingest", "--max-active-runs", str(way.active)]
        backfill += ["--run-backwards"] if way.backwards else []
        began = time.monotonic()
        stack.airflow(*backfill, "--from-date", str(FIRST), "--to-date", str(last + DAY))
        _wait(stack, {str(FIRST + DAY * n) for n in range(nights)}, way.kill_every)
        seconds = time.monotonic() - began
        left = left_by(*_stores(stack))
        # Of the artifacts those that count: what a later try of a step replaced, one night at a time never made. The
        # online store has the newest values; those of days that were overtaken are not loaded.
        counts = {
            place: value
            for place, value in left.items()
            if place.endswith("/current.json") or (place.startswith(f"{USE_CASE}.") and place not in HOW_IT_RAN)
        }
        return counts, seconds


def _wait(stack: LocalStack, partitions: set[str], kill_every: float | None) -> None:
    """Wait until each stage of each partition has succeeded; kill the scheduler meanwhile."""
    end, next_kill, kills = time.monotonic() + LONGEST_SECONDS, time.monotonic() + (kill_every or LONGEST_SECONDS), 0
    missing = {(stage, partition) for stage in STAGES for partition in partitions}
    while missing:
        assert time.monotonic() < end, f"{len(missing)} runs not finished:\n{stack.unfinished()}"
        if time.monotonic() > next_kill:
            _kill_scheduler(stack, with_tasks=bool(kills % 2))
            kills += 1
            stack.nightshift("up")
            next_kill = time.monotonic() + (kill_every or LONGEST_SECONDS)
        time.sleep(POLL_SECONDS)
        runs = [run for stage in STAGES for run in stack.runs(stage)]
        failed = [run for run in runs if run.state == "failed"]
        assert not failed, f"{failed[0].dag_id} of {failed[0].partition_key} failed:\n{stack.why(failed[0].dag_id)}"
        missing -= {(run.dag_id.partition(".")[2], run.partition_key) for run in runs if run.state == "success"}


def _kill_scheduler(stack: LocalStack, *, with_tasks: bool) -> None:
    """SIGKILL of the scheduler; the tasks it runs go on, or are killed with it."""
    record = Layout(Path(stack.environment["NIGHTSHIFT_LOCAL_DIR"])).state().processes["scheduler"]
    scheduler = psutil.Process(record.pid)
    family = [scheduler, *(scheduler.children(recursive=True) if with_tasks else [])]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=30)


@contextmanager
def _stack() -> Iterator[LocalStack]:
    """A stack of its own, of the second use case without approvals; removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="nightshift-chaos-"))
    folder.chmod(0o755)
    root = Path(shutil.copytree(ROOT, folder / "use_cases"))
    declared = root / "include" / "late_returns" / "use_case.py"
    text = declared.read_text(encoding="utf-8")
    without_approvals = text.replace("likelihood=5", "likelihood=1")
    assert without_approvals != text
    declared.write_text(without_approvals, encoding="utf-8")
    stack = LocalStack(folder / "local")
    stack.environment["NIGHTSHIFT_USE_CASE_ROOTS"] = str(root)
    try:
        stack.start()
        yield stack
    finally:
        stack.nightshift("down")
        shutil.rmtree(folder, ignore_errors=True)


def _stores(stack: LocalStack) -> tuple[str, ArtifactStore]:
    """The URL of the warehouse, and the bucket."""
    keys = {name: value for name, value in stack.environment.items() if name.startswith("AWS_")}
    url = stack.environment["NIGHTSHIFT_WAREHOUSE_URL"]
    settings = Settings(
        environment="test",
        bucket=stack.environment["NIGHTSHIFT_BUCKET"],
        s3_endpoint_url=keys["AWS_ENDPOINT_URL"],
        warehouse_url=url,
    )
    # The client keeps the credentials that it finds now.
    with mock.patch.dict(os.environ, keys):
        return url, ArtifactStore(settings)
