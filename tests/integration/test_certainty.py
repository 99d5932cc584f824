"""Certainty columns and the review queue of published predictions, on hand-made versions: no training, no Feast."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.core.inference.certainty import CERTAINTY_SCHEMA, certainty, level_band
from nightshift.core.inference.domain import Domain, NumericDomain
from nightshift.core.lifecycle.canary import canary_rows
from nightshift.declare.policies import CertaintyPolicy
from nightshift.documents.predict import Calibration
from nightshift.errors import ConfigurationError
from nightshift.services.outcomes import delivered_outcomes
from nightshift.services.review_answers import with_answers
from support.desk import BOOKINGS, EVEN, GOOD, SIMILAR, D, Desk, begin, days_after, late_bookings
from support.errors import raises_code

DOMAIN = Domain(
    numeric={"hours": NumericDomain(low=0.0, high=34.0, missing=False)},
    categories={},
    mean=(20.0,),
    scale=(1.0,),
    whitening=((1.0,),),
    threshold=17.0,
    days=30,
)
WIDER = DOMAIN.model_copy(update={"numeric": {"hours": NumericDomain(low=0.0, high=99.0, missing=False)}})
POLICY = CertaintyPolicy(least_days=3, review_rows=5)


@pytest.fixture
def careful(desk: Desk) -> Desk:
    """A desk with a small policy, whose champion has a domain."""
    desk.use_case = dataclasses.replace(desk.use_case, certainty=POLICY)
    begin(desk, graph=EVEN, domain=DOMAIN)
    return desk


def scores(desk: Desk, partition: date, path: str = "scores.parquet") -> pa.Table:
    return desk.store.read_table(desk.store.current(desk.use_case.name, "score", partition), path)


def queue(desk: Desk, partition: date) -> list[dict[str, Any]]:
    return [row for row in desk.rows("review_queue", "partition, booking") if row["partition"] == partition]


def queue_reviews(desk: Desk, partition: date) -> None:
    published = desk.store.current(desk.use_case.name, "publish_predictions", partition)
    desk.step("queue_reviews", partition, published=published)


def test_published_rows_have_the_columns(careful: Desk) -> None:
    careful.live(0, 4)
    # Partition D + 4 knows the labels of four partitions, D + 2 of two.
    assert scores(careful, days_after(2))["certainty"].null_count == BOOKINGS
    rows = scores(careful, days_after(4))
    assert rows.schema.names[-5:] == CERTAINTY_SCHEMA.names
    hours = np.arange(BOOKINGS)
    assert rows["out_of_range"].to_pylist() == (hours > 34).astype(int).tolist()
    assert rows["out_of_domain"].to_pylist() == (abs(hours - 20) > 17).tolist()
    calibration = careful.store.read_document(
        careful.store.current(careful.use_case.name, "calibrate", days_after(4)), Calibration
    )
    shifts = calibration.specs[careful.use_case.champion.spec_id].shifts
    assert list(shifts) == [days_after(number) for number in range(4)]
    score = rows["p_late"].to_numpy()
    np.testing.assert_array_equal(rows["certainty"].to_numpy(), certainty(list(shifts.values()), score, 0.5))
    np.testing.assert_array_equal(rows["score_low"].to_numpy(), level_band(list(shifts.values()), score, 0.8)[0])
    table = [row for row in careful.rows("predictions") if row["booking_date"] == days_after(5)]
    expected = {row["booking"]: row for row in rows.to_pylist()}
    for row in table:
        assert {name: row[name] for name in CERTAINTY_SCHEMA.names} == {
            name: expected[row["booking"]][name] for name in CERTAINTY_SCHEMA.names
        }


def test_their_distribution_is_monitored(careful: Desk) -> None:
    careful.live(0, 3)
    monitored = [
        set(scores(careful, days_after(number), "summary.parquet")["column_name"].to_pylist()) for number in (0, 3)
    ]
    assert monitored == [
        {"raw_score", "out_of_range", "out_of_domain"},
        {"raw_score", "out_of_range", "out_of_domain", "certainty"},
    ]
    summary = scores(careful, days_after(3), "summary.parquet")
    outside = summary.filter(pc.equal(summary["column_name"], "out_of_domain"))
    assert dict(zip(outside["number"].to_pylist(), outside["rows"].to_pylist(), strict=True)) == {0.0: 35, 1.0: 5}


def test_rows_of_a_canary_have_the_certainty_of_its_version(careful: Desk) -> None:
    challenger = careful.use_case.challengers[0]
    careful.register(challenger, D, SIMILAR, role="challenger", domain=WIDER)
    careful.decide(D, "shadow", challenger)
    careful.decide(D, "canary", challenger, share=0.4)
    careful.live(1, 1)
    rows = scores(careful, days_after(1))
    canary = canary_rows(rows, careful.use_case.key_columns, 0.4)
    beyond = np.arange(BOOKINGS) > 34
    assert (beyond & canary).any()
    assert rows["out_of_range"].to_pylist() == (beyond & ~canary).astype(int).tolist()


def test_a_version_without_a_domain_leaves_the_columns_empty(desk: Desk) -> None:
    begin(desk)
    desk.night(D)
    rows = scores(desk, D)
    assert all(rows[name].null_count == BOOKINGS for name in CERTAINTY_SCHEMA.names)
    assert desk.count("predictions") == BOOKINGS
    assert "no_domain" not in desk.store.manifest(desk.store.current(desk.use_case.name, "score", D)).metrics


def test_a_damaged_domain_does_not_stop_the_predictions(careful: Desk) -> None:
    version = careful.warehouse.state_as_of(D).version(careful.use_case.champion.spec_id)
    assert version is not None
    careful.store.put(careful.store.key(version.model.uri) + Domain.FILE, b"damaged")
    careful.night(D)
    assert careful.count("predictions") == BOOKINGS
    ref = careful.store.current(careful.use_case.name, "score", D)
    assert "NS-STORE-018" in careful.store.manifest(ref).metrics["no_domain"][version.model_version]
    assert scores(careful, D)["out_of_range"].null_count == BOOKINGS


# The review queue


def test_the_least_certain_predictions_are_queued(careful: Desk) -> None:
    careful.live(0, 3)
    queue_reviews(careful, days_after(3))
    rows = queue(careful, days_after(3))
    # Those out of the domain, 0 to 2 and 38 and 39, come before all others.
    assert [row["booking"] for row in rows] == [0, 1, 2, 38, 39]
    assert all(row["booking_date"] == days_after(4) and row["answer"] is None for row in rows)
    assert rows[-1]["reason"].startswith("out of the domain of its version, certainty ")
    listed = careful.warehouse.review_queue(days_after(3))
    assert sorted(one.key["booking"] for one in listed) == [0, 1, 2, 38, 39]  # type: ignore[type-var]
    assert careful.warehouse.review_queue(D) == []


def test_answers_stay_when_a_partition_is_published_again(careful: Desk) -> None:
    careful.live(0, 3)
    last = days_after(3)
    queue_reviews(careful, last)
    before = queue(careful, last)
    queue_reviews(careful, last)
    assert queue(careful, last) == before
    key = [str(days_after(4)), "39"]
    ref = careful.step("answer_review", last, key=key, answer=1, decided_by="hand:ann")
    assert careful.store.read_table(ref, "answers.parquet").to_pylist() == [
        {"booking_date": days_after(4), "booking": 39, "is_late": 1, "answered_by": "hand:ann"}
    ]
    answered = queue(careful, last)
    assert [(row["answer"], row["answer_partition"]) for row in answered][-1] == (1, days_after(4))

    # Another version, of which no row is out of the domain.
    careful.register(
        careful.use_case.champion, days_after(2), GOOD, domain=WIDER.model_copy(update={"threshold": 99.0})
    )
    careful.predict(last)
    queue_reviews(careful, last)
    after = queue(careful, last)
    assert [row for row in after if row["answer"] is not None] == answered[-1:]
    assert 0 not in [row["booking"] for row in after]
    assert 1 < len(after) <= POLICY.review_rows + 1


def test_a_replaced_publication_does_not_fill_the_queue(careful: Desk) -> None:
    careful.live(0, 3)
    last = days_after(3)
    replaced = careful.store.current(careful.use_case.name, "publish_predictions", last)
    queue_reviews(careful, last)
    before = queue(careful, last)
    careful.register(careful.use_case.champion, days_after(2), GOOD)
    careful.predict(last)
    careful.step("queue_reviews", last, published=replaced)
    assert queue(careful, last) == before


@pytest.mark.parametrize(
    ("partition", "key", "answer", "code"),
    [
        (3, ["2020-03-24", "20"], 1, "NS-REVIEW-001"),
        (2, ["2020-03-24", "39"], 1, "NS-REVIEW-002"),
        (3, ["2020-03-24"], 1, "NS-REVIEW-003"),
        (3, ["2020-03-24", "39"], 2, "NS-REVIEW-003"),
        (4, ["2020-03-24", "39"], 1, "NS-DEPLOY-004"),
    ],
    ids=["not queued", "too early", "half a key", "no label", "not published"],
)
def test_what_is_no_answer_is_rejected(careful: Desk, partition: int, key: list[str], answer: int, code: str) -> None:
    careful.live(0, 3)
    queue_reviews(careful, days_after(3))
    with raises_code(ConfigurationError, code):
        careful.step("answer_review", days_after(partition), key=key, answer=answer, decided_by="hand:ann")
    assert all(row["answer"] is None for row in queue(careful, days_after(3)))


def test_an_answer_is_a_label_where_none_was_delivered(careful: Desk) -> None:
    careful.live(0, 3)
    last, following = days_after(3), days_after(4)
    queue_reviews(careful, last)
    for booking in ("38", "39"):
        careful.step("answer_review", last, key=[str(following), booking], answer=0, decided_by="hand:ann")
    labels: list[int | None] = [*late_bookings(following)[:-1], None]
    careful.deliver(following, labels=labels)
    delivered = delivered_outcomes(careful.use_case, careful.store, following).spine
    rows, read = with_answers(careful.use_case, careful.store, following, delivered)
    by_booking = {row["booking"]: row for row in rows.to_pylist()}
    assert rows.num_rows == len(by_booking) == delivered.num_rows + 1 == BOOKINGS
    assert rows.schema.equals(delivered.schema)
    assert (by_booking[39]["is_late"], by_booking[39]["partition"]) == (0, last)
    assert by_booking[38]["is_late"] == 1
    assert [one.kind for one in read["answers"]] == ["answers"]
    assert with_answers(careful.use_case, careful.store, last, delivered) == (delivered, {})
