"""Published partitions of a step, read as one table per file. Used by the offline store."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Lock
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.errors import ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import READERS, in_parallel
from nightshift.partitions import parse_partition

SCHEME = "artifacts"
CLOCK_SLACK = timedelta(days=2)
"""A partition's event timestamps lie within this much of its date, whatever the time zone and the cutoff."""


@dataclass(frozen=True)
class ArtifactSource:
    """One file of each published partition of a step: `artifacts://<use case>/<step>/<file>`."""

    use_case: str
    step: str
    file: str

    @classmethod
    def parse(cls, path: str) -> ArtifactSource:
        """From the path of a Feast FileSource. Raises ConfigurationError."""
        url = urlparse(path)
        step, _, file = url.path.strip("/").partition("/")
        if url.scheme != SCHEME or not (url.netloc and step and file):
            raise ConfigurationError(
                "NS-FEATURE-015", f"{path!r} names no artifacts; write {SCHEME}://<use case>/<step>/<view>.parquet."
            )
        return cls(url.netloc, step, file)


class PublishedPartitions:
    """Reads published partitions of an artifact store in parallel, every file's hash checked.

    With `pinned` only those artifacts are read, whatever their status is now, and each entity row gets the values of
    its own partition or none; without, those that are published now. With `copies`, files are copied there once, and
    only those row groups are read that may have the join keys that are looked for: for many reads of large files.
    """

    def __init__(
        self, store: ArtifactStore, pinned: Mapping[date, ArtifactRef] | None = None, copies: ExitStack | None = None
    ) -> None:
        self._store, self._copies, self._lock = store, copies, Lock()
        self._copied: dict[tuple[ArtifactRef, str], Path] = {}
        self.pinned = pinned

    def read(
        self,
        source: ArtifactSource,
        columns: Sequence[str],
        first: datetime,
        last: datetime,
        keys: Mapping[str, pa.ChunkedArray] | None = None,
    ) -> pa.Table:
        """The columns of all rows from first to last, and of some days around them; by partition, then as stored.

        `keys`: values of join keys; rows with others may be missing. Raises ArtifactCorrupt if bytes are not what a
        manifest states, ConfigurationError if no partition at all is published in that range or a column is missing.
        """
        refs = self._refs(source, (first - CLOCK_SLACK).date(), (last + CLOCK_SLACK).date())
        sought = _among(keys or {}) if self._copies is not None else None
        tables = in_parallel(
            lambda ref: self._read_file(ref, source.file, list(columns), sought), refs, workers=READERS * 2
        )
        if not tables:
            raise ConfigurationError(
                "NS-FEATURE-016",
                f"No partition of {source.use_case} {source.step} between {first:%Y-%m-%d} and {last:%Y-%m-%d} is "
                f"published. Run or backfill {source.use_case}.materialize.",
            )
        return pa.concat_tables(tables)

    def _refs(self, source: ArtifactSource, first: date, last: date) -> list[ArtifactRef]:
        if self.pinned is not None:
            return [ref for partition, ref in sorted(self.pinned.items()) if first <= partition <= last]
        folders = self._store.folders(self._store.step_prefix(source.use_case, source.step))
        partitions = [day for day in map(parse_partition, folders) if first <= day <= last]
        decisions = self._store.decisions(source.use_case, source.step, partitions)
        return [d.ref for d in decisions.values() if d is not None and d.status == "published" and d.ref is not None]

    def _read_file(self, ref: ArtifactRef, path: str, columns: list[str], sought: pc.Expression | None) -> pa.Table:
        if self._copies is None:
            content: Path | pa.BufferReader = pa.BufferReader(self._store.read(ref, path))
        else:
            content = self._copy(ref, path, self._copies)
        absent = sorted(set(columns) - set(pq.read_schema(content).names))
        if absent:
            raise ConfigurationError(
                "NS-FEATURE-017",
                f"{ref.uri}{path} has no column {', '.join(absent)}: it was published under an older definition. "
                f"Backfill the materialize stage of its partition.",
            )
        return pq.read_table(content, columns=columns, filters=sought, use_threads=False)

    def _copy(self, ref: ArtifactRef, path: str, copies: ExitStack) -> Path:
        with self._lock:
            if (ref, path) not in self._copied:
                self._copied[ref, path] = copies.enter_context(self._store.opened(ref, path))
            return self._copied[ref, path]


def _among(keys: Mapping[str, pa.ChunkedArray]) -> pc.Expression | None:
    """Rows with these values of the join keys. Statistics of row groups are compared with the bounds only."""
    conditions = []
    for name, values in keys.items():
        distinct = values.unique().drop_null()
        if len(distinct):
            bounds = pc.min_max(distinct)
            conditions.append(
                (pc.field(name) >= bounds["min"]) & (pc.field(name) <= bounds["max"]) & pc.field(name).isin(distinct)
            )
    return functools.reduce(operator.and_, conditions) if conditions else None
