"""The runs page: how long each step of each night took, as pipeline_daily records it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nightshift.app.charts import Chart, Series, by_day
from nightshift.app.page import PageContext
from nightshift.pipeline import NIGHTLY, STAGE_OF_STEP

PERIODS = ("30", "60", "180")


def view(context: PageContext) -> dict[str, Any]:
    """Values of runs.html.j2."""
    period = context.choice("days", PERIODS)
    rows = []
    if context.reader.has("pipeline_daily"):
        rows = context.reader.rows(
            "SELECT partition, step, sum(seconds) AS seconds, max(tries) AS tries, sum(rows)::bigint AS rows, "
            "sum(bytes)::bigint AS bytes, max(started_at) AS started_at, max(dag_id) AS dag_id, max(run_id) AS run_id "
            "FROM {pipeline_daily} WHERE seconds IS NOT NULL "
            "AND partition > (SELECT max(partition) FROM {pipeline_daily}) - %s::int "
            "GROUP BY 1, 2 ORDER BY 1",
            int(period),
        )
    days = sorted({one["partition"] for one in rows})
    return {
        "title": "Runs",
        "period": period,
        "periods": PERIODS,
        "chart": _chart(context, rows) if rows else None,
        "steps": steps(rows),
        "newest": days[-1] if days else None,
        "newest_rows": [one for one in rows if one["partition"] == days[-1]] if days else [],
    }


def steps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By step, in the order of the stages: median, longest and newest seconds, and nights with retries."""
    order = {step: number for number, step in enumerate(STAGE_OF_STEP)}
    found = []
    for name in sorted({one["step"] for one in rows}, key=lambda step: order.get(step, len(order))):
        own = [one for one in rows if one["step"] == name]
        seconds = sorted(one["seconds"] for one in own)
        found.append(
            {
                "step": name,
                "stage": STAGE_OF_STEP.get(name, ""),
                "median": seconds[len(seconds) // 2],
                "longest": seconds[-1],
                "newest": own[-1]["seconds"],
                "retried": sum((one["tries"] or 1) > 1 for one in own),
                "nights": len(own),
            }
        )
    return found


def _chart(context: PageContext, rows: Sequence[dict[str, Any]]) -> Chart:
    days = sorted({one["partition"] for one in rows})
    stages = [stage for stage in NIGHTLY if any(STAGE_OF_STEP.get(one["step"]) == stage for one in rows)]
    seconds: dict[tuple[Any, str], float] = {}
    for one in rows:
        key = (one["partition"], STAGE_OF_STEP.get(one["step"], ""))
        seconds[key] = seconds.get(key, 0.0) + float(one["seconds"] or 0.0)
    return by_day(
        "Seconds of all steps by partition and stage",
        days,
        [
            Series(stage, [seconds.get((day, stage)) for day in days], number, stack="seconds")
            for number, stage in enumerate(stages)
        ],
        links=[context.address("night", str(day)) for day in days],
        kind="bars",
        digits=1,
        zero=True,
        height=280,
        day_name="Partition",
    )
