"""A use case: feeds, features, label, specs and policies of one problem. Plain data, cheap to import.

A use case is a folder with a `use_case.py` that binds `USE_CASE`. Its SQL files are in the same folder and are named
by path. DAG files import it at parse time, so nothing in this package imports a data or machine-learning library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nightshift.declare.features import FeatureSet
from nightshift.declare.feeds import Column, Feed
from nightshift.declare.models import ModelSpec
from nightshift.declare.policies import (
    AttackPolicy,
    AuditPolicy,
    CertaintyPolicy,
    ChangePolicy,
    CompressionBudget,
    CorrectionPolicy,
    DataSource,
    DriftPolicy,
    PromotionPolicy,
    RiskPolicy,
    SearchPolicy,
    SlicePolicy,
    TrainingPolicy,
    VerificationPolicy,
)
from nightshift.declare.rules import DEFAULT_RULES, Rule, check_names
from nightshift.errors import ConfigurationError

Window = Literal["day", "cutoff_to_cutoff"]

BY_DEFAULT_AFTER = timedelta(hours=2)
"""From the cutoff to the deadline of a use case that declares none."""


@dataclass(frozen=True)
class UseCase:
    """One prediction problem of the nightly run: owner, schedule, data, label, specs and policies.

    `name` is also the name of the folder, of the warehouse schema and the prefix of the DAGs. Partition D runs at
    `cutoff_time` of the day after it, in `timezone`; `first_partition` is the first that is delivered,
    `last_partition` the end of a replay of the past (None: deliveries go on). `training_spine` and `scoring_spine` are
    SQL files that return the rows with labels and the rows to score; `labels_from` names the feeds that the first
    reads (empty: all), `label` is its column with 0 or 1, or null to withdraw a label that was delivered before.
    `score` names the probability in the predictions table; from `decision_threshold` on, the decision is positive.
    `prediction_key` identifies a row of that table, `prediction_extra` are further columns of it, `prediction_date` is
    the column of the key with the day that is predicted, the day after the partition. `champion` is the first
    champion's spec, `fallback` serves where there is no champion, `challengers` can be named in a backtest.

    `deadline`: the time of the day, in `timezone`, by which a partition's predictions have to be published, on the day
    of its cutoff, or on the next if the cutoff is later in the day; None: two hours after the cutoff. The watchdog
    checks it, and no step depends on it.

    `window` says what the predicted day is: `day`, the calendar day, whose first hours are over at the cutoff; or
    `cutoff_to_cutoff`, the time from the partition's cutoff to the next, named by the day on which it begins.
    `prediction_moment` names the column of both spines (timestamp) with the time that a row is about; it has to lie in
    the window of the row's partition. Empty: not checked.

    `rules` say what follows from drift, losses and missing publications; more are appended to DEFAULT_RULES.
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
    attacks: AttackPolicy = field(default_factory=AttackPolicy)
    audit: AuditPolicy = field(default_factory=AuditPolicy)
    certainty: CertaintyPolicy = field(default_factory=CertaintyPolicy)
    corrections: CorrectionPolicy = field(default_factory=CorrectionPolicy)
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    verification: VerificationPolicy = field(default_factory=VerificationPolicy)
    slices: SlicePolicy = field(default_factory=SlicePolicy)
    risk: RiskPolicy = field(default_factory=RiskPolicy)
    search: SearchPolicy = field(default_factory=SearchPolicy)
    rules: tuple[Rule, ...] = DEFAULT_RULES
    sources: tuple[DataSource, ...] = ()
    tags: tuple[str, ...] = ()
    last_partition: date | None = None
    deadline: time | None = None
    window: Window = "day"
    prediction_moment: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigurationError for an inconsistent declaration or a cutoff that some day skips or repeats."""
        features = {*self.features.numeric, *self.features.categorical}
        expected = {expectation.feature for expectation in self.verification.expectations}
        if unknown := sorted((expected | set(self.slices.columns)) - features):
            raise ConfigurationError(
                "NS-USECASE-005",
                f"{self.name} declares expectations or slices of {unknown}, which are not among its features.",
            )
        names = [column.name for column in self.prediction_key]
        if not any(one.name == self.prediction_date and one.type == "date" for one in self.prediction_key):
            raise ConfigurationError(
                "NS-USECASE-006",
                f"{self.name}: prediction_date {self.prediction_date!r} is not a column of type date in prediction_key "
                f"{names}; predictions are partitioned by it.",
            )
        if undeclared := sorted(set(self.labels_from) - {feed.name for feed in self.feeds}):
            raise ConfigurationError(
                "NS-USECASE-007", f"{self.name}: labels_from names {undeclared}, which are not among its feeds."
            )
        check_names(self.name, self.rules)
        if self.window not in get_args(Window):
            raise ConfigurationError(
                "NS-USECASE-026", f"{self.name}: window {self.window!r} is not one of {', '.join(get_args(Window))}."
            )
        if day := _day_without_one_cutoff(self.timezone, self.cutoff_time, self.first_partition):
            raise ConfigurationError(
                "NS-USECASE-008",
                f"{self.name}: on {day} the clocks of {self.timezone} skip or repeat the cutoff_time "
                f"{self.cutoff_time}. Choose a time that every day has exactly once.",
            )
        if self.deadline and (day := _day_without_one_cutoff(self.timezone, self.deadline, self.first_partition)):
            raise ConfigurationError(
                "NS-USECASE-080",
                f"{self.name}: on {day} the clocks of {self.timezone} skip or repeat the deadline {self.deadline}. "
                "Choose a time that every day has exactly once.",
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
        """Every declared spec by its id, in the order champion, fallback, challengers."""
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

    @property
    def published_columns(self) -> tuple[Column, ...]:
        """The columns of its predictions that a feed of another use case may read."""
        score, decision = Column(self.score, "float64", nullable=False), Column("decision", "bool", nullable=False)
        version = Column("model_version", "string", nullable=False)
        return (*self.prediction_key, *self.prediction_extra, score, decision, version)

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Names of the use cases whose predictions it reads."""
        return tuple(dict.fromkeys(feed.source.use_case for feed in self.feeds if feed.source is not None))

    def feed(self, name: str) -> Feed:
        """The feed of that name. Raises ConfigurationError."""
        for feed in self.feeds:
            if feed.name == name:
                return feed
        raise ConfigurationError(
            "NS-USECASE-009", f"{self.name} declares no feed {name!r}; it declares {self.feed_names}."
        )

    def cutoff(self, partition: date) -> datetime:
        """The cutoff of a partition in UTC: `cutoff_time` on the next day. The partition uses no later data."""
        local = datetime.combine(partition + timedelta(days=1), self.cutoff_time, ZoneInfo(self.timezone))
        return local.astimezone(UTC)

    @property
    def deadline_time(self) -> time:
        """The time of the day of the deadline, in `timezone`; see `deadline`."""
        return self.deadline or (datetime.combine(self.first_partition, self.cutoff_time) + BY_DEFAULT_AFTER).time()

    @property
    def deadline_cron(self) -> str:
        """The schedule of the watchdog, in the use case's time zone."""
        return f"{self.deadline_time.minute} {self.deadline_time.hour} * * *"

    def deadline_of(self, partition: date) -> datetime:
        """When the predictions of a partition have to be published, in UTC."""
        days = 1 if self.deadline_time > self.cutoff_time else 2
        local = datetime.combine(partition + timedelta(days=days), self.deadline_time, ZoneInfo(self.timezone))
        return local.astimezone(UTC)

    def due_partition(self, now: datetime) -> date | None:
        """The newest partition whose deadline has passed at `now` (with time zone); None before the first is due.

        None also after the last partition, if there is one: then no further predictions are expected.
        """
        due = now.astimezone(ZoneInfo(self.timezone)).date()
        while self.deadline_of(due) > now:
            due -= timedelta(days=1)
        return due if self.first_partition <= due <= (self.last_partition or date.max) else None

    def prediction_window(self, partition: date) -> tuple[datetime, datetime]:
        """Start (included) and end (excluded) of what a partition predicts, in UTC; see `window`."""
        if self.window == "cutoff_to_cutoff":
            return self.cutoff(partition), self.cutoff(partition + timedelta(days=1))
        zone = ZoneInfo(self.timezone)
        start, end = (datetime.combine(partition + timedelta(days=n), time(), zone).astimezone(UTC) for n in (1, 2))
        return start, end

    def sql_values(self, partition: date) -> dict[str, date | datetime]:
        """The values of the parameters in SQL: `$partition`, `$cutoff`, `$window_start`, `$window_end`."""
        start, end = self.prediction_window(partition)
        return {"partition": partition, "cutoff": self.cutoff(partition), "window_start": start, "window_end": end}


@cache
def _day_without_one_cutoff(timezone: str, cutoff: time, first: date) -> date | None:
    """The first day of ten years on which a change of the clocks skips or repeats that time of the day."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(
            "NS-USECASE-010", f"{timezone!r} is not a time zone; use a name such as Europe/Vienna."
        ) from error
    for day in range(3653):
        local = datetime.combine(first, cutoff, zone) + timedelta(days=day)
        if local.astimezone(UTC) != local.replace(fold=1).astimezone(UTC):
            return local.date()
    return None
