"""Feeds: what is delivered, its columns and the expectations on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nightshift.declare.predictions import Predictions
from nightshift.errors import ConfigurationError

ColumnType = Literal["string", "int64", "float64", "bool", "date", "timestamp"]
Severity = Literal["critical", "quarantine", "warning"]


@dataclass(frozen=True)
class Column:
    """A column. `timestamp` means microseconds, UTC; `date` a calendar day in the use case's time zone."""

    name: str
    type: ColumnType
    nullable: bool = True
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigurationError for an unknown type."""
        if self.type not in get_args(ColumnType):
            raise ConfigurationError(
                "NS-USECASE-004",
                f"Column {self.name!r} has the type {self.type!r}; a type is one of {', '.join(get_args(ColumnType))}.",
            )


@dataclass(frozen=True)
class Expectation:
    """One Great Expectations expectation, by its snake_case type and keyword arguments.

    A breach of a `critical` one rejects the partition; `quarantine` sets the offending rows aside,
    with `reason`; `warning` reports them and keeps them. A `quarantine` expectation must be a
    column-map or row-condition expectation, which can identify rows. An argument may be
    `{"$PARAMETER": name}`: nightshift.io.expectation_arguments lists the names.
    """

    type: str
    kwargs: Mapping[str, object]
    severity: Severity
    reason: str


@dataclass(frozen=True)
class Feed:
    """One kind of delivery in the landing bucket: `landing/<use case>/<name>/dt=<partition>/*`.

    `landed` is the schema of the delivered files (CSV or Parquet). `normalise` is a SQL file
    that reads a table `landed` (those columns plus `landed_uri` and `landed_row`) and returns
    one row for each row, with the `curated` columns plus `landed_uri` and `landed_row`; further
    columns are used by the expectations only and are not published.
    `key` names the curated columns that identify a row within one delivery.
    A `snapshot` feed is delivered irregularly; a partition uses the newest delivery at or
    before it. A `daily` feed must be delivered for each partition.
    `end_mark`: name of an object that the producer puts beside the files once all of them are there, for
    example `_SUCCESS`; until then the delivery counts as not there. Without one, a delivery counts once its
    files are `settle_seconds` old (a setting).
    `max_bytes`: a larger delivery is rejected, before it is read or while it is decoded; a row counts as 100 bytes
    besides its cells. So a small file that inflates to gigabytes takes a bounded amount of memory.

    With a `source`, nothing is delivered to the landing bucket: the rows are the published predictions of another use
    case. `landed` then names columns of these: of its `prediction_key` and `prediction_extra`, its score (float64),
    `decision` (bool) and `model_version` (string).
    """

    name: str
    landed: tuple[Column, ...]
    curated: tuple[Column, ...]
    normalise: Path
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...] = ()
    cadence: Literal["daily", "snapshot"] = "daily"
    delimiter: str = ","
    null_values: tuple[str, ...] = ("", "NA")
    end_mark: str = ""
    max_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        """Raises ConfigurationError for an end mark that would be read as data."""
        if self.end_mark and not self.end_mark.startswith(("_", ".")):
            raise ConfigurationError(
                "NS-USECASE-099",
                f"Feed {self.name!r} has the end mark {self.end_mark!r}, which would be read as data; begin "
                f"it with '_' or '.', for example _SUCCESS.",
            )

    source: Predictions | None = None
