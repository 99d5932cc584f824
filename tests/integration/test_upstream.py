"""A use case that reads the predictions of another one: late_fees reads what late_returns publishes.

Most tests have a desk as the upstream, whose versions are made by hand; the consumer runs its real steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import time
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.declare.discovery import load_use_case
from nightshift.declare.feeds import Column, Expectation
from nightshift.declare.predictions import Predictions
from nightshift.declare.use_case import UseCase
from nightshift.errors import NothingDelivered, PartitionNotReady, PartitionRejected, SchemaChanged, UpstreamHeld
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.feast.feature_store import historical_features
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.local.dry_run import of_store
from nightshift.partitions import partition_range
from nightshift.services.catch_up import why_again
from nightshift.services.lineage import _Walker, trace
from nightshift.services.look_ahead import look_ahead_gate
from nightshift.settings import Settings
from nightshift.steps.predict import score
from support.desk import SIMILAR, D, Desk, begin, days_after, hours_without_feast
from support.errors import raises_code
from support.fees import DAY, FEED, deliver, delivered_scores, ingest, published_scores, read_by, status, with_source
from support.nights import Nights
from support.second_use_case import CONSUMER_ROOT, ROOT

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def late_fees(monkeypatch: pytest.MonkeyPatch, late_returns: UseCase, settings: Settings) -> Iterator[UseCase]:
    """The consumer, with a schema that is dropped at the end."""
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", os.pathsep.join([str(ROOT), str(CONSUMER_ROOT)]))
    yield load_use_case("late_fees")
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS late_fees CASCADE")


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch, late_returns: UseCase, settings: Settings, store: ArtifactStore) -> Desk:
    """late_returns with a champion and a fallback of the partition before D, made by hand."""

    def features(use_case: UseCase, *args: Any, **options: Any) -> pa.Table:
        read = hours_without_feast if use_case.name == late_returns.name else historical_features
        return read(use_case, *args, **options)

    monkeypatch.setattr(score, "historical_features", features)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    desk = Desk(late_returns, settings, store)
    begin(desk)
    return desk


@pytest.fixture
def consumer(late_fees: UseCase, settings: Settings, store: ArtifactStore) -> Nights:
    """late_fees from partition D on, with nothing delivered yet."""
    return Nights(replace(late_fees, first_partition=D), settings, store)


# Which predictions


def test_the_feed_has_the_published_scores(upstream: Desk, consumer: Nights) -> None:
    upstream.night(D)
    curated = ingest(consumer, D)
    table = {(row["booking_date"], row["booking"]): row["p_late"] for row in upstream.rows("predictions")}
    assert delivered_scores(consumer.store, curated) == table
    assert {day for day, _ in table} == {D + DAY}
    assert read_by(consumer, D) == [published_scores(upstream, D).sha256]


def test_with_lag_1_the_predictions_are_for_the_partition_itself(upstream: Desk, consumer: Nights) -> None:
    upstream.live(0, 1)
    consumer = with_source(consumer, Predictions("late_returns", lag=1), cutoff_time=time(4, 30))
    curated = ingest(consumer, days_after(1))
    assert {day for day, _ in delivered_scores(consumer.store, curated)} == {days_after(1)}
    assert read_by(consumer, days_after(1)) == [published_scores(upstream, D).sha256]


def test_a_shadow_is_not_read(upstream: Desk, consumer: Nights) -> None:
    challenger = upstream.use_case.challengers[0]
    upstream.register(challenger, days_after(-1), SIMILAR, role="challenger")
    upstream.decide(days_after(-1), "shadow", challenger)
    upstream.night(D)
    assert len(delivered_scores(consumer.store, ingest(consumer, D))) == 40


def test_a_column_that_the_scores_lack_rejects_the_partition(upstream: Desk, consumer: Nights) -> None:
    """As after a change of the upstream's declaration: its older scores have the columns of then."""
    upstream.night(D)
    feeds = [replace(one, landed=(*one.landed, Column("hours", "float64"))) for one in consumer.use_case.feeds[2:]]
    changed = replace(consumer.use_case, feeds=(*consumer.use_case.feeds[:2], *feeds))
    with raises_code(SchemaChanged, "NS-LAND-018", "'hours'", published_scores(upstream, D).uri):
        ingest(Nights(changed, consumer.settings, consumer.store), D)
    assert status(consumer, D)[0] == "rejected"


def test_rows_of_predictions_are_quarantined_like_others(upstream: Desk, consumer: Nights) -> None:
    upstream.night(D)
    low = Expectation(
        "expect_column_values_to_be_between", {"column": "p_late", "max_value": 0.9}, "quarantine", "sure_to_be_late"
    )
    feeds = [replace(one, expectations=(low,)) if one.source else one for one in consumer.use_case.feeds]
    strict = Nights(replace(consumer.use_case, feeds=tuple(feeds)), consumer.settings, consumer.store)
    curated = ingest(strict, D)
    assert 0 < len(delivered_scores(strict.store, curated)) < 40
    quarantined = strict.store.manifest(curated).metrics["quarantined"]["sure_to_be_late"]
    assert quarantined == 40 - len(delivered_scores(strict.store, curated))


def test_a_feed_that_was_files_before_can_be_traced(upstream: Desk, consumer: Nights) -> None:
    by_file = with_source(consumer, None)
    body = f"booking_date,booking,p_late\n{D + DAY},0,0.5\n"
    consumer.store.put(f"landing/late_fees/{FEED}/dt={D}/scores.csv", body.encode())
    upstream.live(0, 1)
    curated = [ingest(by_file, D), ingest(consumer, days_after(1))]
    lines = list(_Walker(consumer.store, "late_fees").tree({"curated": curated}, ""))
    assert any(f"{FEED}: s3://" in line and "scores.csv" in line for line in lines)
    assert any(f"{FEED}: late_returns score {days_after(1)}" in line for line in lines)


def test_a_dry_run_gets_the_published_scores_as_files(upstream: Desk, consumer: Nights) -> None:
    upstream.night(D)
    deliver(consumer, D)
    files = {feed: body for feed, _, _, body in of_store(consumer.use_case, consumer.store)(D, days_after(1))}
    assert set(files) == {"bookings", "fees", FEED}
    table = pq.read_table(pa.BufferReader(files[FEED]))
    assert (table.num_rows, table.column_names) == (40, ["booking_date", "booking", "p_late"])


# When there are none


def test_an_undecided_upstream_is_waited_for(upstream: Desk, consumer: Nights) -> None:
    with raises_code(PartitionNotReady, "NS-UPSTREAM-007", "late_returns", D):
        ingest(consumer, D)
    assert consumer.store.decision("late_fees", "publish", D) is None
    upstream.night(D)
    consumer.ingest(D)
    assert status(consumer, D)[0] == "published"


def test_after_the_last_try_the_partition_is_rejected(upstream: Desk, consumer: Nights) -> None:
    deliver(consumer, D)
    with raises_code(NothingDelivered, "NS-UPSTREAM-009", "late_returns", D):
        consumer.step("land", D, reject_undelivered=True)
    state, reason = status(consumer, D)
    assert state == "rejected"
    assert f"no predictions of late_returns {D}" in reason
    # Run again before they are decided, it would be rejected again, or published without them.
    assert why_again(consumer.settings, consumer.store, consumer.use_case, [D], []) == {}
    upstream.live(0, 1)
    assert list(why_again(consumer.settings, consumer.store, consumer.use_case, [D], [])) == [D]
    ingest(consumer, days_after(1))
    assert status(consumer, days_after(1))[0] == "published"
    consumer.ingest(D)
    assert status(consumer, D)[0] == "published"


@pytest.mark.parametrize("step", ["publish", "publish_features", "publish_predictions"])
def test_a_rejected_upstream_partition_is_not_waited_for(step: str, upstream: Desk, consumer: Nights) -> None:
    stage = {"publish": "ingest", "publish_features": "materialize", "publish_predictions": "predict"}[step]
    upstream.step("record_failure", D, stage=stage, run_id="a run", failed_tasks=["a task"])
    with raises_code(UpstreamHeld, "NS-UPSTREAM-008", D, "a task"):
        ingest(consumer, D)
    assert status(consumer, D)[0] == "rejected"


def test_predictions_are_waited_for_though_the_upstream_has_no_review(upstream: Desk, consumer: Nights) -> None:
    upstream.step("record_failure", D, stage="promote", run_id="a run", failed_tasks=["review"])
    with raises_code(PartitionNotReady, "NS-UPSTREAM-007", "not published yet"):
        ingest(consumer, D)


def test_a_partition_before_the_first_of_the_upstream_is_not_waited_for(upstream: Desk, consumer: Nights) -> None:
    early = upstream.use_case.first_partition
    consumer = with_source(consumer, Predictions("late_returns", lag=1), first_partition=early)
    with raises_code(UpstreamHeld, "NS-UPSTREAM-008", early - DAY):
        ingest(consumer, early)


# A held upstream


def test_a_kill_switch_holds_the_consumer_and_the_next_night_goes_on(upstream: Desk, consumer: Nights) -> None:
    upstream.night(D)
    ingest(consumer, D)
    consumer.materialize(D)
    upstream.decide(D, "killed")
    held, following = days_after(1), days_after(2)
    upstream.night(held)
    with raises_code(UpstreamHeld, "NS-UPSTREAM-008", "fallback", "kill switch", "hand:ann", held):
        ingest(consumer, held)
    state, reason = status(consumer, held)
    assert (state, "kill switch" in reason) == ("rejected", True)
    with raises_code(PartitionRejected, "NS-FEATURE-018", "kill switch"):
        consumer.materialize(held)

    upstream.decide(held, "restored")
    upstream.night(following)
    ingest(consumer, following)
    built = consumer.materialize(following)
    (features,) = consumer.store.manifest(built).inputs["features"]
    assert consumer.store.manifest(features).parameters["missing"] == [str(held)]


def test_a_kill_switch_stops_what_was_published_before_it(upstream: Desk, consumer: Nights) -> None:
    """With lag 1 the newest predictions are a day old: the switch may have been turned on since."""
    lagging = with_source(consumer, Predictions("late_returns", lag=1, accept_fallback=True))
    upstream.live(0, 1)
    upstream.decide(D, "killed")
    with raises_code(UpstreamHeld, "NS-UPSTREAM-008", "champion", "hand:ann"):
        ingest(lagging, days_after(1))
    upstream.predict(days_after(1))
    ingest(lagging, days_after(2))
    assert read_by(lagging, days_after(2)) == [published_scores(upstream, days_after(1)).sha256]


def test_the_fallback_is_read_where_it_is_accepted(upstream: Desk, consumer: Nights) -> None:
    upstream.decide(days_after(-1), "killed")
    upstream.night(D)
    accepting = with_source(consumer, Predictions("late_returns", lag=0, accept_fallback=True))
    assert len(delivered_scores(consumer.store, ingest(accepting, D))) == 40


def test_a_degraded_partition_is_published_without_the_feed(upstream: Desk, consumer: Nights) -> None:
    consumer = with_source(consumer, Predictions("late_returns", lag=0, on_missing="degrade"))
    upstream.decide(days_after(-1), "killed")
    upstream.night(D)
    curated = ingest(consumer, D)
    manifest = consumer.store.manifest(curated)
    assert manifest.metrics["rows"] == {"bookings": 40, "fees": 40, FEED: 0}
    (reason,) = manifest.metrics["degraded"].values()
    assert f"late_returns {D}: its fallback serves" in reason
    assert "hand:ann" in reason
    assert read_by(consumer, D) == []
    features = consumer.store.read_table(consumer.materialize(D), "fee_booking.parquet")
    assert (features.num_rows, features["return_score"].null_count) == (40, 40)

    # Made good, it has the scores, and no longer says that it is degraded.
    upstream.decide(days_after(-1), "restored")
    upstream.predict(D)
    curated = consumer.ingest(D)
    assert len(delivered_scores(consumer.store, curated)) == 40
    assert "degraded" not in consumer.store.manifest(curated).metrics


def test_degrading_waits_for_an_undecided_upstream_too(upstream: Desk, consumer: Nights) -> None:
    consumer = with_source(consumer, Predictions("late_returns", lag=0, on_missing="degrade"))
    deliver(consumer, D)
    with raises_code(PartitionNotReady, "NS-UPSTREAM-007"):
        consumer.step("land", D)
    landed = consumer.step("land", D, reject_undelivered=True)
    assert "not published yet" in consumer.store.manifest(landed).metrics[FEED]["degraded"]


def test_an_upstream_that_cannot_be_loaded_is_missing(
    upstream: Desk, consumer: Nights, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "include" / tmp_path.name
    folder.mkdir(parents=True)
    (folder / "use_case.py").write_text("USE_CASE = nothing\n")
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", os.pathsep.join([str(ROOT), str(tmp_path)]))
    broken = with_source(consumer, Predictions(tmp_path.name, lag=0))
    with raises_code(PartitionNotReady, "NS-UPSTREAM-007", "NameError"):
        ingest(broken, D)
    with raises_code(NothingDelivered, "NS-UPSTREAM-009", "NameError"):
        broken.step("land", D, reject_undelivered=True)


# Published again


def test_a_later_publication_changes_nothing_until_the_partition_is_cleared(upstream: Desk, consumer: Nights) -> None:
    upstream.night(D)
    before = published_scores(upstream, D)
    curated = ingest(consumer, D)
    features = consumer.materialize(D)
    files = {name: consumer.store.read(features, name) for name in ("fee_booking.parquet", "fee_branch.parquet")}

    upstream.night(D, bookings=30)
    after = published_scores(upstream, D)
    assert after != before
    # The next partition, and the features of this one, still rest on what was known then.
    upstream.night(days_after(1))
    ingest(consumer, days_after(1))
    consumer.materialize(days_after(1))
    assert consumer.store.current("late_fees", "publish", D) == curated
    assert consumer.materialize(D) == features
    assert look_ahead_gate(consumer.use_case, consumer.store, D, days_after(1)).verdict == "pass"

    # Cleared, it reads the scores that count now; the old ones are still there.
    assert len(delivered_scores(consumer.store, consumer.ingest(D))) == 30
    assert read_by(consumer, D) == [after.sha256]
    changed = consumer.materialize(D)
    assert {name for name, body in files.items() if consumer.store.read(changed, name) != body} == {
        "fee_booking.parquet"
    }
    assert len(delivered_scores(consumer.store, curated)) == 40


def test_the_same_night_again_makes_the_same_artifacts(upstream: Desk, consumer: Nights) -> None:
    upstream.night(D)
    curated = ingest(consumer, D)
    upstream.predict(D)
    assert consumer.ingest(D) == curated


# Whole nights


@pytest.mark.timeout(1200)
def test_a_model_is_trained_and_scored_with_another_models_predictions(
    late_returns: UseCase, upstream: Desk, consumer: Nights
) -> None:
    """The consumer's own training and features: from its prediction to the upstream's files, byte for byte."""
    store, settings = consumer.store, consumer.settings
    nights = partition_range(D, days_after(7))
    parts = [upstream.deliver(days_after(-n)) for n in (3, 2)]
    upstream.register(late_returns.champion, D, training_set=upstream.training_set(D, parts))
    for night in nights:
        upstream.night(night)
        ingest(consumer, night)
        consumer.materialize(night)
        consumer.append(night)
    consumer.train(nights[-2])
    scores = consumer.predict(nights[-1])

    (publication,) = Warehouse(settings, consumer.use_case).publications(nights[-1], nights[-1])
    assert publication.role == "champion"
    features = store.read_table(scores, "features.parquet").to_pylist()
    read = store.read_table(published_scores(upstream, nights[-1]), "scores.parquet").to_pylist()
    return_scores = {row["booking"]: row["p_late"] for row in read}
    assert {row["booking"]: row["return_score"] for row in features} == return_scores
    # The model has learned from it: the bookings that it finds likely to be charged are those returned late.
    fees = {row["booking"]: row["p_fee"] for row in store.read_table(scores, "scores.parquet").to_pylist()}
    assert min(fees[n] for n in range(30, 40)) > max(fees[n] for n in range(10))

    path = trace(consumer.use_case, settings, store, {"booking_date": str(nights[-1] + DAY), "booking": "7"})
    assert f"landing/late_fees/bookings/dt={nights[-1]}/bookings.csv" in path
    assert f"{FEED}: 8 partitions of late_returns score  {nights[0]} .. {nights[-1]}" in path
    assert f"landing/late_returns/bookings/dt={days_after(-3)}/bookings.csv" in path
    assert "late_returns build_training_set" in path

    for what, partition in (("prediction", nights[-1]), ("training", nights[-2])):
        reproduced = consumer.step("reproduce", partition, what=what)
        assert store.manifest(reproduced).metrics["identical"], what
