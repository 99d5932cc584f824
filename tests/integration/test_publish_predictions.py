"""Audit and publication of scores, and the losses of past ones, on hand-made versions: no training, no Feast."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.errors import AuditFailed, Superseded
from nightshift.services.live_scores import known_labels, partition_losses, scored_partition
from support.desk import BOOKINGS, SIMILAR, D, Desk, begin, begin_canary, days_after, late_bookings
from support.errors import raises_code


def all_scores(desk: Desk, partition: date, version: str) -> pa.Table:
    scored = scored_partition(desk.store, desk.use_case, partition)
    assert scored is not None
    return scored.rows.filter(pc.equal(scored.rows["model_version"], version))


def test_scores_that_miss_a_scheduled_row_are_not_published(desk: Desk) -> None:
    begin(desk)
    desk.deliver(D, bookings=BOOKINGS - 1)
    scores = desk.score(D, desk.choose(D))
    desk.deliver(D)
    with raises_code(AuditFailed, "NS-PUBLISH-004", "39, must be = 40"):
        desk.step("audit", D, scores=scores)
    decision = desk.store.decision(desk.use_case.name, "audit", D)
    assert decision is not None
    assert decision.status == "rejected"
    assert decision.ref is not None
    assert desk.store.manifest(decision.ref).metrics["failed"] == ["rows equal the schedule's"]
    # What they were made from counts again: the audit alone stops them.
    desk.deliver(D, bookings=BOOKINGS - 1)
    with raises_code(AuditFailed, "NS-PUBLISH-002", scores.uri):
        desk.step("publish_predictions", D, scores=scores, audited=decision.ref)
    assert desk.count("predictions") == 0


def test_the_audit_of_other_scores_does_not_count(desk: Desk) -> None:
    begin(desk)
    desk.deliver(D)
    audited = desk.step("audit", D, scores=desk.score(D, desk.choose(D)))
    desk.register(desk.use_case.champion, days_after(-1), SIMILAR)
    other = desk.score(D, desk.choose(D))
    with raises_code(AuditFailed, "NS-PUBLISH-002", other.uri):
        desk.step("publish_predictions", D, scores=other, audited=audited)


def test_superseded_scores_are_an_error(desk: Desk) -> None:
    begin(desk)
    desk.deliver(D)
    scores = desk.score(D, desk.choose(D))
    audited = desk.step("audit", D, scores=scores)
    desk.register(desk.use_case.champion, days_after(-1), SIMILAR)
    desk.score(D, desk.choose(D))
    with raises_code(Superseded, "NS-NIGHT-001", scores.uri):
        desk.step("publish_predictions", D, scores=scores, audited=audited)
    assert desk.count("predictions") == 0


def test_a_second_publish_is_a_no_op(desk: Desk) -> None:
    begin_canary(desk)
    desk.deliver(days_after(1))
    first = desk.predict(days_after(1))
    tables = {name: desk.rows(name) for name in ("predictions", "publications", "shadow_predictions")}
    assert desk.predict(days_after(1)) == first
    assert {name: desk.rows(name) for name in tables} == tables
    assert [len(rows) for rows in tables.values()] == [BOOKINGS, 1, 2 * BOOKINGS]


def test_the_publication_names_spec_and_calibration(desk: Desk) -> None:
    begin(desk)
    desk.live(0, 1)
    publication = next(iter(desk.warehouse.publications(days_after(1), days_after(1))), None)
    assert publication is not None
    assert publication.spec_id == desk.use_case.champion.spec_id
    ref = desk.store.current(desk.use_case.name, "calibrate", days_after(1))
    assert (publication.calibration.uri, publication.calibration.sha256) == (ref.uri, ref.sha256)


def test_another_calibration_is_another_publication(desk: Desk) -> None:
    begin(desk)
    desk.live(0, 1)
    before = next(iter(desk.warehouse.publications(days_after(1), days_after(1))), None)
    desk.night(days_after(1), labels=[1 - label for label in late_bookings(days_after(1))])
    after = next(iter(desk.warehouse.publications(days_after(1), days_after(1))), None)
    assert before is not None
    assert after is not None
    assert before.model == after.model
    assert before.publish_id != after.publish_id


@pytest.mark.parametrize("canary", [False, True], ids=["champion", "canary"])
def test_killed_after_the_choice_publishes_nothing(desk: Desk, canary: bool) -> None:
    (begin_canary if canary else begin)(desk)
    one = days_after(1)
    desk.deliver(one)
    scores = desk.score(one, desk.choose(one))
    audited = desk.step("audit", one, scores=scores)
    desk.decide(D, "killed")
    with raises_code(AuditFailed, "NS-PUBLISH-005", "hand:ann", "2020-03-20"):
        desk.step("publish_predictions", one, scores=scores, audited=audited)
    assert [desk.count(name) for name in ("predictions", "publications", "shadow_predictions")] == [0, 0, 0]
    desk.predict(one)
    assert {row["role"] for row in desk.rows("publications")} == {"fallback"}
    fallback = desk.choice(one).primary.model_version
    assert {row["model_version"] for row in desk.rows("predictions")} == {fallback}


def test_kill_switch_after_the_choice_stops_a_canary(desk: Desk) -> None:
    """The primary is the fallback, because the champion was retired: its canary rows are not the fallback's."""
    begin_canary(desk)
    one = days_after(1)
    champion = desk.warehouse.state_as_of(one).version(desk.use_case.champion.spec_id)
    assert champion is not None
    desk.decide(D, "retired", by="hand:eve", model_version=champion.model_version)
    desk.deliver(one)
    scores = desk.score(one, desk.choose(one))
    assert [model.role for model in desk.choice(one).scored] == ["fallback", "challenger"]
    audited = desk.step("audit", one, scores=scores)
    desk.decide(D, "killed")
    with raises_code(AuditFailed, "NS-PUBLISH-005"):
        desk.step("publish_predictions", one, scores=scores, audited=audited)
    assert desk.count("predictions") == 0


def test_a_partition_published_before_the_switch_stays(desk: Desk) -> None:
    begin(desk)
    first = desk.night(D)
    desk.decide(days_after(-1), "killed")
    scores = desk.store.manifest(first).inputs["scores"][0]
    audited = desk.store.manifest(first).inputs["audit"][0]
    assert desk.step("publish_predictions", D, scores=scores, audited=audited) == first


# live_scores


def test_losses_of_live_scores_by_version(desk: Desk) -> None:
    begin_canary(desk)
    desk.live(1, 3)
    losses = partition_losses(desk.store, desk.use_case, [days_after(n) for n in range(4)], days_after(3))
    assert [(one.partition, one.role) for one in losses] == [
        (days_after(number), role) for number in (1, 2) for role in ("champion", "challenger", "fallback")
    ]
    champion = losses[0]
    rows = all_scores(desk, days_after(1), champion.model_version)["score"].to_numpy()
    labels = np.array(late_bookings(days_after(2)))
    assert champion.log_loss == pytest.approx(-np.mean(np.where(labels == 1, np.log(rows), np.log1p(-rows))))
    assert champion.brier == pytest.approx(((rows - labels) ** 2).mean())
    assert (champion.rows, champion.predictions, champion.auc) == (BOOKINGS, BOOKINGS, 1.0)


def test_the_newest_delivery_of_a_label_counts_as_of_a_partition(desk: Desk) -> None:
    begin(desk)
    day = days_after(1)
    desk.deliver(D)
    desk.deliver(day, labels=[0, 0, None])
    desk.deliver(days_after(2), labels=[], late={day: {1: 1, 2: 1}})

    def known(as_of: date) -> list[tuple[int, int, date]]:
        table, _ = known_labels(desk.store, desk.use_case, [day], as_of)
        return [tuple(row.values())[1:] for row in table.to_pylist()]

    assert known(D) == []
    assert known(day) == [(0, 0, day), (1, 0, day)]
    late = day + timedelta(days=1)
    assert known(late) == [(0, 0, day), (1, 1, late), (2, 1, late)]


def test_a_partition_that_was_not_scored_is_none(desk: Desk) -> None:
    assert scored_partition(desk.store, desk.use_case, D) is None
    assert partition_losses(desk.store, desk.use_case, [D], D) == []
