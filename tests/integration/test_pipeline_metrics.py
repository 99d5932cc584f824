"""pipeline_daily, feeds_daily and the metrics of the second use case's nights, on a real store and warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from pydantic import SecretStr

from nightshift.artifact import Attempt
from nightshift.errors import DataContractError
from nightshift.io.provenance import CURRENT_ATTEMPT
from nightshift.services.metrics import GAUGES, metrics_text, midnight
from nightshift.steps.check_drift import record_pipeline
from second_use_case.include.late_returns.replay import deliveries
from support.desk import D, Desk, begin, days_after
from support.nights import Nights

DAY = timedelta(days=1)
LONG_AFTER = datetime(2020, 5, 20, tzinfo=UTC)

pytestmark = pytest.mark.filterwarnings("default")

Gauges = dict[tuple[str, ...], float]


def gauges(body: bytes) -> Gauges:
    """Values by name (without the prefix), then the values of the labels in alphabetical order, use_case left out."""
    found: Gauges = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "use_case"}
            found[(sample.name.removeprefix("nightshift_"), *(labels[name] for name in sorted(labels)))] = sample.value
    return found


def metrics(desk: Desk, now: datetime = LONG_AFTER) -> Gauges:
    body, media_type = metrics_text([desk.use_case], desk.settings, desk.store, now)
    assert media_type.startswith("text/plain")
    return gauges(body)


def too_long(feed: str, body: bytes) -> bytes:
    """Bookings with two rows that an expectation sets aside, and one row twice."""
    table = pd.read_csv(BytesIO(body))
    if feed == "bookings":
        table.loc[:1, "hours"] = 999.0
        table = pd.concat([table, table.tail(1)])
    return table.to_csv(index=False).encode()


def no_flag(feed: str, body: bytes) -> bytes:
    """Returns that break a critical expectation."""
    return body.replace(b",1\n", b",7\n") if feed == "returns" else body


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    made = Attempt(dag_id="late_returns.predict", run_id="a run", try_number=2, started_at="2020-03-18T03:00:00+00:00")
    token = CURRENT_ATTEMPT.set(made)
    yield made
    CURRENT_ATTEMPT.reset(token)


def ingest(desk: Desk, partition: date, change: Callable[[str, bytes], bytes] = lambda feed, body: body) -> None:
    """Deliver what the second use case's producer delivers, and ingest it."""
    for feed, dt, name, body in deliveries(partition):
        desk.store.put(f"landing/{desk.use_case.name}/{feed}/dt={dt}/{name}", change(feed, body))
    Nights(desk.use_case, desk.settings, desk.store).ingest(partition)


def commit(desk: Desk, step: str, partition: date) -> None:
    """As if the step ended now."""
    desk.store.commit(use_case=desk.use_case.name, step=step, partition=partition, kind=step, files={})


def test_steps_and_feeds_are_recorded_and_shown(desk: Desk, attempt: Attempt) -> None:
    begin(desk)
    ingest(desk, D, too_long)
    commit(desk, "publish_features", D)
    desk.predict(D)
    scores = desk.store.current(desk.use_case.name, "score", D)
    first = desk.step("record_pipeline", D)

    steps = {(row["partition"], row["step"], row["variant"]): row for row in desk.rows("pipeline_daily")}
    scored = steps[D, "score", ""]
    manifest = desk.store.manifest(scores)
    assert (scored["rows"], scored["bytes"]) == (scores.rows, sum(file.bytes for file in manifest.files))
    assert (scored["seconds"], scored["tries"], scored["run_id"]) == (manifest.attempt.seconds, 2, "a run")
    assert (scored["stage"], scored["artifact_uri"], scored["started_at"]) == (
        "predict", scores.uri, datetime(2020, 3, 18, 3, tzinfo=UTC)
    )  # fmt: skip
    # The training of the partition ends later; that of the partition before has a row for each spec.
    assert (D, "register", "") not in steps
    assert len([key for key in steps if key[:2] == (D - DAY, "fit")]) == 2

    (bookings,) = [row for row in desk.rows("feeds_daily") if row["feed"] == "bookings"]
    numbers = ("partition", "delivery", "files", "delivered", "duplicates", "published", "quarantined")
    assert [bookings[name] for name in numbers] == [D, D, 1, 41, 1, 38, 2]

    commit(desk, "register", D)
    again = desk.step("record_pipeline", D + DAY)
    assert again != first
    assert desk.step("record_pipeline", D + DAY) == again
    assert {"register", "score"} <= {row["step"] for row in desk.rows("pipeline_daily") if row["partition"] == D}
    before = len(desk.rows("pipeline_daily"))
    desk.step("record_pipeline", D + timedelta(days=record_pipeline.LOOK_BACK + 2))
    assert len(desk.rows("pipeline_daily")) == before

    shown = metrics(desk)
    assert shown["up",] == 1
    assert shown["step_seconds", "predict", "score", ""] == scored["seconds"]
    assert shown["step_tries", "predict", "score", ""] == 2
    assert shown["step_bytes", "predict", "score", ""] == scored["bytes"]
    assert shown["feed_rows", "bookings"] == 41
    assert shown["feed_quarantined_share", "bookings"] == pytest.approx(2 / 41)
    assert shown["feed_quarantined_share", "returns"] == 0
    assert shown["feed_delivery_timestamp_seconds", "bookings"] == midnight(D)
    for stage in ("ingest", "materialize", "train", "predict"):
        assert shown["stage_partition_timestamp_seconds", stage] == midnight(D), stage
    assert ("stage_partition_timestamp_seconds", "promote") not in shown
    assert {name for name, *_ in shown} <= set(GAUGES)


def test_a_rejected_partition_is_recorded_by_the_next_one(desk: Desk) -> None:
    with pytest.raises(DataContractError):
        ingest(desk, D, no_flag)
    ingest(desk, D + DAY)
    desk.step("record_pipeline", D + DAY)
    steps = {(row["partition"], row["step"]): row for row in desk.rows("pipeline_daily")}
    rejected = steps[D, "publish"]
    assert (rejected["status"], rejected["seconds"], rejected["artifact_uri"]) == ("rejected", None, None)
    assert steps[D, "validate"]["status"] == "published"
    feeds = {(row["partition"], row["feed"]): row for row in desk.rows("feeds_daily")}
    assert (feeds[D, "returns"]["delivered"], feeds[D, "returns"]["quarantined"]) == (40, None)
    shown = metrics(desk)
    assert shown["stage_rejected_partitions", "ingest"] == 1
    assert shown["stage_partition_timestamp_seconds", "ingest"] == midnight(D + DAY)

    ingest(desk, D)
    desk.step("record_pipeline", D + DAY)
    repaired = {(row["partition"], row["step"]): row for row in desk.rows("pipeline_daily")}
    assert repaired[D, "publish"]["status"] == "published"
    assert metrics(desk)["stage_rejected_partitions", "ingest"] == 0


def test_models_are_shown_as_the_warehouse_has_them(desk: Desk) -> None:
    assert metrics(desk)["up",] == 1
    begin(desk)
    for number in range(3):
        desk.night(days_after(number))
        desk.step("record_performance", days_after(number))
    shown = metrics(desk)
    recorded = {(row["partition"], row["role"]): row for row in desk.rows("performance_daily")}
    for role in ("published", "champion", "fallback"):
        row = recorded[days_after(1), role]
        assert shown["log_loss", role] == pytest.approx(row["log_loss"])
        assert shown["expected_log_loss", role] == pytest.approx(row["expected_log_loss"])
        assert shown["auc", role] == pytest.approx(row["auc"])
        assert shown["calibration_gap", role] == pytest.approx(row["mean_score"] - row["label_rate"])
    assert shown["matured_partition_timestamp_seconds",] == midnight(days_after(1))
    assert shown["label_share",] == 1
    (newest,) = [row for row in desk.rows("publications") if row["partition"] == days_after(2)]
    assert shown["published_partition_timestamp_seconds",] == midnight(days_after(2))
    assert shown["publication_timestamp_seconds",] == pytest.approx(newest["published_at"].timestamp())
    assert shown["publication_rows",] == newest["rows"]
    assert shown["publication_version_age_partitions",] == 3
    assert [shown[name,] for name in ("publication_by_fallback", "kill_switch", "approval_waiting")] == [0, 0, 0]


def test_what_needs_a_person_is_shown(desk: Desk) -> None:
    begin(desk)
    challenger = desk.use_case.challengers[0]
    desk.register(challenger, days_after(0), role="challenger")
    desk.decide(days_after(0), "shadow", challenger)
    desk.decide(days_after(0), "awaiting_approval", challenger)
    assert metrics(desk)["approval_waiting",] == 1
    desk.decide(days_after(1), "declined", challenger)
    desk.decide(days_after(1), "killed")
    desk.night(days_after(2))
    shown = metrics(desk)
    assert [shown[name,] for name in ("publication_by_fallback", "kill_switch", "approval_waiting")] == [1, 1, 0]
    desk.decide(days_after(2), "restored")
    assert metrics(desk)["kill_switch",] == 0


def test_rules_are_shown_where_there_are_any(desk: Desk) -> None:
    assert not [key for key in metrics(desk) if key[0] == "rule_fired"]
    columns = ("partition", "rule", "action", "fired", "matched", "at_least", "of_last", "began", "acted", "effect")
    with desk.warehouse.connection() as connection:
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (partition date, rule text, action text, fired boolean, "
                "matched integer, at_least integer, of_last integer, "
                "began boolean, acted boolean, effect text, evidence jsonb)"
            ).format(desk.warehouse.table("rules_daily"))
        )
        insert = sql.SQL("INSERT INTO {} ({}, evidence) VALUES ({}, '[]')").format(
            desk.warehouse.table("rules_daily"),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
        )
        for day, rule, fired in ((0, "wind", True), (1, "wind", False), (1, "labels", True)):
            connection.execute(insert, [days_after(day), rule, "alert", fired, 1, 1, 1, False, False, ""])
    shown = metrics(desk)
    assert (shown["rule_fired", "alert", "wind"], shown["rule_fired", "alert", "labels"]) == (0, 1)


def test_a_publication_is_overdue_after_its_deadline(desk: Desk) -> None:
    begin(desk)
    desk.night(days_after(0))

    def overdue(now: datetime, last: date | None = None) -> tuple[float, float]:
        use_case = replace(desk.use_case, last_partition=last)
        shown = gauges(metrics_text([use_case], desk.settings, desk.store, now)[0])
        return shown["publication_overdue",], shown["publication_partitions_behind",]

    due = desk.use_case.deadline_of(days_after(1))
    assert overdue(due - timedelta(seconds=1)) == (0, 0)
    assert overdue(due) == (1, 1)
    assert overdue(due + 2 * DAY) == (1, 3)
    assert overdue(due + 2 * DAY, last=days_after(1)) == (0, 0)


def test_a_use_case_without_warehouse_does_not_hide_the_others(desk: Desk) -> None:
    nowhere = desk.settings.model_copy(update={"warehouse_url": SecretStr("postgresql://127.0.0.1:1/none")})
    assert gauges(metrics_text([desk.use_case], nowhere, desk.store, LONG_AFTER)[0]) == {("up",): 0}
