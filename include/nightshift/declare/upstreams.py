"""Checks of feeds that read the predictions of another use case, when a use case is loaded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from nightshift.declare.feeds import Feed
from nightshift.declare.predictions import Predictions
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, UnknownUseCase

Find = Callable[[str], UseCase | None]
"""The declaration of that name; None if it cannot be loaded. Raises UnknownUseCase."""

DAYS_COMPARED = 3653


def check_upstreams(use_case: UseCase, find: Find) -> None:
    """Compare each feed of predictions with the use case that it reads.

    Raises ConfigurationError if the feed is a snapshot, if there is no such use case, if it reads predictions of this
    one, directly or through others, if it does not publish a column of the feed, or if its cutoff is not before that
    of the partition that reads it. A use case that cannot be loaded is not compared: it is reported itself, and
    publishes nothing meanwhile.
    """
    for feed in use_case.feeds:
        if feed.source is None:
            continue
        if feed.cadence != "daily":
            raise ConfigurationError(
                "NS-UPSTREAM-006",
                f"Feed {feed.name!r} of {use_case.name} reads predictions and has the cadence {feed.cadence!r}; "
                "predictions are 'daily'.",
            )
        upstream = _upstream(use_case, feed.name, feed.source.use_case, find)
        if (way := _way_back(use_case.name, feed.source.use_case, find, ())) is not None:
            raise ConfigurationError(
                "NS-UPSTREAM-002",
                f"{use_case.name} reads predictions that are made from its own: "
                f"{' reads '.join([use_case.name, *way])}. Take feed {feed.name!r}, or another one on the way, out.",
            )
        if upstream is not None:
            _check_columns(use_case, feed, upstream)
            _check_cutoffs(use_case, feed, feed.source, upstream)


def _upstream(use_case: UseCase, feed: str, name: str, find: Find) -> UseCase | None:
    try:
        return find(name)
    except UnknownUseCase as error:
        raise ConfigurationError(
            "NS-UPSTREAM-001", f"Feed {feed!r} of {use_case.name} reads the predictions of {name!r}. {error.message}"
        ) from error


def _way_back(goal: str, name: str, find: Find, passed: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names of use cases that lead from `name` to `goal`, each reading the next; None if none do."""
    if name == goal:
        return (*passed, name)
    if name in passed:
        return None
    try:
        upstream = find(name)
    except UnknownUseCase:
        # An error of the use case that names it.
        return None
    ways = (_way_back(goal, one, find, (*passed, name)) for one in (upstream.upstreams if upstream else ()))
    return next((way for way in ways if way is not None), None)


def _check_columns(use_case: UseCase, feed: Feed, upstream: UseCase) -> None:
    types = {column.name: column.type for column in upstream.published_columns}
    wrong = [f"{column.name!r} ({column.type})" for column in feed.landed if types.get(column.name) != column.type]
    if wrong:
        published = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise ConfigurationError(
            "NS-UPSTREAM-003",
            f"Feed {feed.name!r} of {use_case.name} reads {', '.join(wrong)}, which {upstream.name} does not publish; "
            f"it publishes {published}.",
        )


def _check_cutoffs(use_case: UseCase, feed: Feed, source: Predictions, upstream: UseCase) -> None:
    first = max(use_case.first_partition, upstream.first_partition + timedelta(days=source.lag))
    days = (first + timedelta(days=number) for number in range(DAYS_COMPARED))
    if day := next((one for one in days if not _known(use_case, upstream, one, source.lag)), None):
        read = day - timedelta(days=source.lag)
        raise ConfigurationError(
            "NS-UPSTREAM-004",
            f"Feed {feed.name!r} of {use_case.name} reads partition {read} of {upstream.name} for partition {day}: its "
            f"cutoff {upstream.cutoff(read)} is not before {use_case.cutoff(day)}, so its predictions are not known "
            f"then. {'Declare lag=1, or a' if source.lag == 0 else 'Declare a'} later cutoff_time of {use_case.name}.",
        )


def _known(use_case: UseCase, upstream: UseCase, partition: date, lag: int) -> bool:
    return upstream.cutoff(partition - timedelta(days=lag)) < use_case.cutoff(partition)
