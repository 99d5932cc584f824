"""One column on the drift page: what is compared, its curve, its ordinary range, since when it has drifted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from fastapi import HTTPException

from nightshift.app.charts import Band, Chart, Series, by_day
from nightshift.app.drift import KINDS, PERIODS, column_name
from nightshift.app.page import PageContext
from nightshift.documents.check_drift import Curve, Drift
from nightshift.services.overview import OPEN_PARTITIONS

ROWS_SHOWN = 30

MEANING = {
    "rows": "n / (n + usual n): 0.5 is usual, 1/3 half of it, 2/3 twice as many rows",
    "nulls": "share of null cells",
    "new": "share of texts that the reference does not have",
    "gone": "share of the reference's texts that do not occur",
    "unseen": "share of numbers, within the reference's range, that it does not have",
    "outside": "share of numbers beyond the reference's range by half of its width",
    "commonest": "share of the most frequent value",
    "level": "probability that a number is larger than one of the reference",
    "spread": "mean distance of ranks from the middle of the reference",
    "shape": "total variation distance from the reference",
    "repeated": "share of days with the numbers of the day before",
    "rate": "share of positive labels",
    "residual": "cumulative sum (CUSUM) of label rate minus mean score, in standard deviations of a day",
    "loss": "cumulative sum (CUSUM) of log loss minus the promised one, in standard deviations of a day",
    "ranking": "cumulative sum (CUSUM) of lost AUC, in standard deviations of a day",
}


def view(context: PageContext, drift: str, source: str) -> dict[str, Any]:
    """Values of drift_column.html.j2. Raises HTTPException 404 for a column that was never compared."""
    column = context.query.get("column", "")
    period = context.choice("days", tuple(reversed(PERIODS)))
    rows = context.reader.rows(
        "SELECT * FROM {drift_daily} WHERE drift = %s AND source = %s AND column_name = %s "
        "AND partition > (SELECT max(partition) FROM {drift_daily}) - %s::int ORDER BY partition",
        drift,
        source,
        column,
        int(period),
    )
    if not rows:
        raise HTTPException(404, f"{source}.{column} was not compared in the last {period} partitions.")
    newest = rows[-1]
    statistics = sorted({(one["statistic"], one["days"]) for one in rows})
    address = context.address("drift", drift, source, **({"column": column} if column else {}))
    name = column_name(newest)
    return {
        "title": name,
        "trail": [("Drift", "drift"), (name, "")],
        "name": name,
        "newest": newest,
        "drifted": next((one for one in rows[: -OPEN_PARTITIONS - 1 : -1] if one["drifted"]), None),
        "kind": KINDS[drift],
        "meaning": MEANING.get(newest["statistic"], ""),
        "excess_chart": _excess(context, rows, name),
        "value_charts": [_values(context, rows, *one) for one in statistics],
        "curve_chart": _curve(context, newest, source, column),
        "rows": rows[: -ROWS_SHOWN - 1 : -1],
        "address_of_days": address,
        "report": lambda day: context.report("report_drift", day, "report.html"),
    }


def _excess(context: PageContext, rows: Sequence[dict[str, Any]], name: str) -> Chart:
    days = [one["partition"] for one in rows]
    return by_day(
        f"Excess of {name} by partition: its furthest statistic",
        days,
        [Series("excess", [one["excess"] for one in rows], 0)],
        marks={"drifted above 1": 1.0, "drifted below -1": -1.0},
        links=[context.address("night", str(day)) for day in days],
        digits=2,
        zero=True,
        height=200,
        day_name="Partition",
        note="How far outside the ordinary range the furthest statistic is, as a multiple of what is tolerated.",
    )


def _values(context: PageContext, rows: Sequence[dict[str, Any]], statistic: str, days: int) -> Chart:
    """Values and ordinary ranges on the days on which a statistic was the furthest one."""

    def values(name: str) -> list[float | None]:
        return [one[name] if (one["statistic"], one["days"]) == (statistic, days) else None for one in rows]

    partitions = [one["partition"] for one in rows]
    return by_day(
        f"{statistic} over {days} day{'' if days == 1 else 's'}, on the partitions where it was the furthest statistic",
        partitions,
        [Series(statistic, values("value"), 0, points=True)],
        bands=[Band("ordinary range", values("low"), values("high"))],
        links=[context.address("night", str(day)) for day in partitions],
        digits=4,
        height=200,
        day_name="Partition",
        note=f"{MEANING.get(statistic, '')}. The band is the range in earlier windows of the same length.",
    )


def _curve(context: PageContext, newest: dict[str, Any], source: str, column: str) -> Chart | None:
    """The statistic of the newest comparison in every window of its reference, if the comparison kept it."""
    partition: date = newest["partition"]
    decision = context.store.decision(context.use_case.name, "compare_drift", partition)
    if decision is None or decision.published is None:
        return None
    document = context.store.read_document(decision.published, Drift)
    found = [one for one in document.curves if (one.drift.source, one.drift.column) == (source, column)]
    return _curve_chart(found[0], partition) if found else None


def _curve_chart(curve: Curve, partition: date) -> Chart:
    one = curve.drift
    count = len(curve.days)
    return by_day(
        f"{one.statistic} over {one.days} day{'' if one.days == 1 else 's'} in the comparison of {partition}",
        curve.days,
        [Series(one.statistic, curve.values, 0)],
        bands=[Band("range of the reference", [one.low] * count, [one.high] * count)],
        digits=4,
        height=220,
        day_name="Window ends on",
        note="Every window of the reference, and last the partition's own.",
    )
