"""Training rows in the object store: one immutable file a partition, complete months compacted into one file each.

A month's file is the variant `month` of its last day: `train/append_training_rows/<last day>/current-month.json`.
A change of a day reopens its month, and the next training set compacts it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.features.training_rows import without_withdrawn
from nightshift.declare.use_case import UseCase
from nightshift.documents.train import TrainingSet
from nightshift.errors import TerminalError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.partitions import partition_range

STEP = "append_training_rows"
ROWS = "rows.parquet"
MONTH = "month"
NOT_RUN = f"{STEP} has not run for it"


@dataclass
class KnownRows:
    """Files of training rows, oldest first; the number of partitions with rows, and the first and last of them.

    `missing`: partitions without rows after the first one, with the reason.
    """

    parts: list[ArtifactRef] = field(default_factory=list)
    days: int = 0
    first: date | None = None
    last: date | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, part: ArtifactRef, days: int, first: date | None, last: date | None) -> None:
        """Add a file of `days` partitions with rows from `first` to `last`."""
        self.parts.append(part)
        self.days += days
        self.first, self.last = self.first or first, last or self.last


def publish_rows(
    store: ArtifactStore,
    use_case: UseCase,
    partition: date,
    rows: pa.Table,
    *,
    inputs: Mapping[str, Sequence[ArtifactRef]],
    parameters: Mapping[str, Any],
) -> ArtifactRef:
    """Commit the rows that a partition delivered; if they changed, its month will be compacted again."""
    ref = store.commit(
        use_case=use_case.name,
        step=STEP,
        partition=partition,
        kind="training_rows",
        files={ROWS: rows},
        inputs=inputs,
        parameters=parameters,
        rows=rows.num_rows,
        current=False,
    )
    _decide(store, use_case, partition, Decision(status="published", ref=ref))
    return ref


def withdraw_rows(store: ArtifactStore, use_case: UseCase, partition: date, why_rejected: str) -> str:
    """Record that a partition has no training rows, because its data was rejected; returns the reason recorded."""
    reason = f"{partition} delivered no labels: {why_rejected}"
    _decide(store, use_case, partition, Decision(status="rejected", reason=reason))
    return reason


def compact_months(store: ArtifactStore, use_case: UseCase, last: date) -> list[ArtifactRef]:
    """Write one file for each month before that of `last` that has no current file; returns the new files."""
    months = _months(use_case, last)
    open_months = [day for day, decision in _month_decisions(store, use_case, months).items() if not _ref(decision)]
    return [_compact(store, use_case, end) for end in open_months]


def known_rows(store: ArtifactStore, use_case: UseCase, last: date) -> KnownRows:
    """The rows known by partition `last`: one file per compacted month, daily files for the other months."""
    listing = KnownRows()
    months = _month_decisions(store, use_case, _months(use_case, last))
    days = [day for end, decision in months.items() if not _ref(decision) for day in _days(use_case, end)]
    days += [day for day in _days(use_case, last) if day <= last]
    decisions = store.decisions(use_case.name, STEP, days)
    for end in [*months, last]:
        month = _ref(months.get(end))
        if month is not None:
            manifest = store.manifest(month)
            about = manifest.parameters
            first, newest = (date.fromisoformat(about[name]) if about[name] else None for name in ("first", "last"))
            listing.missing |= about["missing"]
            if month.rows:
                listing.add(month, about["days"], first, newest)
            continue
        for day in (day for day in _days(use_case, end) if day in decisions):
            _add_day(listing, day, decisions[day])
    first_day = listing.first.isoformat() if listing.first else ""
    listing.missing = {day: why for day, why in listing.missing.items() if first_day and day > first_day}
    return listing


def load_rows(store: ArtifactStore, use_case: UseCase, parts: Sequence[ArtifactRef]) -> pa.Table:
    """The rows of all files, with every delivery of a label (see `core.training_rows.newest_rows`).

    Rows whose label was withdrawn in one of the files are left out. Raises TerminalError if there are no files,
    ArtifactCorrupt if one is not what its manifest states.
    """
    if not parts:
        raise TerminalError("NS-TRAIN-002", "There are no training rows; load history with backfill_history first.")
    return without_withdrawn(_all_rows(store, parts), use_case.key_columns, use_case.label)


def _all_rows(store: ArtifactStore, parts: Sequence[ArtifactRef]) -> pa.Table:
    tables = in_parallel(lambda part: store.read_table(part, ROWS), parts)
    # A feature that was declared later is null in older files.
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def load_training_set(store: ArtifactStore, use_case: UseCase, training_set: ArtifactRef) -> pa.Table:
    """`load_rows` of the files that an artifact of `build_training_set` lists."""
    return load_rows(store, use_case, store.read_document(training_set, TrainingSet).parts)


def _add_day(listing: KnownRows, day: date, decision: Decision | None) -> None:
    ref = _ref(decision)
    if ref is None:
        listing.missing[day.isoformat()] = decision.reason if decision else NOT_RUN
        return
    listing.add(ref, int(ref.rows > 0), day if ref.rows else None, day if ref.rows else None)


def _compact(store: ArtifactStore, use_case: UseCase, end: date) -> ArtifactRef:
    """Write one file of a month's rows; repeated if a day changed meanwhile."""
    while True:
        decisions = store.decisions(use_case.name, STEP, _days(use_case, end))
        listing = KnownRows()
        for day, decision in decisions.items():
            _add_day(listing, day, decision)
        with_rows = [part for part in listing.parts if part.rows]
        ref = store.commit(
            use_case=use_case.name,
            step=STEP,
            partition=end,
            variant=MONTH,
            kind="training_rows",
            files={ROWS: _all_rows(store, with_rows)} if with_rows else {},
            inputs={"rows": listing.parts},
            parameters={
                "first": listing.first and listing.first.isoformat(),
                "last": listing.last and listing.last.isoformat(),
                "days": listing.days,
                "missing": listing.missing,
            },
            rows=sum(part.rows for part in listing.parts),
        )
        if store.decisions(use_case.name, STEP, list(decisions)) == decisions:
            return ref


def _decide(store: ArtifactStore, use_case: UseCase, partition: date, decision: Decision) -> None:
    # Before, in case this process ends in between; after, in case the month is compacted in between.
    _reopen_month(store, use_case, partition, decision)
    if store.decision(use_case.name, STEP, partition) != decision:
        store.decide(use_case.name, STEP, partition, decision)
        _reopen_month(store, use_case, partition, decision)


def _reopen_month(store: ArtifactStore, use_case: UseCase, partition: date, decision: Decision) -> None:
    """Mark a partition's month as not compacted, unless its file already contains this status of the partition."""
    end = _end(partition)
    month = _ref(store.decision(use_case.name, STEP, end, variant=MONTH))
    if month is None:
        return
    manifest = store.manifest(month)
    unchanged = (
        decision.ref in manifest.inputs.get("rows", ())
        if decision.ref
        else manifest.parameters["missing"].get(partition.isoformat()) == decision.reason
    )
    if not unchanged:
        reopened = Decision(status="rejected", reason=f"the rows of {partition} were made again")
        store.decide(use_case.name, STEP, end, reopened, variant=MONTH)


def _month_decisions(store: ArtifactStore, use_case: UseCase, ends: Sequence[date]) -> dict[date, Decision | None]:
    decisions = in_parallel(lambda end: store.decision(use_case.name, STEP, end, variant=MONTH), ends)
    return dict(zip(ends, decisions, strict=True))


def _ref(decision: Decision | None) -> ArtifactRef | None:
    return decision.published if decision else None


def _months(use_case: UseCase, last: date) -> list[date]:
    """The last days of the use case's months before that of `last`."""
    ends, end = [], _end(use_case.first_partition)
    while end < last.replace(day=1):
        ends.append(end)
        end = _end(end + timedelta(days=1))
    return ends


def _end(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def _days(use_case: UseCase, day: date) -> list[date]:
    """The partitions of a day's month, from the use case's first one on."""
    return partition_range(max(day.replace(day=1), use_case.first_partition), _end(day))
