"""What the benchmarks of a night of many rows share: each task in a process of its own, on real services."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from nightshift.artifact import ArtifactRef
from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.local import new_use_case, processes
from nightshift.local.scratch import running
from nightshift.pipeline import run_step
from nightshift.settings import load_settings
from nightshift.steps.context import StepContext

NAME = "load_case"
PARTITION = date(2024, 6, 30)
CHUNK = 65_536
"""Rows that a benchmark makes at a time."""
LARGEST_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Taken:
    """What a task took: seconds, seconds of the processor, largest resident memory [bytes]."""

    seconds: float
    processor: float
    largest_bytes: int

    def __str__(self) -> str:
        return f"{self.seconds:8.1f} s, processor {self.processor:7.1f} s  {self.largest_bytes / 2**20:7,.0f} MiB"


def main(doc: str | None, task: Callable[[str, Path, int], None], measure: Callable[[Path, int], list[str]]) -> None:
    """Run the task named on the command line, or measure on services of this run's own.

    `task(name, folder, rows)` runs in a process that `in_process` started. `measure(folder, rows)` returns the aims
    that were missed; with any, the benchmark exits with 1.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task:
        task(chosen.task, chosen.folder, chosen.rows)
        # Not ru_maxrss, which begins with the peak of the process that started this one.
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        (chosen.folder / "peak").write_text(str(int(peak[1]) * 1024 if peak else 0))
        return
    with _services() as folder:
        missed = measure(folder, chosen.rows)
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


@contextmanager
def _services() -> Iterator[Path]:
    """An object store, PostgreSQL and a use case of `nightshift new`, below a folder that is removed afterwards."""
    processes.forget_ambient_stack(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-bench-"))
    folder.chmod(0o711)
    try:
        with running(folder / "services") as services:
            new_use_case.write(NAME, folder / "root")
            os.environ |= services.s3_environment() | {
                "NIGHTSHIFT_ENVIRONMENT": "test",
                "NIGHTSHIFT_BUCKET": "benchmark",
                "NIGHTSHIFT_WAREHOUSE_URL": services.postgres.place.url("warehouse"),
                "NIGHTSHIFT_USE_CASE_ROOTS": str(folder / "root"),
                "NIGHTSHIFT_SETTLE_SECONDS": "0",
            }
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_process(script: str, name: str, folder: Path, rows: int) -> Taken:
    """Run a task of a benchmark's script in a process of its own; exits if it fails."""
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, script, "--rows", str(rows), "--task", name, "--folder", str(folder)]
    if failed := subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{name} failed with {failed}")
    took, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(took, used, int((folder / "peak").read_text()))


def context_of(use_case: UseCase | None = None) -> StepContext:
    """The context of the tasks, of the use case of `nightshift new` unless another is given."""
    settings = load_settings()
    return StepContext(use_case or load_use_case(NAME), settings, ArtifactStore(settings), PARTITION)


def read_refs(folder: Path) -> dict[str, ArtifactRef]:
    """The artifacts of the tasks so far, by name."""
    path = folder / "refs.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    return {name: ArtifactRef.model_validate(ref) for name, ref in stored.items()}


def write_refs(folder: Path, refs: Mapping[str, ArtifactRef]) -> None:
    """Keep the artifacts for the tasks that follow."""
    (folder / "refs.json").write_text(json.dumps({name: ref.model_dump() for name, ref in refs.items()}))


def run_task(context: StepContext, folder: Path, name: str, inputs: Mapping[str, str]) -> None:
    """Run a step on artifacts of earlier tasks and keep its own. `inputs`: argument -> name of the task."""
    refs = read_refs(folder)
    refs[name] = run_step(name, context, **{argument: refs[task] for argument, task in inputs.items()})
    write_refs(folder, refs)
