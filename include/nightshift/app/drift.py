"""The drift page: how far every column is from its ordinary range, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from nightshift.app.charts import Chart, heat_map
from nightshift.app.overview import drift_address
from nightshift.app.page import PageContext
from nightshift.io.warehouse.reader import Reader

PERIODS = ("60", "180")
ROWS_SHOWN = 30
MOST = 3.0
"""Beyond three times what is tolerated, cells look alike."""

KINDS = {
    "data": "deliveries and features",
    "prediction": "scores",
    "label": "labels",
    "concept": "residuals, losses and ranking",
    "skew": "serving against training",
}


def view(context: PageContext) -> dict[str, Any]:
    """Values of drift.html.j2."""
    period = context.choice("days", PERIODS)
    days = int(period)
    ranked = ranking(context.reader, days)
    chart = None
    if ranked:
        newest = ranked[0]["checked"]
        chart = _map(context, ranked[:ROWS_SHOWN], newest, days)
    return {
        "title": "Drift",
        "period": period,
        "periods": PERIODS,
        "kinds": KINDS,
        "chart": chart,
        "shown": min(len(ranked), ROWS_SHOWN),
        "ranked": ranked,
        "column_name": column_name,
        "open": sum(one["drifted"] for one in ranked),
        "checked": ranked[0]["checked"] if ranked else None,
        "cusums": [one for one in ranked if one["drift"] == "concept" and one["is_newest"]],
        "drift_address": lambda one: drift_address(context, one["drift"], one["source"], one["column_name"]),
        "report": context.report("report_drift", ranked[0]["checked"], "report.html") if ranked else "",
    }


def column_name(one: dict[str, Any]) -> str:
    """Source and column, or what it is about."""
    if one["column_name"]:
        return f"{one['source']}.{one['column_name']}"
    return f"{one['source']} (all rows)" if one["drift"] == "concept" else f"{one['source']} (rows)"


def ranking(reader: Reader, days: int) -> list[dict[str, Any]]:
    """Every compared column: its newest comparison within the last `days` partitions, and how often it has drifted.

    What has drifted now comes first, then what has drifted most often, then the largest excess.
    """
    return reader.rows(
        """
        WITH checked AS (SELECT max(partition) AS newest FROM {drift_daily}),
        columns AS (
            SELECT drift, source, column_name, max(partition) AS last, count(*) FILTER (WHERE drifted) AS days_drifted,
                max(abs(excess)) AS furthest
            FROM {drift_daily}, checked WHERE partition > newest - %s::int GROUP BY 1, 2, 3
        )
        SELECT c.*, d.statistic, d.days, d.value, d.low, d.high, d.excess, d.since, checked.newest AS checked,
            c.last = checked.newest AS is_newest, (d.drifted AND c.last = checked.newest) AS drifted
        FROM columns AS c CROSS JOIN checked
        JOIN {drift_daily} AS d ON d.partition = c.last
            AND (d.drift, d.source, d.column_name) = (c.drift, c.source, c.column_name)
        ORDER BY (d.drifted AND c.last = checked.newest) DESC, days_drifted DESC, furthest DESC, 1, 2, 3
        """,
        days,
    )


def _map(context: PageContext, columns: Sequence[dict[str, Any]], newest: date, days: int) -> Chart:
    names = {(one["drift"], one["source"], one["column_name"]): column_name(one) for one in columns}
    cells = context.reader.rows(
        "SELECT partition, drift, source, column_name, statistic, days, value, low, high, excess FROM {drift_daily} "
        "WHERE partition > %s AND (drift, source, column_name) IN "
        "(SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))",
        newest - timedelta(days=days),
        *(list(values) for values in zip(*names, strict=True)),
    )
    first = min(one["partition"] for one in cells)
    shown_days = [first + timedelta(days=n) for n in range((newest - first).days + 1)]
    return heat_map(
        f"Excess of {len(names)} columns by partition, the furthest first; beyond 1 or -1 a column has drifted",
        list(names.values()),
        shown_days,
        [
            (
                names[one["drift"], one["source"], one["column_name"]],
                one["partition"],
                one["excess"],
                f"{one['statistic']} over {one['days']} d: {one['value']:.3g} "
                f"(ordinary {one['low']:.3g} to {one['high']:.3g}), excess {one['excess']:.2f}",
            )
            for one in cells
        ],
        links=[drift_address(context, *key) for key in names],
        most=MOST,
        texts=("below", "above"),
    )
