"""The data page: rows of each feed and partition, what was set aside and why, profiles over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from nightshift.app.charts import Chart, Series, by_day
from nightshift.app.page import PageContext
from nightshift.artifact import Decision, Manifest
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.partitions import partition_range
from nightshift.services.overview import newest_delivered

PARTITIONS_SHOWN = 60
TABLE_ROWS = 30


@dataclass(frozen=True)
class Ingested:
    """What ingest did with a partition. `curated`, `validated`, `profiled`: metrics of its steps, where it has them."""

    partition: date
    status: str
    reason: str
    curated: Mapping[str, Any]
    validated: Mapping[str, Any]
    profiled: Mapping[str, Any]
    has_docs: bool

    def rows(self, feed: str) -> int | None:
        """Curated rows of a feed."""
        rows = self.curated.get("rows", {}).get(feed)
        return None if rows is None else int(rows)

    @property
    def quarantined(self) -> int:
        """Rows set aside of all feeds."""
        return int(self.curated.get("quarantined_rows", 0))

    @property
    def changed_labels(self) -> int:
        """Labels that were other ones before, or that it withdrew."""
        counted = self.curated.get("label_corrections", {})
        return int(counted.get("flipped", 0) + counted.get("withdrawn", 0))

    @property
    def reasons(self) -> dict[str, int]:
        """Rows set aside by reason, the most frequent first."""
        return dict(sorted(self.curated.get("quarantined", {}).items(), key=lambda item: -item[1]))

    @property
    def warnings(self) -> dict[str, int]:
        """Rows with warnings by reason."""
        return dict(sorted(self.curated.get("warnings", {}).items(), key=lambda item: -item[1]))


def view(context: PageContext) -> dict[str, Any]:
    """Values of data.html.j2."""
    use_case = context.use_case
    feed = context.choice("feed", use_case.feed_names)
    newest = newest_delivered(context.store, use_case)
    nights = [] if newest is None else ingested(context.store, use_case.name, newest)
    columns = profiled_columns(nights, feed)
    column = context.choice("column", columns)
    return {
        "title": "Data",
        "feeds": use_case.feed_names,
        "feed": feed,
        "columns": columns,
        "column": column,
        "nights": nights[-TABLE_ROWS:][::-1],
        "newest": newest,
        "rows_chart": _rows_chart(context, nights, feed) if nights else None,
        "profile_charts": _profile_charts(context, nights, feed, column) if column else [],
        "set_aside": [one for one in reversed(nights) if one.quarantined or one.status == "rejected"],
        "warned": _totals(nights),
        "docs": lambda one: context.report("validate", one.partition, "data_docs/index.html"),
    }


def ingested(store: ArtifactStore, use_case: str, newest: date) -> list[Ingested]:
    """What ingest did with the last 60 partitions up to `newest`, the oldest first."""
    partitions = partition_range(newest - timedelta(days=PARTITIONS_SHOWN - 1), newest)
    decisions = store.decisions(use_case, "publish", partitions)
    decided = [(day, one) for day, one in decisions.items() if one is not None]
    return in_parallel(lambda item: _ingested(store, *item), decided)


def _ingested(store: ArtifactStore, partition: date, decision: Decision) -> Ingested:
    manifest = store.manifest(decision.ref) if decision.ref is not None else None
    step = manifest.step if manifest is not None else ""
    curated = manifest if step == "publish" else None
    # The evidence of a rejected partition is its validation, if it came that far.
    validated = manifest if step == "validate" else _input(store, curated, "validated")
    profiled = _input(store, curated, "profiled")
    return Ingested(
        partition,
        decision.status,
        decision.reason,
        curated.metrics if curated else {},
        validated.metrics if validated else {},
        profiled.metrics if profiled else {},
        validated is not None and any(file.path == "data_docs/index.html" for file in validated.files),
    )


def _input(store: ArtifactStore, manifest: Manifest | None, name: str) -> Manifest | None:
    refs = manifest.inputs.get(name, ()) if manifest else ()
    return store.manifest(refs[0]) if refs else None


def profiled_columns(nights: Sequence[Ingested], feed: str) -> list[str]:
    """Columns of a feed with a mean or nulls on any of the nights."""
    names: dict[str, None] = {}
    for one in nights:
        profile = one.profiled.get(feed, {})
        names |= dict.fromkeys([*profile.get("mean", {}), *profile.get("null_share", {})])
    return sorted(names)


def _rows_chart(context: PageContext, nights: Sequence[Ingested], feed: str) -> Chart:
    return by_day(
        f"Curated rows of {feed} by partition",
        [one.partition for one in nights],
        [Series("rows", [one.rows(feed) for one in nights], 2)],
        links=[context.address("night", str(one.partition)) for one in nights],
        kind="bars",
        digits=0,
        zero=True,
        height=200,
        day_name="Partition",
    )


def _profile_charts(context: PageContext, nights: Sequence[Ingested], feed: str, column: str) -> list[Chart]:
    links = [context.address("night", str(one.partition)) for one in nights]
    days = [one.partition for one in nights]

    def values(statistic: str, missing: float | None) -> list[float | None]:
        return [
            one.profiled[feed].get(statistic, {}).get(column, missing) if feed in one.profiled else None
            for one in nights
        ]

    means = values("mean", None)
    charts = []
    if any(value is not None for value in means):
        charts.append(
            by_day(
                f"Mean of {feed}.{column} by partition",
                days,
                [Series("mean", means, 0)],
                links=links,
                digits=3,
                height=180,
                day_name="Partition",
            )
        )
    nulls = by_day(
        f"Nulls of {feed}.{column} by partition",
        days,
        [Series("nulls", values("null_share", 0.0), 3)],
        links=links,
        percent=True,
        zero=True,
        height=180,
        day_name="Partition",
    )
    return [*charts, nulls]


def _totals(nights: Sequence[Ingested]) -> list[tuple[str, int, int]]:
    """By warning, the most frequent first: rows, and partitions with it."""
    rows: dict[str, int] = {}
    partitions: dict[str, int] = {}
    for one in nights:
        for reason, count in one.warnings.items():
            rows[reason] = rows.get(reason, 0) + count
            partitions[reason] = partitions.get(reason, 0) + 1
    return sorted(((reason, count, partitions[reason]) for reason, count in rows.items()), key=lambda item: -item[1])
