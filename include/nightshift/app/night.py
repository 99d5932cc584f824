"""The page of one partition: what each step did with it, in which run, and where its evidence is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from nightshift.app.page import PageContext
from nightshift.artifact import Attempt, Decision
from nightshift.io.object_store import in_parallel
from nightshift.pipeline import STAGES
from nightshift.services.report_pages import NIGHTLY

REVIEWS_SHOWN = 20
TONES = {"published": "good", "rejected": "bad"}


@dataclass(frozen=True)
class StepOfNight:
    """A step's status for the partition, and the run that wrote its artifact. `variant`: the spec that it ran for."""

    name: str
    variant: str
    status: str
    reason: str
    rows: int | None
    attempt: Attempt | None

    @property
    def tone(self) -> str:
        """The class of the status in app.css."""
        return TONES.get(self.status, "")

    @property
    def finished(self) -> datetime | None:
        """When its artifact was written, in UTC."""
        return datetime.fromisoformat(self.attempt.finished_at) if self.attempt and self.attempt.finished_at else None


@dataclass(frozen=True)
class StageOfNight:
    """A stage's steps; `run_id`: the run of the newest artifact."""

    name: str
    dag_id: str
    run_id: str
    steps: Sequence[StepOfNight]


def view(context: PageContext, partition: str) -> dict[str, Any]:
    """Values of night.html.j2."""
    day = date.fromisoformat(partition)
    publications = context.reader.rows(
        "SELECT * FROM {publications} WHERE partition = %s ORDER BY published_at DESC LIMIT 10", day
    )
    performance = context.reader.rows(
        "SELECT role, spec_id, model_version, rows, predictions, log_loss, expected_log_loss, auc, mean_score, "
        "label_rate, known_on FROM {performance_daily} WHERE partition = %s AND slice_column = '' ORDER BY role",
        day,
    )
    drifts = context.reader.rows(
        "SELECT drift, source, column_name, statistic, days, value, low, high, excess, since FROM {drift_daily} "
        "WHERE partition = %s AND drifted ORDER BY abs(excess) DESC LIMIT 50",
        day,
    )
    rules = []
    if context.reader.has("rules_daily"):
        rules = context.reader.rows("SELECT * FROM {rules_daily} WHERE partition = %s ORDER BY rule", day)
    review = []
    if context.reader.has("review_queue"):
        query = "SELECT * FROM {review_queue} WHERE partition = %s ORDER BY certainty NULLS LAST, {key} LIMIT %s"
        review = context.reader.rows(query, day, REVIEWS_SHOWN)
    stages = stages_of_night(context, day)
    keys = context.use_case.key_columns
    published = {step.name for stage in stages for step in stage.steps if step.status == "published"}
    reports = [one for one in NIGHTLY if one.step in published]
    return {
        "title": partition,
        "trail": [(f"Partition {partition}", "")],
        "partition": day,
        "before": day - timedelta(days=1),
        "after": day + timedelta(days=1),
        "publication": next((one for one in publications if one["superseded_at"] is None), None),
        "superseded": [one for one in publications if one["superseded_at"] is not None],
        "performance": performance,
        "drifts": drifts,
        "rules": rules,
        "review": review,
        "keys": keys,
        "lineage": lambda one: context.address("lineage", **{name: str(one[name]) for name in keys}),
        "stages": stages,
        "reports": [(one.title, context.report(one.address, day, one.page)) for one in reports],
        "drift_address": lambda one: context.address(
            "drift", one["drift"], one["source"], **({"column": one["column_name"]} if one["column_name"] else {})
        ),
    }


def stages_of_night(context: PageContext, day: date) -> list[StageOfNight]:
    """The nightly stages with the status of each step for a partition; steps without a status are undecided."""
    steps = [(stage.name, step.name) for stage in STAGES if stage.nightly for step in stage.own_steps]

    def read(step: tuple[str, str]) -> list[StepOfNight]:
        variants: Mapping[str, Decision | None] = context.store.variants(context.use_case.name, step[1], day)
        variants = variants or {"": None}
        return [_step(context, step[1], variant, status) for variant, status in sorted(variants.items())]

    found = in_parallel(read, steps)
    stages = []
    for name in dict.fromkeys(stage for stage, _ in steps):
        own = [one for (stage, _), of_step in zip(steps, found, strict=True) if stage == name for one in of_step]
        newest = max((one.attempt for one in own if one.attempt), key=lambda one: one.finished_at, default=None)
        dag_id = newest.dag_id if newest else ""
        stages.append(StageOfNight(name, dag_id, newest.run_id if newest else "", own))
    return stages


def _step(context: PageContext, name: str, variant: str, decision: Decision | None) -> StepOfNight:
    if decision is None:
        return StepOfNight(name, variant, "undecided", "", None, None)
    if decision.ref is None:
        return StepOfNight(name, variant, decision.status, decision.reason, None, None)
    manifest = context.store.manifest(decision.ref)
    return StepOfNight(name, variant, decision.status, decision.reason, manifest.ref.rows or None, manifest.attempt)
