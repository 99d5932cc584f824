"""The overview of a use case: did tonight work, can it be trusted, what needs a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from nightshift.app.charts import Band, Chart, Series, by_day
from nightshift.app.page import PageContext
from nightshift.core.monitoring.expected_loss import LEAST_ERRORS, estimates
from nightshift.core.monitoring.overview import Night, Overview, headline
from nightshift.io.warehouse.reader import Reader
from nightshift.services import overview as service

DRIFTS_SHOWN = 5
NIGHTS_SHOWN = 14


def view(context: PageContext) -> dict[str, Any]:
    """Values of overview.html.j2."""
    overview = service.overview(context.store, context.reader, context.now)
    nights = overview.nights
    newest = nights[0] if nights else None
    return {
        "title": "Overview",
        "overview": overview,
        "headline": headline(overview),
        "tone": tone(overview),
        "newest": newest,
        "published_seconds": (context.now - newest.published_at).total_seconds() if newest else 0.0,
        "behind": behind(overview),
        "measured": measured(nights),
        "drifts": overview.drifts[:DRIFTS_SHOWN],
        "drift_address": lambda one: drift_address(context, one.drift, one.source, one.column_name),
        "chart": loss_chart(context, nights) if nights else None,
        "shown_nights": nights[:NIGHTS_SHOWN],
    }


def behind(overview: Overview) -> int:
    """Delivered partitions that are neither published nor under way."""
    if overview.delivered is None or not overview.nights:
        return 0
    unpublished = (overview.delivered - overview.nights[0].partition).days
    return max(unpublished - sum(day > overview.nights[0].partition for day in overview.under_way), 0)


def tone(overview: Overview) -> str:
    """The class of the headline in app.css."""
    if overview.problems:
        return "bad" if behind(overview) or not overview.nights else "warn"
    if not overview.nights:
        return ""
    if overview.drifts:
        return "warn"
    return "busy" if overview.under_way else "good"


def measured(nights: Sequence[Night]) -> dict[str, float | int | None] | None:
    """Mean log loss of the nights with labels: published, promised by the scores, of the fallback."""
    known = [one for one in nights if one.log_loss is not None]
    if not known:
        return None

    def mean(name: str) -> float | None:
        pairs = [(value, one.rows) for one in known if (value := getattr(one, name)) is not None]
        rows = sum(rows for _, rows in pairs)
        return sum(value * weight for value, weight in pairs) / rows if rows else None

    names = {"published": "log_loss", "promised": "expected_log_loss", "fallback": "fallback_log_loss"}
    return {"nights": len(known)} | {name: mean(column) for name, column in names.items()}


def drift_address(context: PageContext, drift: str, source: str, column: str) -> str:
    """The address of the page of a column that is compared."""
    return context.address("drift", drift, source, **({"column": column} if column else {}))


def promised_losses(reader: Reader, days: Sequence[date]) -> dict[date, float]:
    """By predicted day, the log loss that the published scores promise: the mean of their entropies, in nats."""
    rows = reader.rows(
        "SELECT {prediction_date} AS day, "
        "-avg({score} * ln(greatest({score}, 1e-15)) + (1 - {score}) * ln(greatest(1 - {score}, 1e-15))) AS promised "
        "FROM {predictions} WHERE {prediction_date} = ANY(%s) GROUP BY 1",
        list(days),
    )
    return {row["day"]: row["promised"] for row in rows}


def loss_chart(context: PageContext, nights: Sequence[Night]) -> Chart:
    """Log loss of the nights, the newest first, against the fallback's, with the range that the scores promise."""
    ordered = sorted(nights, key=lambda one: one.prediction_date)
    promised = promised_losses(
        context.reader, [one.prediction_date for one in ordered if one.expected_log_loss is None]
    )
    expected = [
        promised.get(one.prediction_date) if one.expected_log_loss is None else one.expected_log_loss for one in ordered
    ]
    losses = [one.log_loss for one in ordered]
    found = estimates(expected, losses)
    band = Band("8 of 10 nights", [one.low for one in found], [one.high for one in found])
    has_band = any(one is not None for one in band.low)
    about_band = (
        "The band is what the scores promised, widened by how far the loss was from it on up to 60 nights before."
        if has_band
        else f"A band around the estimate follows after {LEAST_ERRORS} nights with labels."
    )
    return by_day(
        "Log loss of published predictions by predicted day, of the fallback, and the estimate from the scores alone",
        [one.prediction_date for one in ordered],
        [
            Series("published", losses, 0),
            Series("fallback", [one.fallback_log_loss for one in ordered], 1),
            Series("estimated from the scores", expected, 2, dashed=True),
        ],
        bands=[band] if has_band else [],
        links=[context.address("night", str(one.partition)) for one in ordered],
        note=f"Lower is better. {about_band} The newest night has an estimate only, until its labels are known.",
        day_name="Predicted day",
    )
