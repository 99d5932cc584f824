"""The overview of a use case: what it reads from the warehouse and the store, and the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nightshift.app import overview as overview_page
from nightshift.app.page import PageContext, Site, render
from nightshift.artifact import Decision
from nightshift.core.monitoring.overview import PATIENCE, Overview, headline
from nightshift.documents.ingest import CatchUp
from nightshift.io.warehouse.reader import reading
from nightshift.services.overview import overview
from support.desk import BOOKINGS, Desk, begin, days_after
from support.drift_rows import record_drift


def much_later() -> datetime:
    """A time at which no partition can be under way any more."""
    return datetime.now(UTC) + PATIENCE + timedelta(minutes=1)


def overview_of(desk: Desk, now: datetime | None = None) -> Overview:
    with reading(desk.settings, desk.use_case) as reader:
        return overview(desk.store, reader, now or much_later())


def page_of(desk: Desk) -> str:
    site = Site("/nightshift", "")
    with reading(desk.settings, desk.use_case) as reader:
        context = PageContext(desk.use_case, reader, desk.store, site, {}, much_later())
        return render("overview.html.j2", site, use_case=desk.use_case, **overview_page.view(context))


def test_before_the_first_night_there_is_nothing_to_see(desk: Desk) -> None:
    desk.warehouse.migrate()
    found = overview_of(desk)
    assert (found.delivered, found.nights, found.problems) == (None, [], [])
    assert "Nothing has been published yet" in page_of(desk)


def test_numbers_are_those_of_the_warehouse(desk: Desk) -> None:
    begin(desk)
    for number in range(3):
        desk.night(days_after(number))
        desk.step("record_performance", days_after(number))
    found = overview_of(desk)
    assert [night.partition for night in found.nights] == [days_after(2), days_after(1), days_after(0)]
    newest, last, first = found.nights
    assert (newest.log_loss, newest.known, newest.rows) == (None, None, BOOKINGS)
    recorded = {(row["prediction_date"], row["role"]): row for row in desk.rows("performance_daily")}
    for night in (last, first):
        day = night.partition + timedelta(days=1)
        assert night.log_loss == pytest.approx(recorded[day, "published"]["log_loss"])
        assert night.expected_log_loss == pytest.approx(recorded[day, "published"]["expected_log_loss"])
        assert night.fallback_log_loss == pytest.approx(recorded[day, "fallback"]["log_loss"])
        assert night.known == 1.0
    page = page_of(desk)
    assert f"{first.log_loss:.4f}" in page
    assert f'href="/nightshift/{desk.use_case.name}/night/{days_after(0)}"' in page
    assert newest.version_days == 3  # trained before the first of these nights, and not since
    assert headline(found) == f"{days_after(2)} is published; 1 problem"
    assert "3 days old" in found.problems[0].what


def test_a_partition_that_is_delivered_and_not_published_needs_a_person(desk: Desk) -> None:
    begin(desk)
    desk.night(days_after(0))
    desk.deliver(days_after(1))
    found = overview_of(desk)
    assert headline(found) == f"{days_after(1)} is delivered and not published; 1 problem"
    (problem,) = found.problems
    assert f"{desk.use_case.name}.predict of {days_after(1)}" in problem.advice


def test_what_a_night_leaves_to_a_person_is_shown_until_it_is_done(desk: Desk) -> None:
    begin(desk)
    before, newest = days_after(0), days_after(1)
    desk.night(before)
    desk.night(newest)
    listed = CatchUp(changed={before: ("s3://bucket/late.csv",)}, outdated={newest: (before,)})
    name = desk.use_case.name
    desk.store.commit(use_case=name, step="catch_up", partition=newest, kind="catch_up", files=listed.to_files())
    page = page_of(desk)
    for text in (f"the delivery of {before} changed", f"the features of {newest} were built before {before}"):
        assert text in page
    assert len(overview_of(desk).problems) == 2
    desk.store.commit(use_case=name, step="land", partition=before, kind="landed", files={})
    (problem,) = overview_of(desk).problems
    assert problem.what.startswith("the features")
    desk.deliver(newest, bookings=30)
    assert overview_of(desk).problems == []


def test_a_partition_that_is_worked_on_is_no_problem(desk: Desk) -> None:
    begin(desk)
    desk.night(days_after(0))
    desk.deliver(days_after(1))
    found = overview_of(desk, datetime.now(UTC))
    assert (found.under_way, found.problems) == ([days_after(1)], [])
    assert headline(found) == f"{days_after(1)} is under way, {days_after(0)} is published; no problems"


def test_a_rejected_partition_is_shown_with_its_reason(desk: Desk) -> None:
    begin(desk)
    desk.night(days_after(0))
    rejected = Decision(status="rejected", ref=None, reason="weather: no file <b>at all</b>")
    desk.store.decide(desk.use_case.name, "publish", days_after(1), rejected)
    (problem,) = overview_of(desk).problems
    assert problem.what == f"ingest rejected {days_after(1)}: weather: no file <b>at all</b>"
    page = page_of(desk)
    assert "no file &lt;b&gt;at all" in page
    assert "no file <b>" not in page


def test_the_kill_switch_and_an_unanswered_approval_are_shown(desk: Desk) -> None:
    begin(desk)
    challenger = desk.use_case.challengers[0]
    desk.register(challenger, days_after(0), role="challenger")
    desk.decide(days_after(0), "shadow", challenger)
    desk.decide(days_after(0), "awaiting_approval", challenger)
    desk.decide(days_after(0), "killed")
    desk.night(days_after(0))
    advice = " ".join(problem.advice for problem in overview_of(desk).problems)
    assert f"{desk.use_case.name}.promote of {days_after(0)}" in advice
    assert f"{desk.use_case.name}.kill_switch" in advice


def test_several_unpublished_partitions_are_one_problem(desk: Desk) -> None:
    begin(desk)
    desk.night(days_after(0))
    for number in range(1, 4):
        desk.deliver(days_after(number))
    (problem,) = overview_of(desk).problems
    assert problem.what == f"3 partitions up to {days_after(3)} are delivered, and not published"
    assert str(days_after(1)) in problem.advice


def test_a_spec_whose_newest_training_left_no_version_is_a_problem(desk: Desk) -> None:
    begin(desk)
    desk.night(days_after(0))
    fallback = desk.use_case.fallback
    desk.decide(days_after(0), "rejected", fallback, role="fallback", by="register", model_version="m")
    (problem,) = overview_of(desk).problems
    assert problem.what.startswith(f"the newest training of {fallback.spec_id} was rejected (1 ")
    desk.register(fallback, days_after(1), role="fallback")
    desk.night(days_after(1))
    assert not [one for one in overview_of(desk).problems if fallback.spec_id in one.what]


def test_an_alarm_stays_open_for_a_week(desk: Desk) -> None:
    """A value that goes on is in the reference of the next partition, and may be outside its range for a night only."""
    begin(desk)
    desk.night(days_after(0))
    record_drift(desk, days_after(0), 3.0, "bookings", "price")
    for number in range(1, 8):
        record_drift(desk, days_after(number), 0.2, "bookings", "price")
        found = overview_of(desk)
        names = [(one.column_name, one.partition) for one in found.drifts]
        assert names == ([("price", days_after(0))] if number < 7 else [])
        assert headline(found).endswith(", 1 open alarm") == (number < 7)
