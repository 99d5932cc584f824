"""Training/serving skew: features as a row was scored with, against those that training has for the same row.

Put here: the comparison of the two, bit for bit. Keep out: distributions of features (drift).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.core.monitoring.drift import group
from nightshift.documents.check_drift import ColumnDrift, GroupDrift

NAMED = 3
"""Columns and partitions named in a reason."""


@dataclass(frozen=True)
class UsedFeatures:
    """The training rows of one partition's predictions, and the features that these were scored with.

    `trained`, `served`: key columns and features. `served` is None if the partition published no predictions.
    `republished`: whether the features were published again in between, so that both need not be equal.
    """

    partition: date
    trained: pa.Table
    served: pa.Table | None = None
    republished: bool = False


@dataclass(frozen=True)
class Differences:
    """Rows that were compared, and how many of them differ, by feature."""

    rows: int
    columns: Mapping[str, int]


def differences(one: UsedFeatures, key: Sequence[str]) -> Differences:
    """Compare the features that both tables have, row by row of equal key.

    Numbers are equal if their bits are; NaN and null are one value. Served features are cast to the types of the
    training rows, as training casts them.
    """
    if one.served is None:
        return Differences(0, {})
    trained = one.trained.select(list(key)).append_column("trained", pa.array(np.arange(one.trained.num_rows)))
    served = one.served.select(list(key)).cast(one.trained.select(list(key)).schema)
    served = served.append_column("served", pa.array(np.arange(one.served.num_rows)))
    pairs = trained.join(served, keys=list(key), join_type="inner")
    columns = {}
    for name in one.served.column_names:
        if name in key or name not in one.trained.column_names:
            continue
        then, now = one.served[name].take(pairs["served"]), one.trained[name].take(pairs["trained"])
        columns[name] = int((~_equal(then.cast(now.type), now)).sum())
    return Differences(pairs.num_rows, columns)


def skew(parts: Sequence[UsedFeatures], key: Sequence[str], source_of: Mapping[str, str], nothing: str) -> GroupDrift:
    """The verdict on the features of all parts; any row that differs is drift.

    One ColumnDrift a feature: the share of rows that differ. `source_of`: the feature view, or the spine, by feature.
    `nothing`: the reason if there are no parts. Rows whose features were published again after scoring, and rows
    without a prediction, are counted in the reason, and do not decide.
    """
    rows: Counter[str] = Counter()
    different: Counter[str] = Counter()
    compared = unmatched = 0
    republished: list[str] = []
    for one in parts:
        found = differences(one, key)
        unmatched += one.trained.num_rows - found.rows
        if one.republished:
            republished.append(_republished(one.partition, found))
            continue
        compared += found.rows
        rows.update(dict.fromkeys(found.columns, found.rows))
        different.update(found.columns)
    judged = [_column(source_of[name], name, different[name], count) for name, count in rows.items() if count]
    counted = [f"{compared} rows compared"] if compared else []
    counted += [f"{unmatched} rows have no prediction"] if unmatched else []
    counted += republished[:NAMED]
    verdict = group(judged, "; ".join(counted) or nothing)
    return verdict.model_copy(update={"reason": "; ".join([verdict.reason, *counted])}) if judged else verdict


def _column(source: str, name: str, different: int, rows: int) -> ColumnDrift:
    return ColumnDrift(
        source=source,
        column=name,
        statistic="skew",
        days=1,
        value=different / rows,
        low=0.0,
        high=0.0,
        # Half a row is tolerated, so that one is drift.
        excess=2.0 * different,
    )


def _republished(partition: date, found: Differences) -> str:
    names = sorted(name for name, count in found.columns.items() if count)
    more = ", ..." if len(names) > NAMED else ""
    differ = f"{', '.join(names[:NAMED])}{more} differ" if names else "they are equal"
    return (
        f"the features of {partition} were published again after its {found.rows} rows were scored, which are not "
        f"judged: {differ}"
    )


def _equal(then: pa.ChunkedArray, now: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Whether two columns of one type have the same bits, row by row; NaN and null are one value."""
    if pa.types.is_floating(now.type):
        first, second = (column.to_numpy(zero_copy_only=False).astype(np.float64) for column in (then, now))
        return np.asarray((first.view(np.int64) == second.view(np.int64)) | (np.isnan(first) & np.isnan(second)))
    missing = pc.and_(pc.is_null(then), pc.is_null(now))
    return np.asarray(pc.or_(pc.fill_null(pc.equal(then, now), False), missing))
