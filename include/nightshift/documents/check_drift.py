"""Documents of the drift check."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar, Literal

from nightshift.artifact import Document, Value

DriftKind = Literal["data", "prediction", "label", "concept", "skew"]
"""Of feeds and features; of scores; of the share of positive labels; of residuals and losses; of the features used in
scoring from those used in training."""

DriftVerdict = Literal["stable", "drifted", "not judged"]
Statistic = Literal[
    "rows",
    "nulls",
    "new",
    "gone",
    "commonest",
    "shape",
    "unseen",
    "outside",
    "level",
    "spread",
    "repeated",
    "rate",
    "residual",
    "loss",
    "ranking",
    "skew",
]
"""See core.monitoring.drift, core.monitoring.outcome_drift and core.monitoring.skew."""


class ColumnDrift(Value):
    """A statistic of a column's last `days` days, and its range `low` to `high` in the reference.

    `source`: the feed, feature view, `scores` or `outcomes`; `column`: empty for the rows of a source, `name=value`
    for a slice. `excess`: how far outside the range the value is, as a multiple of what is tolerated: beyond 1 or -1
    it has drifted. `skew` has no reference: its range is 0.
    """

    source: str
    column: str
    statistic: Statistic
    days: int
    value: float
    low: float
    high: float
    excess: float

    @property
    def drifted(self) -> bool:
        """Whether it has drifted."""
        return abs(self.excess) > 1

    @property
    def name(self) -> str:
        """Source and column, for messages."""
        return f"{self.source}.{self.column}" if self.column else self.source


class Curve(Value):
    """A statistic in the windows that end on `days`; the last one is the partition's."""

    drift: ColumnDrift
    days: tuple[date, ...]
    values: tuple[float, ...]


class GroupDrift(Value):
    """Columns of one kind, the largest excess first."""

    verdict: DriftVerdict
    reason: str
    columns: tuple[ColumnDrift, ...]

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """Those that have drifted."""
        return tuple(one for one in self.columns if one.drifted)


class Drift(Document):
    """A partition compared with the partitions before it. `model_version`: the primary version that scored it.

    `curves`: of the columns of deliveries, features and scores with the largest excess.
    """

    FILE: ClassVar[str] = "drift.json"

    use_case: str
    partition: date
    model_version: str
    verdict: DriftVerdict
    groups: Mapping[DriftKind, GroupDrift]
    curves: tuple[Curve, ...] = ()
