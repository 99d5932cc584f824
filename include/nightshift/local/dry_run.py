"""A dry run: all steps on delivered partitions up to the audit of the scores, without Airflow and the user's stack.

An S3 server and a PostgreSQL of its own are started below a temporary folder and removed at the end. Landing files are
copied there; the steps run in this process, in the order of their DAGs.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from nightshift.artifact import ArtifactRef
from nightshift.core.checks.declaration_checks import begun_at_cutoff, data_faults, partitions_needed
from nightshift.core.checks.faults import DeclarationFault, Fault
from nightshift.declare.discovery import ROOTS_VARIABLE
from nightshift.declare.feeds import Feed
from nightshift.declare.predictions import Predictions
from nightshift.declare.use_case import UseCase
from nightshift.documents.train import Registration
from nightshift.errors import ConfigurationError, DataContractError, NightshiftError, PartitionRejected
from nightshift.io.artifact_store import ArtifactStore, parquet_bytes
from nightshift.local.landing import producer
from nightshift.local.processes import STACK_VARIABLES, forget_ambient_stack
from nightshift.local.scratch import running
from nightshift.partitions import parse_partition, partition_range
from nightshift.pipeline import find_stage, run_stage, run_step
from nightshift.services.check_use_case import located
from nightshift.services.curated import delivered_spine
from nightshift.services.live_scores import SCORES
from nightshift.services.training_rows import known_rows
from nightshift.settings import Settings, load_settings
from nightshift.steps.context import StepContext

BUCKET = "dry-run"
PUBLISHED_BY = find_stage("predict").decided_by

Landed = Iterable[tuple[str, str, str, bytes]]
"""Files of the landing folder: (feed, dt as YYYY-MM-DD, file name, bytes)."""
Source = Callable[[date, date], Landed]
"""The files delivered from one partition to another; of snapshot feeds also the newest ones before."""


@dataclass
class DryRun:
    """Results of a dry run: rejected partitions with the reason, versions by spec id, rows that were scored, and what
    is worth knowing and no fault."""

    rejected: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rows: int | None = None
    notes: list[Fault] = field(default_factory=list)


def dry_run(
    use_case: UseCase, partition: date, source: Source, say: Callable[[str], None]
) -> tuple[list[Fault], DryRun]:
    """Ingest, build features, train on the partitions before, and score the partition; returns faults and results.

    Uses as many partitions before as a first training needs, more if labels come late; rejected ones are left out, as
    in a history. `say` gets lines of progress. The user's stack is not changed. Raises ConfigurationError if there
    are too few partitions before.
    """
    first = partition - timedelta(days=partitions_needed(use_case))
    if first < use_case.first_partition:
        earliest = use_case.first_partition + timedelta(days=partitions_needed(use_case))
        raise ConfigurationError(
            "NS-USECASE-014",
            f"A first training of {use_case.name} needs {partitions_needed(use_case)} partitions before the one to "
            f"score. Take {earliest} or later, or lower minimum_days and holdout_days in its training policy.",
        )
    with _scratch(say) as (settings, store):
        run = _DryRun(use_case, settings, store, source, say)
        try:
            run.all_steps(partition, first)
        except NightshiftError as error:
            run.faults.append(run.fault(error))
        return run.faults, run.found


class _DryRun:
    """Runs the stages of one use case in this process; remembers the last step and the results."""

    def __init__(
        self, use_case: UseCase, settings: Settings, store: ArtifactStore, source: Source, say: Callable[[str], None]
    ) -> None:
        # No other use case runs here: what it would predict is delivered as files of the feed.
        feeds = tuple(replace(feed, source=None) for feed in use_case.feeds)
        self.use_case, self.settings, self.store = replace(use_case, feeds=feeds), settings, store
        self.source, self.say, self.last = source, say, ""
        self.found = DryRun()
        self.faults: list[Fault] = []

    def step(self, name: str, partition: date, **refs: Any) -> Any:
        """Run one step and remember its name."""
        self.last = f"{name} of {partition}"
        return run_step(name, StepContext(self.use_case, self.settings, self.store, partition), **refs)

    def stage(
        self, name: str, partition: date, until: str = "", **further: Mapping[str, bool]
    ) -> dict[str, ArtifactRef]:
        """Run a stage; returns the refs of its steps. `further`: arguments by step."""
        return run_stage(name, lambda step, **refs: self.step(step, partition, **refs), until=until, further=further)

    def fault(self, error: NightshiftError) -> Fault:
        """The error of the last step as a fault; its message names file and remedy."""
        return Fault(error.code, " ".join(error.message.split()), "", self.last)

    def all_steps(self, partition: date, first: date) -> None:
        """Run all steps and collect the faults of policies and versions. Raises what a step raises."""
        before = partition - timedelta(days=1)
        self._land(first, partition)
        # The partition itself first, so that its faults are reported first.
        self.say(f"{partition}: land, profile, validate, publish")
        self.stage("ingest", partition, land={"reject_undelivered": True})
        self._load_history(first, before)
        self.say(f"{before}: train")
        registration = self.store.read_document(self.stage("train", before)["register"], Registration)
        self.found.versions = {one.spec_id: f"{one.action}: {one.why}" for one in registration.versions}
        self.faults += located(self.use_case, _rejected(registration))
        self.say(f"{partition}: features, model choice, calibration, score, audit")
        self.stage("materialize", partition)
        scores = self.stage("predict", partition, until="score")["score"]
        self.found.rows = scores.rows
        self.found.notes = located(self.use_case, self._notes(partition))
        self.step("audit", partition, scores=scores)
        self.faults += self._data_faults(before, scores.rows or 0)

    def _load_history(self, first: date, last: date) -> None:
        """Load partitions for a first training; further back while labels of too few partitions are known."""
        needed = partitions_needed(self.use_case) - 1
        loaded_from = last + timedelta(days=1)
        earliest = first - timedelta(days=needed)
        while True:
            self.use_case = replace(self.use_case, first_partition=first)
            self.say(f"{first} to {loaded_from - timedelta(days=1)}: ingest and materialize")
            for day in partition_range(first, loaded_from - timedelta(days=1)):
                self._load(day)
            for day in partition_range(first, last):
                if str(day) not in self.found.rejected:
                    self.step("append_training_rows", day, allow_undecided=True)
            lacking = needed - known_rows(self.store, self.use_case, last).days
            if lacking <= 0 or first <= earliest:
                return
            loaded_from, first = first, max(first - timedelta(days=lacking), earliest)
            self._land(first, loaded_from)

    def _load(self, day: date) -> None:
        try:
            self.stage("ingest", day, land={"reject_undelivered": True})
            self.stage("materialize", day)
        except (DataContractError, PartitionRejected) as error:
            self.found.rejected[str(day)] = " ".join(str(error).split())
            self.say(f"{day} is rejected and left out: {error}")

    def _land(self, first: date, last: date) -> None:
        for feed, dt, name, body in self.source(first, last):
            self.store.put(f"landing/{self.use_case.name}/{feed}/dt={dt}/{name}", body)

    def _data_faults(self, trained: date, rows: int) -> list[Fault]:
        training = known_rows(self.store, self.use_case, trained)
        of_holdout = (
            sum(part.rows or 0 for part in training.parts) * self.use_case.training.holdout_days // training.days
        )
        return located(self.use_case, data_faults(self.use_case, [rows], of_holdout))

    def _notes(self, partition: date) -> list[DeclarationFault]:
        use_case = self.use_case
        if not use_case.prediction_moment:
            return []
        rows = delivered_spine(use_case, self.store, partition, use_case.scoring_spine).rows
        note = begun_at_cutoff(use_case, partition, rows[use_case.prediction_moment].to_pylist())
        return [note] if note else []


def _rejected(registration: Registration) -> list[DeclarationFault]:
    return [
        DeclarationFault(
            "NS-USECASE-060",
            f"The version of {one.spec_id} was rejected by the version gates: {one.why}.",
            "Correct what the gate names; docs/reference.md lists the gates.",
            (one.spec_id.rpartition("-")[0],),
        )
        for one in registration.versions
        if one.action == "rejected"
    ]


@contextmanager
def _scratch(say: Callable[[str], None]) -> Iterator[tuple[Settings, ArtifactStore]]:
    """Settings and store of temporary servers; inside the block the environment names these servers only."""
    say("Starting an S3 server and a PostgreSQL for the dry run.")
    # Traversable by all users: if root starts PostgreSQL, it runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="nightshift-dry-run-"))
    folder.chmod(0o711)
    before = {name: value for name, value in os.environ.items() if name.startswith(STACK_VARIABLES)}
    try:
        with running(folder) as services:
            forget_ambient_stack(os.environ)
            os.environ.update(services.s3_environment())
            os.environ.update({name: before[name] for name in (ROOTS_VARIABLE,) if name in before})
            os.environ["NIGHTSHIFT_BUCKET"] = BUCKET
            os.environ["NIGHTSHIFT_WAREHOUSE_URL"] = services.postgres.place.url("warehouse")
            load_settings.cache_clear()
            store = ArtifactStore(load_settings())
            store.ensure_bucket()
            yield load_settings(), store
    finally:
        forget_ambient_stack(os.environ)
        os.environ.update(before)
        load_settings.cache_clear()
        shutil.rmtree(folder, ignore_errors=True)


# Where landing files come from


def of_folder(use_case: UseCase, folder: Path) -> Source:
    """Files at <folder>/<feed>/dt=<partition>/<file>. Raises ConfigurationError if there are none."""
    paths = {feed.name: sorted((folder / feed.name).glob("dt=*/*")) for feed in use_case.feeds}
    if not any(paths.values()):
        names = ", ".join(f"{feed.name}/dt=<partition>/" for feed in use_case.feeds)
        raise ConfigurationError("NS-USECASE-015", f"There are no landing files below {folder}: put them at {names}.")
    days = {feed: {path: path.parent.name[3:] for path in files} for feed, files in paths.items()}

    def files(first: date, last: date) -> Landed:
        for feed, dt_of in days.items():
            for path in (
                path for path, dt in dt_of.items() if dt in _days_read(use_case, feed, dt_of.values(), first, last)
            ):
                yield feed, dt_of[path], path.name, path.read_bytes()

    return files


def of_store(use_case: UseCase, store: ArtifactStore) -> Source:
    """Files in the landing folder of a bucket, and what other use cases published in it. The bucket is only read."""

    def files(first: date, last: date) -> Landed:
        for one in use_case.feeds:
            if one.source is not None:
                yield from _published(store, one, one.source, partition_range(first, last))
        for feed in (one.name for one in use_case.feeds if one.source is None):
            prefix = f"landing/{use_case.name}/{feed}/"
            folders = [name[3:] for name in store.folders(prefix) if name.startswith("dt=")]
            for dt in _days_read(use_case, feed, folders, first, last):
                for info in store.list(f"{prefix}dt={dt}/"):
                    yield feed, dt, info.key.rpartition("/")[2], store.get(info.key) or b""

    return files


def _published(store: ArtifactStore, feed: Feed, source: Predictions, partitions: Iterable[date]) -> Landed:
    """The published predictions that these partitions read, as files of the feed."""
    for day in partitions:
        decision = store.decision(source.use_case, PUBLISHED_BY, day - timedelta(days=source.lag))
        if decision is not None and decision.published is not None:
            (scores,) = store.manifest(decision.published).inputs["scores"]
            table = store.read_table(scores, SCORES).select([column.name for column in feed.landed])
            yield feed.name, str(day), SCORES, parquet_bytes(table)


def of_producer(use_case: UseCase) -> Source:
    """Deliveries of the use case's replay.py. Raises ConfigurationError if it has none."""
    deliveries = producer(use_case)

    def files(first: date, last: date) -> Landed:
        return (one for day in partition_range(first, last) for one in deliveries(day))

    return files


def _days_read(use_case: UseCase, feed: str, folders: Iterable[str], first: date, last: date) -> set[str]:
    """The deliveries of a feed that the partitions read: their own, and of a snapshot the newest one before."""
    # Producers' other folders, such as dt=unfinished, are ignored, as by ingest.
    days = {parse_partition(dt) for dt in set(folders) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", dt)}
    chosen = {day for day in days if first <= day <= last}
    if use_case.feed(feed).cadence == "snapshot":
        chosen |= {day for day in days if day == max((one for one in days if one < first), default=None)}
    return {str(day) for day in chosen}


def source_of(
    use_case: UseCase, folder: Path | None, stack: Mapping[str, str] | None, say: Callable[[str], None]
) -> Source:
    """Files of `folder` if not None, else of the bucket of `stack` (its environment; None: not running) if anything
    of the use case was delivered there, else of replay.py. `say` gets which."""
    if folder is not None:
        say(f"Deliveries come from {folder}.")
        return of_folder(use_case, folder)
    if stack is not None:
        os.environ.update(stack)
        load_settings.cache_clear()
        store = ArtifactStore(load_settings())
        if store.folders(f"landing/{use_case.name}/"):
            say("Deliveries come from the bucket of the local stack.")
            return of_store(use_case, store)
    say(f"Deliveries come from {use_case.folder / 'replay.py'}.")
    return of_producer(use_case)
