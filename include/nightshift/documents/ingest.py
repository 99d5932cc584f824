"""Documents of ingestion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import ClassVar

from pydantic import Field

from nightshift.artifact import Document, Value
from nightshift.declare.models import Scalar


class LandedFeed(Value):
    """Numbers of rows that `land` read of a feed, set aside and dropped. `repeated_files`: uri of a file with the same
    bytes as another one, which was not read, to that of the other. `bytes`: size of the files read, as delivered; null
    of predictions of another use case, and in artifacts of earlier versions."""

    delivered: int
    quarantined: int
    exact_duplicates: int
    repeated_files: Mapping[str, str]
    degraded: str = ""
    bytes: int | None = None


class Landed(Document):
    """What `land` read, by feed."""

    FILE: ClassVar[str] = "landed.json"

    feeds: Mapping[str, LandedFeed]


class ColumnProfile(Value):
    """Statistics of a column: `distinct` leaves nulls out; dates and times are ISO text (UTC).

    Of numbers: mean, std (of the population), quantiles (linear); of others the most frequent values with counts.
    """

    type: str
    nulls: int
    distinct: int
    min: Scalar
    max: Scalar
    mean: float | None = None
    std: float | None = None
    quantiles: Mapping[str, float | None] | None = None
    top_values: tuple[tuple[Scalar, int], ...] | None = None


class TableProfile(Value):
    """Profile of a table. Without rows, statistics are None."""

    rows: int
    columns: Mapping[str, ColumnProfile]


class LabelCorrections(Value):
    """Labels that a partition delivered; those of them for rows that had a label before; of these, other ones than
    before, and withdrawn ones."""

    labels: int
    repeated: int
    flipped: int
    withdrawn: int


LOOKED_BACK_DAYS = 7
"""Partitions that a night looks back, for those that a fault left behind."""


class CatchUp(Document):
    """What the partitions before one lack.

    `run_again`: partitions to ingest again now, with the reason. `changed`: landed files that were added or changed
    since their partition was landed; `changed_to`: their names and contents as a hash. `outdated`: partitions with
    features, each with the earlier partitions that were published, or published again, after they were built.
    """

    FILE: ClassVar[str] = "catch_up.json"

    run_again: Mapping[date, str] = Field(default_factory=dict)
    changed: Mapping[date, tuple[str, ...]] = Field(default_factory=dict)
    changed_to: Mapping[date, str] = Field(default_factory=dict)
    outdated: Mapping[date, tuple[date, ...]] = Field(default_factory=dict)
