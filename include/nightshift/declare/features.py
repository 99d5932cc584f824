"""Feature tables: one Feast feature view each, and the SQL that computes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FeatureTable:
    """One Feast feature view and the SQL behind it.

    `sql` reads the tables that `FeatureSet.prelude` creates and returns the view's `join_keys` (strings), `numeric`
    (float64) and `categorical` (string) features, one row per entity, for one partition. `event_timestamp`, the
    partition's cutoff, is added afterwards. `monitored`: further columns (float64) for the drift check alone; no model
    and no feature view has them. They compare a delivery with earlier ones, which the deliveries' own columns cannot.
    """

    name: str
    join_keys: tuple[str, ...]
    sql: Path
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    monitored: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """All feature tables of a use case, computed in one pass per partition.

    `prelude` is SQL run first, over one table per feed holding the deliveries of the last
    `lookback_days` partitions with the delivery day in `delivered_on`; `$partition` (date),
    `$cutoff`, `$window_start` and `$window_end` (timestamps, UTC) are bound in every query.
    `service` names the Feast feature service over all tables. `join_keys` are the join keys that are also categorical
    features.
    """

    prelude: Path
    tables: tuple[FeatureTable, ...]
    lookback_days: int
    service: str
    join_keys: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of all numeric features."""
        return tuple(name for table in self.tables for name in table.numeric)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of all categorical features."""
        return (*self.join_keys, *(name for table in self.tables for name in table.categorical))
