"""What a use case declares: tables, expectations, features, label, policies. Plain data, cheap to import.

A use case is a folder with a `use_case.py` that binds `USE_CASE`. SQL lives in files beside it
and is named here by path. DAG files import this module at parse time, so nothing here imports
a data or machine-learning library.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nightshift.declare.models import ModelSpec
from nightshift.errors import ConfigurationError, UnknownUseCase
from nightshift.policies import (
    ChangePolicy,
    DataSource,
    PromotionPolicy,
    RiskPolicy,
    SearchPolicy,
    SlicePolicy,
    VerificationPolicy,
)

ColumnType = Literal["string", "int64", "float64", "bool", "date", "timestamp"]
Severity = Literal["critical", "quarantine", "warning"]

ROOTS_VARIABLE = "NIGHTSHIFT_USE_CASE_ROOTS"
USE_CASE_FILES = "include/*/use_case.py"
PROJECT_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Column:
    """A column. `timestamp` means microseconds, UTC; `date` a calendar day in the use case's time zone."""

    name: str
    type: ColumnType
    nullable: bool = True
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigurationError for a type that there is not."""
        if self.type not in get_args(ColumnType):
            raise ConfigurationError(
                f"Column {self.name!r} has the type {self.type!r}; a type is one of {', '.join(get_args(ColumnType))}."
            )


@dataclass(frozen=True)
class Expectation:
    """One Great Expectations expectation, by its snake_case type and keyword arguments.

    `critical` stops the partition; `quarantine` sets the offending rows aside, with `reason`,
    and goes on; `warning` reports them and keeps them. A `quarantine` expectation must be a
    column-map or row-condition expectation, so that it can name rows. An argument may be
    `{"$PARAMETER": name}`: see nightshift.io.expectations for the names there are.
    """

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity
    reason: str


@dataclass(frozen=True)
class Feed:
    """One kind of delivery in the landing bucket: `landing/<use case>/<name>/dt=<partition>/*`.

    `landed` is the schema of the delivered files (CSV or Parquet). `normalise` is a SQL file
    that reads a table `landed` (those columns plus `landed_uri` and `landed_row`) and returns
    one row for each row, with the `curated` columns plus `landed_uri` and `landed_row`; further
    columns are there for the expectations only and are not published.
    `key` names the curated columns that identify a row within one delivery.
    A `snapshot` feed is delivered now and then; a partition takes the newest delivery at or
    before it. A `daily` feed must be delivered for each partition.
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


@dataclass(frozen=True)
class FeatureTable:
    """One Feast feature view and the SQL behind it.

    `sql` reads the tables that `FeatureSet.prelude` made and returns the view's `join_keys` (strings), `numeric`
    (float64) and `categorical` (string) features, one row per entity, for one partition. `event_timestamp` is added
    by the machinery: it is the partition's cutoff.
    """

    name: str
    join_keys: tuple[str, ...]
    sql: Path
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """All feature tables of a use case, computed in one pass per partition.

    `prelude` is SQL run first, over one table per feed holding the deliveries of the last
    `lookback_days` partitions with the delivery day in `delivered_on`; `$partition` (date)
    and `$cutoff` (timestamp, UTC) are bound in every query. `service` names the Feast feature service over all
    tables. `join_keys` are those join keys that are categorical features themselves.
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


@dataclass(frozen=True)
class TrainingPolicy:
    """How `train` and `search` use training rows. Days are partitions.

    A version is fitted on all rows; `holdout_days` are held out only to measure a spec (a second fit). With fewer
    than `minimum_days` of rows nothing is trained. `estimators` and `techniques` are what `search` compares.
    """

    holdout_days: int = 14
    minimum_days: int = 28
    seed: int = 20130101
    estimators: tuple[str, ...] = ("logistic_regression", "xgboost")
    techniques: tuple[str, ...] = ("distilled_xgboost", "distilled_mlp", "distilled_mlp_int8")
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parity_tolerance: float = 1e-5


@dataclass(frozen=True)
class CompressionBudget:
    """What a candidate of a search may lose against the best one, and what "cheap" means.

    Quality comes first: the objective only decides among candidates that are not shown to be worse than the best
    and whose mean losses are within these bounds.
    """

    largest_auc_loss: float
    largest_log_loss_increase: float
    objective: Literal["rows_per_second", "bytes"] = "rows_per_second"


@dataclass(frozen=True)
class AuditPolicy:
    """Bounds on one partition's scores before they are published."""

    mean_score_between: tuple[float, float] = (0.01, 0.9)
    least_distinct_share: float = 0.05


@dataclass(frozen=True)
class DriftPolicy:
    """Thresholds are quantiles of what blocks of days of the reference show among themselves."""

    quantile: float = 0.99
    block_days: int = 1
    bins: int = 10
    resamples: int = 500
    minimum_reference_days: int = 14


@dataclass(frozen=True)
class UseCase:
    """One problem that Nightshift works on every night: who, when, which data, what is predicted and on what terms.

    `name` is also the folder's, the warehouse schema's and the DAGs' first part. Partition D runs at `cutoff_time` of
    the day after it, in `timezone`; `first_partition` is the first that is delivered, `last_partition` where a replay
    of the past ends (None: deliveries go on). `training_spine` and `scoring_spine` are SQL files that return the rows
    with labels and the rows to score; `labels_from` names the feeds that the first reads (empty: all), `label` is its
    column with 0 or 1. `score` names the probability in the predictions table; from `decision_threshold` on, the
    decision is positive. `prediction_key` names a row of that table, `prediction_extra` are further columns of it,
    `prediction_date` is the column of the key with the day that is predicted. `champion` is the spec that serves
    first, `fallback` serves where there is no champion, `challengers` can be named in a backtest.
    """

    name: str
    title: str
    owner: str
    folder: Path
    timezone: str
    cutoff_time: time
    first_partition: date
    feeds: tuple[Feed, ...]
    features: FeatureSet
    training_spine: Path
    scoring_spine: Path
    label: str
    score: str
    decision_threshold: float
    prediction_key: tuple[Column, ...]
    prediction_extra: tuple[Column, ...]
    prediction_date: str
    champion: ModelSpec
    fallback: ModelSpec
    compression: CompressionBudget
    challengers: tuple[ModelSpec, ...] = ()
    labels_from: tuple[str, ...] = ()
    training: TrainingPolicy = field(default_factory=TrainingPolicy)
    change: ChangePolicy = field(default_factory=ChangePolicy)
    promotion: PromotionPolicy = field(default_factory=PromotionPolicy)
    audit: AuditPolicy = field(default_factory=AuditPolicy)
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    verification: VerificationPolicy = field(default_factory=VerificationPolicy)
    slices: SlicePolicy = field(default_factory=SlicePolicy)
    risk: RiskPolicy = field(default_factory=RiskPolicy)
    search: SearchPolicy = field(default_factory=SearchPolicy)
    sources: tuple[DataSource, ...] = ()
    tags: tuple[str, ...] = ()
    last_partition: date | None = None

    def __post_init__(self) -> None:
        """Raises ConfigurationError for a declaration that contradicts itself or a cutoff that a day lacks."""
        known = {*self.features.numeric, *self.features.categorical}
        expected = {expectation.feature for expectation in self.verification.expectations}
        if unknown := sorted((expected | set(self.slices.columns)) - known):
            raise ConfigurationError(
                f"{self.name} declares expectations or slices of {unknown}, which are none of its features."
            )
        names = [column.name for column in self.prediction_key]
        if self.prediction_date not in names:
            raise ConfigurationError(
                f"{self.name}: prediction_date {self.prediction_date!r} is not a column of prediction_key, {names}."
            )
        if strange := sorted(set(self.labels_from) - {feed.name for feed in self.feeds}):
            raise ConfigurationError(f"{self.name}: labels_from names {strange}, which are none of its feeds.")
        if day := _day_without_one_cutoff(self.timezone, self.cutoff_time, self.first_partition):
            raise ConfigurationError(
                f"{self.name}: on {day} the clocks of {self.timezone} skip or repeat the cutoff_time "
                f"{self.cutoff_time}. Choose a time that every day has exactly once."
            )

    @property
    def feature_repo(self) -> Path:
        """The file with the use case's Feast definitions."""
        return self.folder.parents[1] / "feature_repo" / f"{self.name}.py"

    @property
    def cron(self) -> str:
        """The schedule of the root DAG, in the use case's time zone."""
        return f"{self.cutoff_time.minute} {self.cutoff_time.hour} * * *"

    @property
    def specs(self) -> dict[str, ModelSpec]:
        """Every declared spec by its id: first champion, fallback, challengers."""
        return {spec.spec_id: spec for spec in (self.champion, self.fallback, *self.challengers)}

    @property
    def label_feeds(self) -> tuple[str, ...]:
        """Names of the feeds that labels are read from."""
        return self.labels_from or self.feed_names

    @property
    def feed_names(self) -> tuple[str, ...]:
        """Names of all feeds, in the order declared."""
        return tuple(feed.name for feed in self.feeds)

    @property
    def key_columns(self) -> list[str]:
        """Names of the columns that identify a prediction."""
        return [column.name for column in self.prediction_key]

    def feed(self, name: str) -> Feed:
        """The feed of that name. Raises ConfigurationError."""
        for feed in self.feeds:
            if feed.name == name:
                return feed
        raise ConfigurationError(f"{self.name} declares no feed {name!r}; it declares {self.feed_names}.")

    def cutoff(self, partition: date) -> datetime:
        """The moment, in UTC, after which nothing may touch this partition: `cutoff_time` on the next day."""
        local = datetime.combine(partition + timedelta(days=1), self.cutoff_time, ZoneInfo(self.timezone))
        return local.astimezone(UTC)


@cache
def _day_without_one_cutoff(timezone: str, cutoff: time, first: date) -> date | None:
    """The first day of ten years on which a change of the clocks skips or repeats that time of the day."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(f"{timezone!r} is no time zone; use a name such as Europe/Vienna.") from error
    for day in range(3653):
        local = datetime.combine(first, cutoff, zone) + timedelta(days=day)
        if local.astimezone(UTC) != local.replace(fold=1).astimezone(UTC):
            return local.date()
    return None


def parse_partition(key: str) -> date:
    """A partition key `YYYY-MM-DD` as a date. Raises ConfigurationError for anything else."""
    try:
        parsed = date.fromisoformat(key)
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat() != key:
        raise ConfigurationError(f"{key!r} is not a partition key; write it as YYYY-MM-DD, for example 2013-05-31.")
    return parsed


def partition_range(first: date, last: date) -> list[date]:
    """All partitions from first to last, both included; empty if last is before first."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def use_case_roots() -> list[Path]:
    """Folders that hold `include/<use case>/use_case.py` and `feature_repo/<use case>.py`.

    The project itself, and every folder named in NIGHTSHIFT_USE_CASE_ROOTS (separated as in PATH).
    """
    extra = [Path(p) for p in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if p]
    return [PROJECT_ROOT, *extra]


def load_use_case(name: str) -> UseCase:
    """The use case of that name; other use cases are not imported.

    Raises UnknownUseCase, ConfigurationError for a faulty declaration, and whatever importing its `use_case.py` raises.
    """
    return _load(use_case_file(name))


def all_use_cases() -> list[UseCase]:
    """Every use case that can be loaded, by name; `broken_use_cases` tells about the others."""
    return sorted(
        (_load(path) for path in _files().values() if _fault(path) is None), key=lambda use_case: use_case.name
    )


def broken_use_cases() -> dict[str, str]:
    """What is wrong, with file and line, by the path of each `use_case.py` or root that cannot be used."""
    faults = {str(path): _fault(path) for path in _files().values()}
    roots = {
        str(root): f"is in {ROOTS_VARIABLE} and has no include/<use case>/use_case.py"
        for root in use_case_roots()[1:]
        if not any(root.glob(USE_CASE_FILES))
    }
    return roots | {path: fault for path, fault in faults.items() if fault is not None}


def _files() -> dict[str, Path]:
    """The `use_case.py` of each use case by name; of two with one name, that of the first root."""
    files = [path for root in use_case_roots() for path in sorted(root.glob(USE_CASE_FILES))]
    return {path.parent.name: path for path in reversed(files)}


@cache
def _fault(path: Path) -> str | None:
    """Why a use case cannot be loaded: the error and the last line of its own folder that led to it."""
    try:
        _load(path)
    except Exception as error:  # noqa: BLE001 - whatever a declaration raises must stop that use case alone
        file, line = raised_at(error, path.parent)
        where = f"{file}, line {line}: " if file else ""
        return f"{where}{type(error).__name__}: {error}"
    return None


def raised_at(error: BaseException, folder: Path) -> tuple[str, int | None]:
    """File and line of the last statement in a folder that led to an error; ("", None) if none there did."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if str(folder) in frame.filename]
    return (own[-1].filename, own[-1].lineno) if own else ("", None)


def use_case_file(name: str) -> Path:
    """The `use_case.py` of that name, whether it can be loaded or not. Raises UnknownUseCase."""
    files = _files()
    if name not in files:
        raise UnknownUseCase(
            f"No use case is called {name!r}; known are {sorted(files)}. "
            f"A use case is a folder include/<name>/ with a use_case.py, here or below {ROOTS_VARIABLE}."
        )
    return files[name]


@cache
def _load(path: Path) -> UseCase:
    include = str(path.parent.parent)
    if include not in sys.path:
        sys.path.append(include)
    module = importlib.import_module(f"{path.parent.name}.use_case")
    declared = getattr(module, "USE_CASE", None)
    if not isinstance(declared, UseCase):
        raise ConfigurationError(f"{path} must bind USE_CASE to a nightshift.usecase.UseCase.")
    if declared.name != path.parent.name:
        raise ConfigurationError(
            f"{path} declares the name {declared.name!r}; it must be its folder's name, {path.parent.name!r}."
        )
    return declared
