"""Drift of one partition's data from the data that the model was trained on.

A reference holds, for every column, counts of rows per day and bin. A partition is binned the same
way and compared by the population stability index. The threshold of the index is not a
constant: it is estimated from the reference, by comparing each block of its days with all the
others. Rows of a day are correlated (they share its weather, say), so the block, not the row, is the
unit that is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import Document
from nightshift.core.arrays import Floats
from nightshift.declare.policies import DriftPolicy
from nightshift.documents.check_drift import ColumnDrift, DriftKind, DriftVerdict, GroupDrift, Response

Counts = npt.NDArray[np.int64]

REFERENCE_TABLE = "reference.parquet"
PSEUDO_COUNT = 0.5
MOST_LEVELS = 20


@dataclass(frozen=True)
class Bins:
    """How one column is binned; the last bin holds the nulls.

    Numeric: bin i is (edges[i-1], edges[i]], unbounded at both ends, NaN is null. The first
    and the last of them lie far outside the reference and are empty in it. `levels`, if any, are
    the values of the bins between.
    Categorical: one bin per level, then one for every other value.
    """

    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of bins, the one for nulls included."""
        return (len(self.edges) if self.kind == "numeric" else len(self.levels)) + 2

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each bin, for reports."""
        if self.kind == "categorical":
            return (*self.levels, "other", "missing")
        if not self.edges:
            return ("any", "missing")
        inner = self.edges[1:-1]
        if self.levels:
            between: tuple[str, ...] = self.levels
        elif not inner:
            between = ("usual",)
        else:
            texts = _texts(inner)
            between = (f"≤ {texts[0]}", *(f"{low} to {high}" for low, high in pairwise(texts)), f"> {texts[-1]}")
        return ("far below", *between, "far above", "missing")

    def assign(self, column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.intp]:
        """The bin of each value of a column (any numeric or boolean type, or strings)."""
        if self.kind == "numeric":
            values = as_floats(column)
            positions = np.searchsorted(np.asarray(self.edges, dtype=np.float64), values, side="left")
            return np.where(np.isnan(values), self.size - 1, positions)
        strings = column.cast(pa.string())
        level_codes = pc.fill_null(pc.index_in(strings, value_set=pa.array(self.levels, pa.string())), len(self.levels))
        codes = np.asarray(level_codes, dtype=np.intp)
        return np.where(np.asarray(pc.is_null(strings), dtype=bool), self.size - 1, codes)


class ReferenceBins(Document):
    """Days, bins and sparse columns of a Reference, whose counts are in the file REFERENCE_TABLE."""

    FILE: ClassVar[str] = "reference.json"

    days: tuple[date, ...]
    sparse: tuple[str, ...]
    bins: Mapping[str, Bins]


@dataclass(frozen=True)
class Reference:
    """Counts per column: array [day, bin] over `days`, which are sorted and distinct.

    Columns in `sparse` have values on some days only (a score on holdout days): days on which
    such a column has no value are not part of its history.
    """

    days: tuple[date, ...]
    bins: Mapping[str, Bins]
    counts: Mapping[str, Counts]
    sparse: tuple[str, ...] = ()

    def history(self, column: str) -> Counts:
        """Counts [day, bin] of the days that count for a column."""
        counts = self.counts[column]
        if column in self.sparse:
            counts = counts[counts[:, :-1].sum(axis=1) > 0]
        observed: Counts = counts[counts.sum(axis=1) > 0]
        return observed

    def count(self, table: pa.Table) -> dict[str, Counts]:
        """Rows per bin [bin] by column, for the reference's columns that the table has."""
        present = [name for name in self.bins if name in table.column_names]
        return {
            name: np.bincount(self.bins[name].assign(table[name]), minlength=self.bins[name].size) for name in present
        }

    def to_files(self) -> dict[str, bytes | pa.Table]:
        """Two files by name: non-zero counts, and a ReferenceBins."""
        parts = []
        for name, counts in self.counts.items():
            day, bin_ = np.nonzero(counts)
            parts.append(
                pa.table(
                    {
                        "column": pa.array([name] * len(day), pa.string()),
                        "day": pa.array([self.days[i] for i in day], pa.date32()),
                        "bin": pa.array(bin_, pa.int32()),
                        "rows": pa.array(counts[day, bin_], pa.int64()),
                    }
                )
            )
        bins = ReferenceBins(days=self.days, sparse=self.sparse, bins=self.bins)
        return {REFERENCE_TABLE: pa.concat_tables(parts), **bins.to_files()}

    @classmethod
    def from_files(cls, described: ReferenceBins, table: pa.Table) -> Reference:
        """The reference that `to_files` wrote, from its two files."""
        days, bins = described.days, described.bins
        position = np.searchsorted(np.asarray(days, "datetime64[D]"), table["day"].to_numpy())
        column, bin_, rows = table["column"].to_numpy(), table["bin"].to_numpy(), table["rows"].to_numpy()
        counts = {}
        for name, b in bins.items():
            mine = column == name
            counts[name] = np.zeros((len(days), b.size), np.int64)
            counts[name][position[mine], bin_[mine]] = rows[mine]
        return cls(days=days, bins=bins, counts=counts, sparse=described.sparse)


def build_reference(
    table: pa.Table,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    day_column: str,
    bins: int = 10,
    sparse: Sequence[str] = (),
) -> Reference:
    """Bin a reference table.

    `day_column` (date) is the day of a row. Numeric columns (including score and label)
    get about `bins` bins of equal mass, categorical ones a bin for each of their 20 most
    frequent values; each gets one for nulls. `sparse` names columns whose history excludes the
    days on which they are null.
    """
    days, position = np.unique(table[day_column].cast(pa.date32()).to_numpy(), return_inverse=True)
    column_bins = {name: numeric_bins(as_floats(table[name]), bins) for name in numeric}
    column_bins |= {name: categorical_bins(table[name]) for name in categorical}
    counts = {}
    for name, b in column_bins.items():
        flat = np.bincount(position * b.size + b.assign(table[name]), minlength=len(days) * b.size)
        counts[name] = flat.reshape(len(days), b.size)
    return Reference(days=tuple(days.tolist()), bins=column_bins, counts=counts, sparse=tuple(sparse))


def numeric_bins(values: Floats, bins: int) -> Bins:
    """Bins of about equal mass; a value that fills a bin gets one of its own.

    With at most `bins` distinct values: one bin each. A further bin at either end starts half the
    reference's range beyond it: equal-mass bins alone do not detect a column in the wrong unit, if
    its last bin is full on ordinary days.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Bins("numeric")
    distinct = np.unique(finite)
    low, high = float(distinct[0]), float(distinct[-1])
    outer = [low - (high - low) / 2, high + (high - low) / 2] if high > low else [np.nextafter(low, -np.inf), low]
    if len(distinct) <= bins:
        inner = (distinct[:-1] + distinct[1:]) / 2
        return Bins("numeric", (outer[0], *inner.tolist(), outer[1]), tuple(f"{value:.6g}" for value in distinct))
    cuts = np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    repeated = np.unique(cuts[1:][cuts[1:] == cuts[:-1]])
    inner = np.unique(np.concatenate([cuts, np.nextafter(repeated, -np.inf)]))
    inner = inner[(inner >= low) & (inner < high)]
    return Bins("numeric", (outer[0], *inner.tolist(), outer[1]))


def categorical_bins(column: pa.ChunkedArray) -> Bins:
    """A bin for each of the most frequent values, ties broken by name."""
    counted = pc.value_counts(column.cast(pa.string()).drop_null())
    values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
    ordered = sorted(zip(values, counts, strict=True), key=lambda item: (-item[1], item[0]))
    return Bins("categorical", levels=tuple(value for value, _ in ordered[:MOST_LEVELS]))


def as_floats(column: pa.ChunkedArray | pa.Array) -> Floats:
    """A numeric or boolean column as float64, nulls as NaN."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64()), dtype=np.float64)


def _texts(edges: Sequence[float]) -> list[str]:
    """Numbers with as few decimals as keep them distinct; those that differ by rounding only may be equal."""
    gaps = [high - low for low, high in pairwise(edges) if high - low > 1e-9 * max(abs(high), abs(low))]
    digits = 6 if not gaps else int(np.clip(1 - np.floor(np.log10(min(gaps))), 0, 6))
    return [f"{edge:.{digits}f}" if abs(edge) < 1e9 else f"{edge:.3g}" for edge in edges]


def shares(counts: Counts) -> Floats:
    """Share of each bin (last axis), with half a row added to each bin, so that none is 0."""
    padded = counts + PSEUDO_COUNT
    return np.asarray(padded / padded.sum(axis=-1, keepdims=True), dtype=np.float64)


def population_stability_index(observed: Floats, expected: Floats) -> Floats:
    """PSI = sum over bins (last axis) of (observed - expected) * ln(observed / expected).

    Both are shares above 0. This is the symmetrised Kullback-Leibler divergence (Jeffreys 1946).
    """
    return np.asarray(((observed - expected) * np.log(observed / expected)).sum(axis=-1), dtype=np.float64)


def block_indices(history: Counts, policy: DriftPolicy, seed: int) -> Floats:
    """PSI of blocks of consecutive days compared with all other days: one value per block.

    Every block once if there are at most `policy.resamples`, else that many drawn without
    replacement.
    """
    days = len(history)
    starts = np.arange(days - policy.block_days + 1)
    if len(starts) > policy.resamples:
        starts = np.sort(np.random.default_rng(seed).choice(starts, policy.resamples, replace=False))
    running = np.vstack([np.zeros((1, history.shape[1]), np.int64), history.cumsum(axis=0)])
    block = running[starts + policy.block_days] - running[starts]
    return population_stability_index(shares(block), shares(history.sum(axis=0) - block))


def upper_quantile(values: npt.NDArray[Any], quantile: float) -> Any:
    """The bound, along axis 0, that one more value of the same kind exceeds with probability 1 - quantile at most.

    The value of rank ceil((n + 1) * quantile) of n, as in split conformal prediction (Papadopoulos
    et al. 2002). With n < quantile / (1 - quantile) values it is the largest, and the probability 1 / (n + 1).
    """
    rank = min(len(values), int(np.ceil((len(values) + 1) * quantile)))
    return np.partition(values, rank - 1, axis=0)[rank - 1]


def compare(
    reference: Reference, counts: Mapping[str, Counts], columns: Iterable[str], policy: DriftPolicy, seed: int
) -> GroupDrift:
    """Compare a group of columns of a partition with the reference; `counts` are from `Reference.count`.

    A column exceeds if its index is above the `policy.quantile` (`upper_quantile`) of the indices of
    reference blocks compared with the rest. With many columns some exceed on any day, so the group has drifted only
    if more of them do than at that same quantile of the reference's own blocks.
    """
    names = [name for name in columns if name in counts]
    histories = {name: reference.history(name) for name in names}
    least = max(policy.minimum_reference_days, 2 * policy.block_days)
    drifts, normal = [], {}
    for name in names:
        history, rows = histories[name], int(counts[name].sum())
        psi = float(population_stability_index(shares(counts[name]), shares(history.sum(axis=0)))) if rows else 0.0
        threshold = None
        if len(history) >= least and rows:
            normal[name] = block_indices(history, policy, seed)
            threshold = float(upper_quantile(normal[name], policy.quantile))
        exceeds = threshold is not None and psi > threshold
        drifts.append(ColumnDrift(column=name, psi=psi, threshold=threshold, exceeds=exceeds, rows=rows))
    if not normal:
        days = max((len(history) for history in histories.values()), default=0)
        reason = f"needs rows and at least {least} days of reference; the reference has {days}"
        return GroupDrift(verdict="not judged", reason=reason, allowed=0, columns=tuple(drifts))
    allowed = _allowed(list(normal.values()), policy.quantile)
    exceeding = sum(c.exceeds for c in drifts)
    verdict: DriftVerdict = "drifted" if exceeding > allowed else "stable"
    reason = f"{exceeding} of {len(normal)} columns beyond their threshold; ordinary days show up to {allowed}"
    if len(normal) == 1:
        reason = "beyond its threshold" if exceeding else "within its threshold"
    blocks = min(len(values) for values in normal.values())
    if blocks + 1 < 1 / (1 - policy.quantile):
        reason += f" (so short a reference, {blocks} days, gives one false alarm in {blocks + 1} nights)"
    return GroupDrift(verdict=verdict, reason=reason, allowed=allowed, columns=tuple(drifts))


def _allowed(normal: Sequence[Floats], quantile: float) -> int:
    """How many columns exceed at once on the reference's own blocks, at the quantile.

    A block is compared with thresholds computed without it, as a new partition is.
    """
    blocks = min(len(values) for values in normal)
    aligned = np.column_stack([values[-blocks:] for values in normal])
    beyond = np.empty_like(aligned, dtype=bool)
    for block in range(blocks):
        beyond[block] = aligned[block] > upper_quantile(np.delete(aligned, block, axis=0), quantile)
    if aligned.shape[1] == 1:
        return 0
    return int(upper_quantile(beyond.sum(axis=1), quantile))


def overall_verdict(groups: Sequence[GroupDrift]) -> DriftVerdict:
    """Drifted if any group is, stable if none is and at least one could be evaluated, else not judged."""
    verdicts = {group.verdict for group in groups}
    for verdict in ("drifted", "stable"):
        if verdict in verdicts:
            return verdict
    return "not judged"


def response(verdicts: Mapping[DriftKind, DriftVerdict]) -> Response:
    """The response to the verdicts on `data`, `prediction` and `label`.

    Retrain if the labels have drifted, or both the inputs and the scores (data and prediction). One of
    these alone is an alert: a model can be right about inputs it has rarely seen, and the reference of
    scores spans the holdout only, so it exceeds its threshold more often than declared.
    """
    drifted = {group for group, verdict in verdicts.items() if verdict == "drifted"}
    if "label" in drifted or {"data", "prediction"} <= drifted:
        return "retrain"
    return "alert" if drifted else "none"
