"""The predict DAG step by step, on hand-made versions: no training, no Feast."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nightshift.artifact import ArtifactRef, Decision
from nightshift.core.inference.calibration import calibrated
from nightshift.core.lifecycle.canary import canary_rows
from nightshift.declare.policies import CertaintyPolicy
from nightshift.documents.predict import Calibration, ModelChoice
from nightshift.documents.promote import Review
from nightshift.errors import AuditFailed, PartitionNotReady, TransientError, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.live_scores import scored_partition
from nightshift.steps.predict import calibrate, score
from support.desk import (
    BOOKINGS,
    GOOD,
    POOR,
    SIMILAR,
    D,
    Desk,
    begin,
    begin_canary,
    days_after,
    sigmoid_of_hours,
)
from support.errors import raises_code


def chosen(desk: Desk, ref: ArtifactRef) -> tuple[str, str]:
    primary = desk.store.read_document(ref, ModelChoice).primary
    return primary.role, str(primary.trained_on)


def calibration_of(desk: Desk, partition: date) -> Calibration:
    ref = desk.store.current(desk.use_case.name, "calibrate", partition)
    return desk.store.read_document(ref, Calibration)


def all_scores(desk: Desk, partition: date, version: str) -> pa.Table:
    scored = scored_partition(desk.store, desk.use_case, partition)
    assert scored is not None
    return scored.rows.filter(pc.equal(scored.rows["model_version"], version))


# resolve_model


def test_without_any_version_the_message_says_what_to_run(desk: Desk) -> None:
    with raises_code(UnknownModel, "NS-PREDICT-002", "backfill_history"):
        desk.step("resolve_model", D)


def test_the_fallback_serves_until_there_is_a_champion(desk: Desk) -> None:
    desk.register(desk.use_case.fallback, D, POOR, role="fallback")
    first = desk.step("resolve_model", days_after(1))
    assert chosen(desk, first) == ("fallback", str(D))
    desk.register(desk.use_case.champion, days_after(1))
    desk.decide(days_after(1), "promoted", desk.use_case.champion, by="register")
    desk.end("advance", days_after(1))
    desk.end("publish_predictions", days_after(1))
    # A decision takes effect for later partitions only.
    assert desk.step("resolve_model", days_after(1)) == first
    assert chosen(desk, desk.step("resolve_model", days_after(2))) == ("champion", str(days_after(1)))


def test_a_version_of_the_night_before_is_primary_at_once(desk: Desk) -> None:
    begin(desk)
    desk.register(desk.use_case.champion, D, SIMILAR)
    desk.end("advance", D)
    desk.end("publish_predictions", D)
    choice = desk.store.read_document(desk.step("resolve_model", days_after(1)), ModelChoice)
    assert choice.primary.trained_on == D
    assert choice.why.startswith(f"champion {desk.use_case.champion.spec_id} serves with version {D}-")
    assert choice.why.endswith(f"trained on partition {D}, 1 day old")


def test_a_partition_waits_for_training_and_review_of_the_one_before_only(desk: Desk) -> None:
    begin(desk)
    desk.step("resolve_model", D)
    name = desk.use_case.name
    with raises_code(
        PartitionNotReady, "NS-PREDICT-001", f"{name}.train and {name}.promote and {name}.predict for {D}"
    ):
        desk.step("resolve_model", days_after(1))
    desk.end("publish_predictions", D)
    desk.end("advance", D)
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"clear {name}.train for {D}"):
        desk.step("resolve_model", days_after(1))
    undecided = desk.choose(days_after(1))
    assert desk.store.manifest(undecided).parameters == {"undecided": str(D)}
    assert chosen(desk, undecided) == ("champion", str(days_after(-1)))
    # D is still undecided, but D + 1 is decided: nothing older is waited for.
    desk.fail_training(days_after(1))
    desk.end("publish_predictions", days_after(1))
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"clear {name}.promote for {days_after(1)}"):
        desk.step("resolve_model", days_after(2))
    desk.end("advance", days_after(1))
    desk.end("publish_predictions", days_after(1))
    assert chosen(desk, desk.step("resolve_model", days_after(2))) == ("champion", str(days_after(-1)))


@pytest.mark.parametrize("step", ["publish", "publish_features"])
def test_the_training_of_a_rejected_partition_is_not_waited_for(desk: Desk, step: str) -> None:
    begin(desk)
    desk.deliver(D)
    desk.store.decide(desk.use_case.name, step, D, Decision(status="rejected", reason="half a file"))
    desk.step("resolve_model", days_after(1))


def test_a_partition_after_a_rejected_one_waits_for_the_one_before_that(desk: Desk) -> None:
    begin(desk)
    desk.deliver(D)
    desk.store.decide(desk.use_case.name, "publish", days_after(1), Decision(status="rejected", reason="half a file"))
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"of partition {D} are undecided"):
        desk.step("resolve_model", days_after(2))
    assert desk.store.manifest(desk.choose(days_after(2))).parameters == {"undecided": str(D)}


def test_training_of_a_partition_does_not_change_its_model(desk: Desk) -> None:
    begin(desk)
    before = desk.step("resolve_model", D)
    desk.register(desk.use_case.champion, D, SIMILAR)
    assert desk.step("resolve_model", D) == before


def test_with_the_kill_switch_on_the_fallback_scores_alone(desk: Desk) -> None:
    begin_canary(desk)
    desk.decide(D, "killed")
    choice = desk.store.read_document(desk.choose(days_after(1)), ModelChoice)
    assert (choice.primary.role, choice.shadows) == ("fallback", ())
    assert choice.why.endswith(f"because the kill switch is on since partition {D}, by hand:ann")


def test_a_challenger_that_is_also_the_fallback_scores_once(desk: Desk) -> None:
    begin(desk)
    desk.decide(D, "shadow", desk.use_case.fallback)
    choice = desk.store.read_document(desk.choose(days_after(1)), ModelChoice)
    assert [one.role for one in choice.shadows] == ["challenger"]
    desk.deliver(days_after(1))
    desk.predict(days_after(1))


# The first version of the champion's spec


def frozen_nights(desk: Desk, first: bytes = POOR) -> list[str]:
    """Nights D + 1 to D + 3 of a champion whose first version answers otherwise. Returns both versions, first first."""
    frozen = begin(desk, graph=first)
    newest = desk.register(desk.use_case.champion, D, GOOD)
    for number in range(1, 4):
        desk.night(days_after(number))
        desk.step("record_performance", days_after(number))
    return [frozen.model_version, newest.model_version]


def test_the_first_version_is_scored_beside_the_newest(desk: Desk) -> None:
    frozen, newest = frozen_nights(desk)
    choice = desk.choice(days_after(3))
    assert choice.primary.model_version == newest
    assert [(one.role, one.model_version) for one in choice.shadows][1:] == [("frozen", frozen)]
    assert {row["model_version"] for row in desk.rows("predictions")} == {newest}
    own = [row for row in desk.rows("shadow_predictions") if row["role"] == "frozen"]
    assert len(own) == 3 * BOOKINGS
    assert all(row["raw_score"] == row["score"] for row in own)
    loss = {row["role"]: row["log_loss"] for row in desk.rows("performance_daily") if row["partition"] == days_after(2)}
    assert set(loss) == {"published", "champion", "fallback", "frozen"}
    assert loss["frozen"] > loss["published"]


def test_nothing_is_decided_or_calibrated_by_the_first_version(desk: Desk) -> None:
    frozen_nights(desk)
    scored = scored_partition(desk.store, desk.use_case, days_after(2))
    assert scored is not None
    assert set(scored.rows["role"].to_pylist()) == {"champion", "fallback"}
    ref = desk.store.current(desk.use_case.name, "calibrate", days_after(3))
    champion = desk.store.read_document(ref, Calibration).specs[desk.use_case.champion.spec_id]
    assert (champion.rows, len(champion.partitions)) == (2 * BOOKINGS, 2)
    review = desk.store.read_document(desk.step("review", days_after(3)), Review)
    assert {one.role for one in review.losses} == {"champion", "fallback"}


@pytest.mark.parametrize("missing", ["model.onnx", "spec.json"])
def test_a_first_version_that_is_gone_does_not_stop_the_primary(desk: Desk, missing: str) -> None:
    frozen, newest = frozen_nights(desk)
    ref = next(one.model for one in desk.choice(days_after(3)).shadows if one.role == "frozen")
    desk.store.put(desk.store.key(ref.uri) + missing, b"other bytes")
    desk.night(days_after(4))
    published = {row["model_version"] for row in desk.rows("publications") if row["partition"] == days_after(4)}
    assert published == {newest}
    scores = desk.store.manifest(desk.store.current(desk.use_case.name, "score", days_after(4)))
    assert set(scores.metrics.get("failed_shadows", {})) == ({frozen} if missing == "model.onnx" else set())


# calibrate


def test_without_history_scores_are_the_graphs_answers(desk: Desk) -> None:
    begin(desk)
    desk.night(D)
    rows = all_scores(desk, D, desk.choice(D).primary.model_version)
    assert rows["raw_score"] == rows["score"]
    assert {one.rows for one in calibration_of(desk, D).specs.values()} == {0}


def test_labels_move_the_scores_towards_the_rate(desk: Desk) -> None:
    """The champion says half; a quarter is late, day after day."""
    begin(desk, graph=sigmoid_of_hours(0.001, 0.0))
    for number in range(6):
        desk.night(days_after(number), labels=[int(i % 4 == 0) for i in range(BOOKINGS)])
    spec = desk.use_case.champion.spec_id
    intercepts = [calibration_of(desk, days_after(n)).specs[spec].intercept for n in range(6)]
    assert intercepts[0] == 0
    assert intercepts == sorted(intercepts, reverse=True)
    assert -1.2 < intercepts[5] < -0.7
    rows = all_scores(desk, days_after(5), desk.choice(days_after(5)).primary.model_version)
    expected = calibrated(calibration_of(desk, days_after(5)).specs[spec], rows["raw_score"].to_numpy())
    np.testing.assert_array_equal(rows["score"].to_numpy(), expected)


def test_a_new_version_of_a_spec_takes_over_its_calibration(desk: Desk) -> None:
    begin(desk, graph=POOR)
    desk.live(0, 1)
    desk.register(desk.use_case.champion, days_after(1), GOOD)
    desk.night(days_after(2))
    fitted = calibration_of(desk, days_after(2)).specs[desk.use_case.champion.spec_id]
    assert fitted.partitions == (D, days_after(1))


def test_labels_of_later_partitions_do_not_count(desk: Desk) -> None:
    begin(desk)
    desk.live(0, 2)
    choice = desk.store.current(desk.use_case.name, "resolve_model", days_after(2))
    before = desk.store.current(desk.use_case.name, "calibrate", days_after(2))
    desk.deliver(days_after(3), late={days_after(1): dict.fromkeys(range(BOOKINGS), 1)})
    assert desk.step("calibrate", days_after(2), model_choice=choice) == before


def test_damaged_scores_of_the_past_do_not_stop_the_partition(desk: Desk) -> None:
    begin(desk)
    desk.live(0, 1)
    damaged = desk.store.current(desk.use_case.name, "score", D)
    desk.store.put(desk.store.key(damaged.uri) + "all_scores.parquet", b"damaged")
    desk.night(days_after(2))
    ref = desk.store.current(desk.use_case.name, "calibrate", days_after(2))
    assert list(desk.store.manifest(ref).metrics["unreadable"]) == [str(D)]
    fitted = desk.store.read_document(ref, Calibration).specs[desk.use_case.champion.spec_id]
    assert fitted.partitions == (days_after(1),)


def test_requests_do_not_grow_with_history(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(desk)
    monkeypatch.setattr(calibrate, "window_days", lambda _: 3)
    desk.use_case = dataclasses.replace(desk.use_case, certainty=CertaintyPolicy(days=3))
    desk.live(0, 7)
    requests: list[str] = []
    real = ArtifactStore.get
    monkeypatch.setattr(ArtifactStore, "get", lambda self, key: requests.append(key) or real(self, key))
    counts = []
    for number in (4, 7):
        requests.clear()
        choice = desk.store.current(desk.use_case.name, "resolve_model", days_after(number))
        desk.step("calibrate", days_after(number), model_choice=choice)
        counts.append(len(requests))
    assert counts[0] == counts[1]


# score


def test_every_version_scores_every_row(desk: Desk) -> None:
    begin_canary(desk)
    desk.live(1, 1)
    choice = desk.choice(days_after(1))
    assert [one.role for one in choice.scored] == ["champion", "challenger", "fallback"]
    for one in choice.scored:
        rows = all_scores(desk, days_after(1), one.model_version)
        assert rows.num_rows == BOOKINGS
        assert set(rows["role"].to_pylist()) == {one.role}
        assert set(rows["spec_id"].to_pylist()) == {one.spec_id}


def test_canary_rows_take_score_and_version_of_the_challenger(desk: Desk) -> None:
    begin_canary(desk, share=0.4)
    desk.live(1, 1)
    primary, challenger, _ = desk.choice(days_after(1)).scored
    ref = desk.store.current(desk.use_case.name, "score", days_after(1))
    published = desk.store.read_table(ref, "scores.parquet")
    canary = canary_rows(published, desk.use_case.key_columns, 0.4)
    assert 5 < canary.sum() < 30
    versions = np.where(canary, challenger.model_version, primary.model_version)
    assert published["model_version"].to_pylist() == versions.tolist()
    answers = [all_scores(desk, days_after(1), one.model_version)["score"].to_numpy() for one in (challenger, primary)]
    np.testing.assert_array_equal(published["p_late"].to_numpy(), np.where(canary, *answers))


def test_the_same_inputs_give_the_same_bytes(desk: Desk) -> None:
    begin_canary(desk)
    desk.live(1, 3)
    name, last = desk.use_case.name, days_after(3)
    choice, before = desk.store.current(name, "resolve_model", last), desk.store.current(name, "score", last)
    desk.settings = desk.settings.model_copy(update={"threads": 1})
    assert desk.choose(last) == choice
    assert desk.score(last, choice) == before


def test_small_batches_give_the_same_scores(desk: Desk) -> None:
    begin_canary(desk)
    desk.live(1, 2)
    last = days_after(2)
    ref = desk.store.current(desk.use_case.name, "score", last)
    desk.settings = desk.settings.model_copy(update={"score_batch_rows": 7})
    small = desk.score(last, desk.choose(last))
    assert desk.store.read_table(small, "scores.parquet") == desk.store.read_table(ref, "scores.parquet")
    order = [("model_version", "ascending"), ("booking", "ascending")]
    both = [desk.store.read_table(one, "all_scores.parquet").sort_by(order) for one in (small, ref)]
    assert both[0] == both[1]


NO_SCORE = sigmoid_of_hours(float("nan"), 0.0)
CONSTANT = sigmoid_of_hours(0.0, 0.0)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ({"graph": b"no graph"}, "InvalidProtobuf"),
        ({"graph": NO_SCORE}, "no score is missing"),
        ({"graph": CONSTANT}, "scores differ"),
        ({"service": "gone"}, "there is no feature service gone"),
        ({"feature": "gone"}, "lacks 1 feature columns"),
    ],
    ids=["graph", "missing", "constant", "service", "feature"],
)
def test_a_failing_canary_is_left_out_with_the_reason(desk: Desk, version: dict[str, Any], reason: str) -> None:
    registered = begin_canary(desk, **version)
    desk.live(1, 1)
    ref = desk.store.current(desk.use_case.name, "score", days_after(1))
    assert reason in desk.store.manifest(ref).metrics["failed_shadows"][registered.model_version]
    assert {row["model_version"] for row in desk.rows("predictions")} == {
        desk.choice(days_after(1)).primary.model_version
    }
    assert {row["role"] for row in desk.rows("shadow_predictions")} == {"fallback"}
    # The next partition has no scores of it to calibrate by.
    desk.night(days_after(2))


def test_a_shadow_may_be_constant_but_not_missing(desk: Desk) -> None:
    begin(desk)
    challenger = desk.use_case.challengers[0]
    desk.register(challenger, D, CONSTANT, role="challenger")
    desk.decide(D, "shadow", challenger)
    desk.night(days_after(1))
    assert {row["role"] for row in desk.rows("shadow_predictions")} == {"challenger", "fallback"}


def test_a_primary_that_cannot_score_fails_the_partition(desk: Desk) -> None:
    begin(desk, graph=NO_SCORE)
    with raises_code(AuditFailed, "NS-PUBLISH-004", "no score is missing: 40"):
        desk.night(D)
    assert desk.count("predictions") == 0


def test_what_may_succeed_later_is_not_a_failing_shadow(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_canary(desk, service="busy")
    real = score.historical_features

    def features(use_case: Any, settings: Any, store: Any, service: str, spine: pa.Table, **more: Any) -> pa.Table:
        if service == "busy":
            raise TransientError("NS-TEST-001", "busy")
        return real(use_case, settings, store, service, spine, **more)

    monkeypatch.setattr(score, "historical_features", features)
    with raises_code(TransientError, "NS-TEST-001"):
        desk.live(1, 1)
