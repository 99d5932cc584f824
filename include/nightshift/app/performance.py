"""The performance page: losses by month and slice, maturity, calibration, and the estimate before labels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from nightshift.app.charts import Chart, Series, by_day, calibration_curve
from nightshift.app.overview import loss_chart
from nightshift.app.page import LONGEST_DAYS, PageContext
from nightshift.services.overview import recent_nights

ROLES = ("published", "fallback", "champion", "challenger", "former", "frozen")
"""In the order of their colours; frozen: the first version, never refitted."""

PERIODS = ("60", "180", "366")
ROLLING_DAYS = 28
CALIBRATION_DAYS = 60
BINS = 10


def view(context: PageContext) -> dict[str, Any]:
    """Values of performance.html.j2."""
    period = context.choice("days", PERIODS)
    daily = daily_losses(context)
    months = by_month(daily)
    roles = [role for role in ROLES if any(role in one for one in months.values())]
    slices = _slice_columns(context)
    column = context.choice("slice", slices)
    nights = recent_nights(context.reader, int(period))
    return {
        "title": "Performance",
        "period": period,
        "periods": PERIODS,
        "roles": roles,
        "months": months,
        "gains": _gains(daily, roles),
        "loss": loss_chart(context, nights) if nights else None,
        "slices": slices,
        "slice_column": column,
        "slice_rows": _slices(context, column) if column else [],
        "slice_days": CALIBRATION_DAYS,
        "maturity": _maturity(context, nights),
        "calibration": _calibration(context),
    }


def daily_losses(context: PageContext) -> list[dict[str, Any]]:
    """Rows, losses and rates by predicted day and role, over all rows, the oldest first, of the last year."""
    return context.reader.rows(
        "SELECT prediction_date AS day, role, sum(rows)::int AS rows, sum(rows * log_loss) / sum(rows) AS log_loss, "
        "sum(rows * mean_score) / sum(rows) AS mean_score, sum(rows * label_rate) / sum(rows) AS label_rate "
        "FROM {performance_daily} WHERE slice_column = '' "
        "AND partition > (SELECT max(partition) FROM {performance_daily}) - %s::int GROUP BY 1, 2 ORDER BY 1, 2",
        LONGEST_DAYS,
    )


def by_month(daily: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """By month (YYYY-MM) and role: rows, log loss, and the calibration gap, mean score minus label rate."""
    sums: dict[str, dict[str, list[float]]] = {}
    for one in daily:
        total = sums.setdefault(f"{one['day']:%Y-%m}", {}).setdefault(one["role"], [0.0, 0.0, 0.0])
        total[0] += one["rows"]
        total[1] += one["rows"] * one["log_loss"]
        total[2] += one["rows"] * (one["mean_score"] - one["label_rate"])
    return {
        month: {
            role: {"rows": rows, "log_loss": loss / rows, "gap": gap / rows}
            for role, (rows, loss, gap) in roles.items()
        }
        for month, roles in sums.items()
    }


def rolling_gain(daily: Sequence[dict[str, Any]], role: str, days: int) -> dict[date, float]:
    """By predicted day: log loss of a role minus the published one over the last `days` days that both have.

    A day is left out until half of them are there.
    """
    losses: dict[str, dict[date, dict[str, Any]]] = {}
    for one in daily:
        losses.setdefault(one["role"], {})[one["day"]] = one
    published, other = losses.get("published", {}), losses.get(role, {})
    common = sorted(published.keys() & other.keys())
    gains = {}
    for last in common:
        window = [day for day in common if last - timedelta(days=days) < day <= last]
        if len(window) * 2 >= days:
            rows = sum(other[day]["rows"] for day in window)
            difference = sum(
                other[day]["rows"] * (other[day]["log_loss"] - published[day]["log_loss"]) for day in window
            )
            gains[last] = difference / rows
    return gains


def _gains(daily: Sequence[dict[str, Any]], roles: Sequence[str]) -> Chart | None:
    gains = {role: rolling_gain(daily, role, ROLLING_DAYS) for role in roles if role not in ("published", "champion")}
    gains = {role: values for role, values in gains.items() if values}
    if not gains:
        return None
    days = sorted(set().union(*gains.values()))
    return by_day(
        f"Log loss of other roles minus the published one, mean of {ROLLING_DAYS} days",
        days,
        [Series(role, [values.get(day) for day in days], ROLES.index(role)) for role, values in gains.items()],
        marks={"as good as published": 0.0},
        zero=True,
        day_name="Last predicted day",
        note="Above zero: what was published was better, on the same rows.",
    )


def _slice_columns(context: PageContext) -> list[str]:
    rows = context.reader.rows(
        "SELECT DISTINCT slice_column FROM {performance_daily} WHERE slice_column <> '' "
        "AND partition > (SELECT max(partition) FROM {performance_daily}) - %s::int ORDER BY 1",
        CALIBRATION_DAYS,
    )
    return [one["slice_column"] for one in rows]


def _slices(context: PageContext, column: str) -> list[dict[str, Any]]:
    """By value of a slice column over the last 60 partitions: rows, losses, rates."""
    return context.reader.rows(
        """
        SELECT slice_value, sum(rows) FILTER (WHERE role = 'published')::int AS rows,
            sum(rows * log_loss) FILTER (WHERE role = 'published')
                / nullif(sum(rows) FILTER (WHERE role = 'published'), 0) AS log_loss,
            sum(rows * expected_log_loss) FILTER (WHERE role = 'published')
                / nullif(sum(rows) FILTER (WHERE role = 'published' AND expected_log_loss IS NOT NULL), 0) AS promised,
            sum(rows * log_loss) FILTER (WHERE role = 'fallback')
                / nullif(sum(rows) FILTER (WHERE role = 'fallback'), 0) AS fallback,
            sum(rows * mean_score) FILTER (WHERE role = 'published')
                / nullif(sum(rows) FILTER (WHERE role = 'published'), 0) AS mean_score,
            sum(rows * label_rate) FILTER (WHERE role = 'published')
                / nullif(sum(rows) FILTER (WHERE role = 'published'), 0) AS label_rate
        FROM {performance_daily} WHERE slice_column = %s
            AND partition > (SELECT max(partition) FROM {performance_daily}) - %s::int
        GROUP BY 1 HAVING sum(rows) FILTER (WHERE role = 'published') > 0 ORDER BY 2 DESC
        """,
        column,
        CALIBRATION_DAYS,
    )


def _maturity(context: PageContext, nights: Sequence[Any]) -> Chart | None:
    ordered = sorted(nights, key=lambda one: one.prediction_date)
    if not ordered:
        return None
    return by_day(
        "Share of published predictions whose label is known, by predicted day",
        [one.prediction_date for one in ordered],
        [Series("labels known", [one.known or 0.0 for one in ordered], 2)],
        links=[context.address("night", str(one.partition)) for one in ordered],
        percent=True,
        zero=True,
        height=200,
        day_name="Predicted day",
    )


def _calibration(context: PageContext) -> Chart | None:
    rows = context.reader.rows(
        """
        WITH joined AS (
            SELECT {score} AS score, {label} AS label, ntile(%s) OVER (ORDER BY {score}) AS bin
            FROM {predictions} JOIN {outcomes} USING ({key})
            WHERE {prediction_date} > (SELECT max(prediction_date) FROM {publications}) - %s::int
        )
        SELECT avg(score) AS score, avg(label)::float8 AS share, count(*)::int AS rows FROM joined
        GROUP BY bin ORDER BY bin
        """,
        BINS,
        CALIBRATION_DAYS,
    )
    if not rows:
        return None
    return calibration_curve(
        f"Share of positive labels by score, in {BINS} equal parts of the last {CALIBRATION_DAYS} predicted days",
        [(one["score"], one["share"], one["rows"]) for one in rows],
    )
