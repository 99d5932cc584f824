"""A step in a process of its own, as an Airflow task is: forked from one that has the libraries loaded."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from typing import Any, Literal

from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.pipeline import STAGE_OF_STEP, run_step

LONGEST_SECONDS = 900

Kind = Literal["done", "failed", "failed for good", "killed"]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `result`: its refs if it is done, else the error."""

    kind: Kind
    result: Any = None


@dataclass(frozen=True)
class Work:
    """A step of a partition of a use case and its arguments; or `module.function`, which gets the same context."""

    use_case: UseCase
    step: str
    partition: date
    arguments: Mapping[str, Any]


class StepProcess:
    """One attempt at a step, running. `environment` points it at its services."""

    def __init__(self, environment: Mapping[str, str], work: Work) -> None:
        self._receiving, sending = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(target=_run, args=(sending, dict(environment), work))
        self.process.start()
        sending.close()

    def kill(self) -> None:
        """SIGKILL; returns when the process has ended."""
        self.process.kill()
        self.process.join()

    def wait(self) -> Outcome:
        """How the attempt ended; one that does not end is killed after LONGEST_SECONDS."""
        try:
            if not self._receiving.poll(LONGEST_SECONDS):
                self.kill()
                return Outcome("failed for good", f"no end after {LONGEST_SECONDS} s")
            outcome: Outcome = self._receiving.recv()
        except EOFError:
            outcome = Outcome("killed")
        self.process.join()
        return outcome


_CONTEXT = multiprocessing.get_context("forkserver")


def preload(names: Sequence[str]) -> None:
    """Let the process that steps are forked from import these modules. To be called before the first step."""
    _CONTEXT.set_forkserver_preload(list(names))


def _run(sending: Connection, environment: dict[str, str], work: Work) -> None:
    os.environ.update(environment)
    # A library that was imported before the fork may have looked for it.
    tempfile.tempdir = None
    log = os.open(environment["CHAOS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    print(f"== {work.step} {work.partition}", file=sys.stderr)  # noqa: T201
    sending.send(_outcome(work))


def _outcome(work: Work) -> Outcome:
    from nightshift.artifact import Attempt
    from nightshift.errors import TerminalError
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.provenance import CURRENT_ATTEMPT
    from nightshift.settings import load_settings
    from nightshift.steps.context import StepContext

    try:
        # So that its folder can be imported from.
        load_use_case(work.use_case.name)
        # The same in each attempt, as that of Airflow.
        CURRENT_ATTEMPT.set(Attempt(run_id=f"{work.step} of {work.partition}"))
        settings = load_settings()
        context = StepContext(work.use_case, settings, ArtifactStore(settings), work.partition)
        if work.step in STAGE_OF_STEP:
            return Outcome("done", run_step(work.step, context, **work.arguments))
        module, _, function = work.step.rpartition(".")
        return Outcome("done", getattr(importlib.import_module(module), function)(context, **work.arguments))
    except TerminalError:
        return Outcome("failed for good", traceback.format_exc())
    except Exception:  # noqa: BLE001 - tried again, as by Airflow
        return Outcome("failed", traceback.format_exc())
