"""Drift, outcomes and performance of published partitions, on hand-made versions: no training, no Feast."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from psycopg import sql

from nightshift.documents.check_drift import Drift
from nightshift.services.live_scores import known_labels
from nightshift.steps.check_drift.record_drift import DRIFT_SCHEMA
from support.desk import BOOKINGS, EVEN, TERRIBLE, D, Desk, begin, begin_canary, days_after, late_bookings
from support.receiver import SECRET, Receiver, with_receivers

ALTERNATING = [i % 2 for i in range(BOOKINGS)]


def response(desk: Desk, partition: date) -> list[str]:
    """The rules that begin to fire in a partition."""
    began: list[str] = desk.store.manifest(desk.check_drift(partition)).metrics["began"]
    return began


def performance(desk: Desk) -> dict[tuple[int, str, str], dict[str, Any]]:
    """Rows of performance_daily by (predicted day after D, role, version's spec)."""
    rows = desk.rows("performance_daily")
    return {((row["prediction_date"] - D).days, row["role"], row["spec_id"].split("-")[0]): row for row in rows}


# Drift

NIGHTS = 9
"""The policy needs eight earlier partitions."""


def live_nights(desk: Desk, last: dict[str, Any] | None = None) -> date:
    """Predict D and the NIGHTS after it; `last`: what is delivered with the last of them. Returns that partition."""
    begin(desk, graph=EVEN)
    for number in range(NIGHTS + 1):
        desk.night(days_after(number), **(last or {} if number == NIGHTS else {}))
        if number < NIGHTS:
            desk.step("record_performance", days_after(number))
    return days_after(NIGHTS)


def drift_of(desk: Desk, partition: date) -> Drift:
    return desk.store.read_document(desk.store.current(desk.use_case.name, "compare_drift", partition), Drift)


def test_an_ordinary_partition_needs_no_response(desk: Desk) -> None:
    partition = live_nights(desk)
    assert response(desk, partition) == []
    verdicts = {kind: group.verdict for kind, group in drift_of(desk, partition).groups.items()}
    assert verdicts == {
        "data": "stable", "prediction": "stable", "label": "stable", "concept": "not judged", "skew": "not judged"
    }  # fmt: skip
    assert {(row["drift"], row["source"]) for row in desk.rows("drift_daily")} == {
        ("data", "bookings"), ("prediction", "scores"), ("label", "outcomes")
    }  # fmt: skip
    assert not [row for row in desk.rows("drift_daily") if row["drifted"]]


def test_too_few_partitions_before_are_not_judged(desk: Desk) -> None:
    begin(desk, graph=EVEN)
    desk.night(D)
    assert response(desk, D) == []
    assert drift_of(desk, D).verdict == "not judged"
    assert desk.count("drift_daily") == 0
    assert desk.count("outcomes") == BOOKINGS


def test_a_delivery_that_differs_is_an_alert(desk: Desk) -> None:
    partition = live_nights(desk, {"bookings": BOOKINGS // 4})
    assert response(desk, partition) == ["input_drift"]
    drifted = {
        (row["source"], row["column_name"], row["statistic"]) for row in desk.rows("drift_daily") if row["drifted"]
    }
    assert ("bookings", "", "rows") in drifted
    assert {one for one in drifted if one[0] != "bookings"} == set()


def test_outcomes_that_are_all_late_request_a_search_once(desk: Desk, receiver: Receiver) -> None:
    desk.settings = with_receivers(desk.settings, receiver)
    partition = live_nights(desk, {"labels": [1] * BOOKINGS})
    assert response(desk, partition) == ["label_drift"]
    rows = sql.SQL("SELECT xmin, * FROM {} ORDER BY drift, source, column_name").format(
        desk.warehouse.table("drift_daily")
    )
    with desk.warehouse.connection() as connection:
        before = connection.execute(rows).fetchall()
    desk.check_drift(partition)
    with desk.warehouse.connection() as connection:
        assert connection.execute(rows).fetchall() == before
    (message,) = [line for line in receiver.lines if "Rules: " in line]
    assert f"outcomes.{desk.use_case.label}: rate 1 over 1 day" in message
    assert "report.html" in message


def test_drift_that_goes_on_keeps_its_beginning_and_needs_no_response(desk: Desk, receiver: Receiver) -> None:
    desk.settings = with_receivers(desk.settings, receiver)
    partition = live_nights(desk, {"labels": [1] * BOOKINGS})
    began = days_after(NIGHTS - 1)
    earlier = {"drift": "label", "source": "outcomes", "column_name": desk.use_case.label, "statistic": "rate",
               "days": 1, "value": 1.0, "low": 0.4, "high": 0.6, "excess": 2.0, "drifted": True, "since": began,
               "comparison_uri": "s3://b/c/"}  # fmt: skip
    desk.warehouse.replace_partition("drift_daily", began, pa.Table.from_pylist([earlier], schema=DRIFT_SCHEMA))
    assert response(desk, partition) == []
    since = {row["partition"]: row["since"] for row in desk.rows("drift_daily") if row["drifted"]}
    assert since == {began: began, partition: began}
    assert [line for line in receiver.lines if "Rules: " in line] == []


def test_an_alert_that_no_receiver_accepts_is_sent_once_with_a_later_partition(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    desk.settings = with_receivers(desk.settings, receiver)
    receiver.up = False
    partition = live_nights(desk, {"labels": [1] * BOOKINGS})
    assert response(desk, partition) == ["label_drift"]
    assert "did not accept the message" in caplog.text
    assert SECRET not in caplog.text
    assert receiver.received == []
    receiver.up = True
    after = partition + timedelta(days=1)
    with desk.warehouse.connection() as connection:
        table = desk.warehouse.table("alerts")
        connection.execute(sql.SQL("UPDATE {} SET tried_at = now() - interval '2 minutes'").format(table))
    desk.night(after)
    for _ in range(2):
        desk.check_drift(after)
    assert len([line for line in receiver.lines if f"{desk.use_case.name} {partition}, " in line]) == 1


def test_what_a_canary_published_is_not_the_primarys_drift(desk: Desk) -> None:
    partition = live_nights(desk)
    summaries = [desk.store.read_table(desk.store.current(desk.use_case.name, "score", partition), "summary.parquet")]
    challenger = desk.use_case.challengers[0]
    desk.register(challenger, D, TERRIBLE, role="challenger")
    desk.decide(D, "shadow", challenger)
    desk.decide(D, "canary", challenger, share=0.4)
    desk.predict(partition)
    summaries.append(
        desk.store.read_table(desk.store.current(desk.use_case.name, "score", partition), "summary.parquet")
    )
    assert (
        len({row["model_version"] for row in desk.rows("predictions") if row["booking_date"] == days_after(NIGHTS + 1)})
        == 2
    )
    assert summaries[0].equals(summaries[1])


# Performance


def test_performance_is_of_the_day_that_matured(desk: Desk) -> None:
    begin(desk)
    desk.live(0, 1)
    desk.check_drift(days_after(1))
    found = performance(desk)
    champion, fallback = desk.use_case.champion.name, desk.use_case.fallback.name
    assert set(found) == {(1, "published", champion), (1, "champion", champion), (1, "fallback", fallback)}
    assert {row["slice_column"] for row in desk.rows("performance_daily")} == {""}
    row = found[1, "published", champion]
    scores = np.array([one["p_late"] for one in desk.rows("predictions") if one["booking_date"] == days_after(1)])
    labels = np.array(late_bookings(days_after(1)))
    assert (row["partition"], row["known_on"]) == (D, days_after(1))
    assert (row["rows"], row["predictions"], row["auc"]) == (BOOKINGS, BOOKINGS, 1.0)
    assert row["brier"] == pytest.approx(((scores - labels) ** 2).mean())
    assert row["log_loss"] == pytest.approx(-np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores))))


def test_a_late_label_corrects_the_performance_of_its_day(desk: Desk) -> None:
    begin(desk)
    one, two = days_after(1), days_after(2)
    desk.night(D)
    in_time = [label if booking >= 10 else None for booking, label in enumerate(late_bookings(one))]
    desk.night(one, labels=in_time)
    desk.check_drift(one)
    champion = desk.use_case.champion.name
    before = performance(desk)[1, "published", champion]
    assert (before["rows"], before["predictions"], before["known_on"]) == (30, BOOKINGS, one)
    # Ten labels come late, two of them against every expectation, and one that came is corrected.
    desk.night(two, late={one: {booking: int(booking < 2) for booking in range(10)} | {39: 0}})
    desk.check_drift(two)
    after = performance(desk)[1, "published", champion]
    assert (after["rows"], after["predictions"], after["known_on"]) == (BOOKINGS, BOOKINGS, two)
    assert after["label_rate"] == pytest.approx((sum(late_bookings(one)) + 2 - 1) / BOOKINGS)
    assert after["log_loss"] > before["log_loss"] + 0.2
    assert performance(desk)[2, "published", champion]["known_on"] == two
    # A run that comes late does not undo the correction, and the same run again changes nothing.
    rows = desk.rows("performance_daily")
    for again in (one, two):
        desk.check_drift(again)
        assert desk.rows("performance_daily") == rows


def outcomes(desk: Desk, day: date) -> dict[int, tuple[int, date]]:
    """Label and delivering partition by booking."""
    rows = [row for row in desk.rows("outcomes") if row["booking_date"] == day]
    return {row["booking"]: (row["is_late"], row["partition"]) for row in rows}


def test_withdrawn_labels_leave_outcomes_and_performance(desk: Desk) -> None:
    """By a delivery of the same partition without the row, and by a later one with a null."""
    begin(desk)
    one, two = days_after(1), days_after(2)
    late = late_bookings(one)
    desk.night(D)
    desk.night(one)
    desk.check_drift(one)
    desk.deliver(one, labels=[None if booking == 5 else label for booking, label in enumerate(late)])
    desk.step("record_performance", one)
    assert outcomes(desk, one) == {booking: (late[booking], one) for booking in range(BOOKINGS) if booking != 5}

    desk.night(two, late={one: {3: None, 7: 1 - late[7]}})
    desk.check_drift(two)
    known = outcomes(desk, one)
    assert set(range(BOOKINGS)) - set(known) == {3, 5}
    assert known[7] == (1 - late[7], two)
    champion = desk.use_case.champion.name
    assert performance(desk)[1, "published", champion]["rows"] == BOOKINGS - 2
    labels, _ = known_labels(desk.store, desk.use_case, [one], two)
    assert set(labels["booking"].to_pylist()) == set(known)

    # Without the corrections, what was delivered before them holds.
    desk.deliver(two)
    desk.step("record_performance", two)
    assert outcomes(desk, one) == {booking: (late[booking], one) for booking in range(BOOKINGS) if booking != 5}


def test_outcomes_of_a_partition_that_is_rejected_later_are_removed(desk: Desk) -> None:
    """By the next partition, with the performance that was measured on them."""
    begin(desk)
    one, two = days_after(1), days_after(2)
    desk.night(D)
    desk.night(one, late={D: {0: 1}})
    desk.check_drift(one)
    assert (0, D) in {(row["booking"], row["booking_date"]) for row in desk.rows("outcomes")}
    assert performance(desk)

    desk.end("publish", one)
    desk.night(two)
    desk.step("record_performance", two)
    assert {row["partition"] for row in desk.rows("outcomes")} == {D, two}
    assert {row["prediction_date"] for row in desk.rows("performance_daily")} == {two}


def test_partition_without_publication_has_outcomes(desk: Desk) -> None:
    """After ingest, with no run of check_drift: what was predicted for its day is measured."""
    begin(desk)
    one = days_after(1)
    desk.night(D)
    curated = desk.deliver(one)
    desk.step("record_failure", one, stage="predict", run_id="run-7", failed_tasks=["audit"])
    desk.step("record_performance", one, published=curated)
    assert len(outcomes(desk, one)) == BOOKINGS
    assert performance(desk)[1, "published", desk.use_case.champion.name]["rows"] == BOOKINGS


def test_canary_rows_are_booked_to_their_version(desk: Desk) -> None:
    begin_canary(desk, share=0.4)
    desk.live(0, 2)
    desk.check_drift(days_after(2))
    found = performance(desk)
    champion, challenger = desk.use_case.champion.name, desk.use_case.challengers[0].name
    published = {spec: row for (_, role, spec), row in found.items() if role == "published"}
    assert set(published) == {champion, challenger}
    rows = [one for one in desk.rows("predictions") if one["booking_date"] == days_after(2)]
    labels = late_bookings(days_after(2))
    for row in published.values():
        own = [one for one in rows if one["model_version"] == row["model_version"]]
        assert row["predictions"] == row["rows"] == len(own)
        brier = np.mean([(one["p_late"] - labels[one["booking"]]) ** 2 for one in own])
        assert row["brier"] == pytest.approx(brier)
    assert sum(row["rows"] for row in published.values()) == BOOKINGS
    # In their roles, both on all rows.
    for role, spec in (("champion", champion), ("challenger", challenger), ("fallback", desk.use_case.fallback.name)):
        assert found[2, role, spec]["predictions"] == BOOKINGS


def test_performance_rests_on_what_was_published(desk: Desk) -> None:
    """Scores made later, of a partition that is published already, are not what readers saw."""
    begin(desk)
    desk.night(D)
    desk.deliver(days_after(1))
    published = desk.store.manifest(desk.store.current(desk.use_case.name, "score", D))
    desk.register(desk.use_case.champion, days_after(-1), TERRIBLE)
    desk.score(D, desk.choose(D))
    desk.predict(days_after(1))
    desk.check_drift(days_after(1))
    row = performance(desk)[1, "published", desk.use_case.champion.name]
    version = desk.store.read_table(published.ref, "scores.parquet")["model_version"]
    assert pc.all(pc.equal(version, row["model_version"])).as_py()


def test_a_partition_published_after_its_labels_has_performance(desk: Desk) -> None:
    """In a backfill, ingest and predictions of the next partition may come before the predictions of this one."""
    begin(desk)
    one = days_after(1)
    desk.deliver(D)
    desk.deliver(one)
    desk.predict(one)
    desk.check_drift(one)
    assert desk.count("performance_daily") == 0
    desk.predict(D)
    desk.check_drift(D)
    late = performance(desk)[1, "published", desk.use_case.champion.name]
    assert (late["partition"], late["known_on"], late["rows"]) == (D, one, BOOKINGS)
