"""The life of a model over nights: beside the champion, as a canary, in charge, and out again."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from integration.desk import (
    BOOKINGS,
    POLICY,
    POOR,
    SIMILAR,
    TERRIBLE,
    D,
    Desk,
    begin,
    begin_canary,
    choice_of,
    days_after,
    decided,
    late_returns,
    live,
    sigmoid_of_hours,
    trial_desk,
)
from integration.nights import Nights
from nightshift.core.canary import canary_bucket
from nightshift.errors import (
    AuditFailed,
    ChampionChanged,
    PartitionNotReady,
    StoreUnavailable,
    TrackingUnavailable,
)
from nightshift.io.artifact_store import ArtifactStore
from nightshift.settings import Settings
from nightshift.steps.predict import audit, publish_predictions, resolve_model, score
from nightshift.steps.promote import advance_model, judge_trial, mirror_models
from nightshift.usecase import partition_range


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore) -> Iterator[Desk]:
    with trial_desk(monkeypatch, settings, store) as made:
        yield made


# From shadow to champion


def test_a_challenger_goes_through_shadow_canary_and_standby(desk: Desk) -> None:
    models = begin(desk)
    old, new = models.champion.model_version, models.challenger.model_version
    scores = live(desk, 1, 10)
    assert decided(desk) == [(3, "canary", new), (6, "promoted", new), (9, "confirmed", new)]
    promoted = next(one for one in desk.warehouse.decisions() if one.action == "promoted" and one.partition > D)
    assert (promoted.replaces, promoted.model, promoted.decided_by) == (old, models.challenger.model, "advance_model")
    assert promoted.reason["nights"] == [str(days_after(4)), str(days_after(5))]

    stages = [(choice_of(desk, n)["beside"] or {}).get("stage") for n in range(1, 11)]
    assert stages == ["shadow"] * 3 + ["canary"] * 3 + ["standby"] * 3 + [None]
    assert [choice_of(desk, n)["model_version"] for n in range(1, 11)] == [old] * 6 + [new] * 4

    # Only canary nights publish anything of the challenger, and just the rows of the hash.
    for row in desk.rows("predictions"):
        canary = days_after(5) <= row["booking_date"] <= days_after(7)
        chosen = canary and canary_bucket(f"{row['booking_date']}|{row['booking']}") < POLICY.canary_share
        after = row["booking_date"] > days_after(7)
        assert row["model_version"] == (new if chosen or after else old)
    shadow = desk.rows("shadow_predictions")
    assert len(shadow) == 9 * BOOKINGS
    share = np.mean([row["published"] for row in shadow if row["stage"] == "canary"])
    assert share == pytest.approx(POLICY.canary_share, abs=0.1)

    nights = [row for row in desk.rows("trial_nights") if row["partition"] == days_after(6)]
    assert [(row["night"], row["stage"], row["decision"]) for row in nights] == [
        (days_after(4), "canary", "promote"),
        (days_after(5), "canary", "promote"),
    ]
    assert all(row["difference"] == row["challenger_log_loss"] - row["incumbent_log_loss"] for row in nights)

    # Every night, run again after all of it, is what it was, to the bit; nothing is published or recorded anew.
    publications, actions = desk.rows("publications", "partition"), desk.actions()
    assert [desk.predict(days_after(n)) for n in range(1, 11)] == scores
    for number in range(1, 11):
        desk.promote(days_after(number))
    assert desk.rows("publications", "partition") == publications
    assert desk.actions() == actions
    assert len(desk.rows("shadow_predictions")) == 9 * BOOKINGS


def test_the_published_score_of_a_canary_is_the_challengers(desk: Desk) -> None:
    models = begin_canary(desk)
    (scores,) = live(desk, 1, 1)
    published = desk.store.read_table(scores, "scores.parquet")
    shadow = desk.store.read_table(scores, "shadow.parquet")
    chosen = shadow["published"].to_numpy(zero_copy_only=False)
    assert 0 < chosen.sum() < BOOKINGS
    expected = np.where(chosen, shadow["beside_score"].to_numpy(), shadow["serving_score"].to_numpy())
    assert (published["p_late"].to_numpy() == expected).all()
    assert (published["decision"].to_numpy(zero_copy_only=False) == (expected >= 0.5)).all()
    publication = desk.warehouse.publication(days_after(1))
    assert publication is not None
    assert publication["model_version"] == models.champion.model_version


def test_a_poor_challenger_never_publishes_anything(desk: Desk) -> None:
    models = begin(desk, TERRIBLE)
    live(desk, 1, 3)
    assert decided(desk) == [(3, "withdrawn", models.challenger.model_version)]
    assert {row["model_version"] for row in desk.rows("predictions")} == {models.champion.model_version}
    assert desk.warehouse.life_as_of(days_after(4)).trial is None


def test_a_canary_that_does_terribly_one_night_is_withdrawn(desk: Desk) -> None:
    models = begin_canary(desk)
    desk.use_case = dataclasses.replace(desk.use_case, trial=dataclasses.replace(POLICY, emergency_margin=0.0001))
    live(desk, 1, 1)
    # Only the long bookings are late, and not the longest of them: the more certain model is more wrong.
    desk.labels = [int(20 <= i < 30) for i in range(BOOKINGS)]
    live(desk, 2, 2)
    assert decided(desk)[-1] == (2, "withdrawn", models.challenger.model_version)
    assert "emergency margin" in desk.warehouse.decisions()[-1].reason["why"]


def test_a_fresh_champion_that_does_worse_is_rolled_back(desk: Desk) -> None:
    models = begin(desk)
    # A person put a terrible model in charge.
    made = desk.deploy(D, "promoted", desk.model(D, graph=TERRIBLE), by="hand:ann")
    terrible = made.model_version
    live(desk, 1, 3)
    old = models.champion.model_version
    assert decided(desk)[-1] == (2, "rolled_back", old)
    made = next(one for one in desk.warehouse.decisions() if one.action == "rolled_back")
    assert (made.replaces, made.model, made.role) == (terrible, models.champion.model, "champion")
    assert [choice_of(desk, n)["model_version"] for n in (1, 2, 3)] == [terrible, terrible, old]
    assert choice_of(desk, 3)["beside"] is None
    assert choice_of(desk, 3)["role"] == "champion"


def test_labels_that_were_corrected_take_back_what_was_recorded(desk: Desk) -> None:
    models = begin(desk)
    live(desk, 1, 3)
    assert decided(desk) == [(3, "canary", models.challenger.model_version)]
    for number in (2, 3):
        desk.curated(days_after(number), labels=[1] * 10)
    assert desk.promote(days_after(3))["action"] == "none"
    assert decided(desk)[-1] == (3, "held", models.challenger.model_version)
    trial = desk.warehouse.life_as_of(days_after(4)).trial
    assert trial is not None
    assert trial.stage == "shadow"
    assert not [row for row in desk.rows("trial_nights") if row["partition"] == days_after(3)]
    desk.promote(days_after(3))
    assert [action for _, action, _ in decided(desk)] == ["canary", "held"]


@pytest.mark.filterwarnings("default")
def test_two_models_are_asked_with_the_features_of_the_store(
    settings: Settings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with late_returns(monkeypatch, settings) as renamed:
        # Feast's definitions are found by the use case's own name.
        use_case = dataclasses.replace(renamed, name="late_returns")
    nights, desk = Nights(use_case, settings, store), Desk(use_case, settings, store)
    first = use_case.first_partition
    try:
        for partition in partition_range(first, first + timedelta(days=1)):
            nights.deliver([partition])
            nights.ingest(partition)
            nights.materialize(partition)
        desk.deploy(first, "promoted", desk.model(first, graph=sigmoid_of_hours(0.02, -1.0)))
        challenger = desk.model(first, graph=sigmoid_of_hours(0.02, -1.1))
        desk.deploy(first, "shadow", challenger, by="hand:ann")
        scores = nights.predict(first + timedelta(days=1))
        shadow = store.read_table(scores, "shadow.parquet")
        hours = store.read_table(scores, "features.parquet")["hours"].to_numpy()
        for column, bias in (("serving_score", -1.0), ("beside_score", -1.1)):
            expected = 1 / (1 + np.exp(-(0.02 * hours + bias)))
            assert shadow[column].to_numpy() == pytest.approx(expected, abs=1e-6)
        assert len(desk.rows("shadow_predictions")) == scores.rows > 0
    finally:
        with desk.warehouse.connection() as connection:
            connection.execute("DROP SCHEMA late_returns CASCADE")


# A challenger that cannot be asked


@pytest.mark.parametrize(
    ("graph", "model", "said"),
    [
        (SIMILAR, {"feature": "moon_phase"}, "moon_phase"),
        (SIMILAR, {"service": "gone_v2"}, "no feature service gone_v2"),
        (b"no graph at all", {}, "Protobuf"),
    ],
)
def test_a_challenger_that_cannot_be_asked_does_not_stop_the_night(
    desk: Desk, caplog: pytest.LogCaptureFixture, graph: bytes, model: dict[str, str], said: str
) -> None:
    models = begin(desk, graph, **model)
    with caplog.at_level(logging.ERROR):
        (first, *_) = live(desk, 1, 2)
    assert "is left out" in caplog.text
    assert said in desk.store.manifest(first).metrics["beside_absent"]
    assert {row["model_version"] for row in desk.rows("predictions")} == {models.champion.model_version}
    assert desk.count("predictions") == 2 * BOOKINGS
    assert desk.count("shadow_predictions") == 0
    trial = desk.read(desk.store.current(desk.use_case.name, "judge_trial", days_after(2)), "trial.json")
    assert trial["nights"] == []
    assert said in trial["missing"][0]["reason"]
    live(desk, 3, 6)
    assert decided(desk) == [(6, "withdrawn", models.challenger.model_version)]


def test_a_canary_whose_scores_would_fail_the_audit_is_left_out(desk: Desk) -> None:
    models = begin(desk, sigmoid_of_hours(0.0, 9.0))
    live(desk, 1, 1)
    ref = desk.store.current(desk.use_case.name, "score", days_after(1))
    assert "would not be published (mean score is plausible" in desk.store.manifest(ref).metrics["beside_absent"]
    assert {row["model_version"] for row in desk.rows("predictions")} == {models.champion.model_version}


def test_a_store_that_does_not_answer_is_tried_again_not_left_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(desk)

    def away(*_: Any) -> Any:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(score, "_ask_beside", away)
    with pytest.raises(StoreUnavailable):
        desk.predict(days_after(1))


# Waiting


def test_the_next_night_waits_for_what_follows_from_a_trial(desk: Desk) -> None:
    begin(desk)
    desk.predict(days_after(1))
    desk.deploy(days_after(1), "rejected", None)
    with pytest.raises(PartitionNotReady, match=rf"trial of partition {days_after(1)}.*promote for {days_after(1)}"):
        desk.run(resolve_model, days_after(2))
    with pytest.raises(PartitionNotReady, match="trial"):
        desk.run(judge_trial, days_after(2))
    hurried = desk.run(resolve_model, days_after(2), allow_undecided=True)
    assert desk.store.manifest(hurried).parameters == {"undecided": str(days_after(1))}
    desk.promote(days_after(1))
    assert desk.store.manifest(desk.run(resolve_model, days_after(2))).parameters == {}


def test_a_judgement_waits_for_the_scores_of_its_nights(desk: Desk) -> None:
    begin(desk)
    live(desk, 1, 1)
    desk.curated(days_after(2))
    desk.deploy(days_after(2), "rejected", None)
    desk.promote(days_after(2))
    desk.curated(days_after(3))
    with pytest.raises(PartitionNotReady, match=f"score of {days_after(2)}"):
        desk.run(judge_trial, days_after(3))
    judged = desk.read(desk.run(judge_trial, days_after(3), allow_undecided=True), "trial.json")
    assert [night["partition"] for night in judged["missing"]] == [str(days_after(2))]
    assert [night["partition"] for night in judged["nights"]] == [str(days_after(1))]


def test_an_old_night_without_scores_counts_as_missing_and_is_not_waited_for(desk: Desk) -> None:
    begin(desk)
    live(desk, 1, 1)
    desk.curated(days_after(2))
    for number in (2, 3):
        desk.deploy(days_after(number), "rejected", None)
    desk.promote(days_after(2))
    desk.curated(days_after(3))
    judged = desk.run(judge_trial, days_after(3), allow_undecided=True)
    desk.run(advance_model, days_after(3), judged=judged)
    desk.curated(days_after(4))
    with pytest.raises(PartitionNotReady, match=f"score of {days_after(3)}"):
        desk.run(judge_trial, days_after(4))
    desk.predict(days_after(3))
    trial = desk.read(desk.run(judge_trial, days_after(4)), "trial.json")
    assert [night["partition"] for night in trial["missing"]] == [str(days_after(2))]


# Two at once, and decisions by hand


def test_a_promotion_against_a_champion_that_is_gone_is_refused(desk: Desk) -> None:
    models = begin_canary(desk)
    live(desk, 1, 2)
    scores = desk.predict(days_after(3))
    assert scores.rows == BOOKINGS
    desk.deploy(days_after(3), "rejected", None)
    judged = desk.run(judge_trial, days_after(3))
    other = desk.deploy(days_after(3), "rolled_back", desk.model(days_after(3), graph=POOR)).model_version
    with pytest.raises(ChampionChanged, match=f"{models.champion.model_version}, but the champion is {other}"):
        desk.run(advance_model, days_after(3), judged=judged)
    decision = desk.store.decision(desk.use_case.name, "advance_model", days_after(3))
    assert decision is not None
    assert decision.status == "rejected"
    # It is a decision: the next night does not wait for another.
    desk.predict(days_after(4))
    assert choice_of(desk, 4)["model_version"] == other


def test_the_kill_switch_takes_effect_on_the_next_prediction_and_back(desk: Desk) -> None:
    models = begin(desk)
    live(desk, 1, 1)
    desk.deploy(days_after(1), "killed", models.champion.model)
    live(desk, 2, 2)
    choice = choice_of(desk, 2)
    assert (choice["role"], choice["model_version"]) == ("fallback", models.fallback.model_version)
    assert choice["beside"] is None
    assert "kill switch is on" in choice["why"]
    desk.deploy(days_after(2), "restored", models.champion.model, "champion")
    live(desk, 3, 4)
    assert choice_of(desk, 3)["model_version"] == models.champion.model_version
    assert choice_of(desk, 3)["beside"]["stage"] == "shadow"
    trial = desk.read(desk.store.current(desk.use_case.name, "judge_trial", days_after(4)), "trial.json")
    assert [night["partition"] for night in trial["nights"]] == [str(days_after(1)), str(days_after(3))]
    assert "(fallback), not" in trial["missing"][0]["reason"]


def test_a_fresh_champion_is_not_confirmed_by_nights_on_which_it_was_switched_off(desk: Desk) -> None:
    models = begin(desk)
    fresh = desk.model(D, graph=SIMILAR)
    desk.deploy(D, "promoted", fresh, by="hand:ann")
    desk.deploy(D, "killed", fresh)
    live(desk, 1, POLICY.longest_nights + 2)
    assert "confirmed" not in [action for _, action, _ in desk.actions()]
    trial = desk.warehouse.life_as_of(days_after(POLICY.longest_nights + 3)).trial
    assert trial is not None
    assert (trial.stage, trial.deployment.model_version) == ("standby", models.champion.model_version)


def test_a_night_whose_models_were_chosen_before_the_kill_switch_is_not_published(desk: Desk) -> None:
    models = begin(desk)
    live(desk, 1, 1)
    desk.curated(days_after(2))
    desk.store.commit(
        use_case=desk.use_case.name, step="publish_features", partition=days_after(2), kind="features", files={}
    )
    choice = desk.run(resolve_model, days_after(2))
    scores = desk.run(score, days_after(2), model_choice=choice)
    audited = desk.run(audit, days_after(2), scores=scores)
    desk.deploy(days_after(1), "killed", models.champion.model)
    with pytest.raises(AuditFailed, match=rf"predict of {days_after(2)} from resolve_model"):
        desk.run(publish_predictions, days_after(2), scores=scores, audited=audited)
    assert desk.warehouse.publication(days_after(2)) is None
    # Nights before it are as they were, and this one is had from the fallback.
    desk.predict(days_after(1))
    desk.predict(days_after(2))
    assert {row["model_version"] for row in desk.rows("predictions")} == {
        models.champion.model_version,
        models.fallback.model_version,
    }


def test_people_are_told_of_what_ends_a_trial_badly_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(advance_model, "send_alert", lambda _, text: told.append(text))
    desk.settings = desk.settings.model_copy(update={"alert_webhook_url": SecretStr("http://127.0.0.1:1/secret")})
    models = begin(desk, TERRIBLE)
    live(desk, 1, 3)
    desk.promote(days_after(3))
    assert len(told) == 1
    assert f"{models.challenger.model_version} is withdrawn after partition {days_after(3)}" in told[0]


def test_mlflow_that_is_down_keeps_nobody_from_being_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any) -> None:
        raise TrackingUnavailable("MLflow did not answer.")

    models = begin(desk)
    monkeypatch.setattr(mirror_models, "mirror_aliases", down)
    live(desk, 1, 3)
    advanced = desk.store.current(desk.use_case.name, "advance_model", days_after(3))
    with pytest.raises(TrackingUnavailable, match="This stands; only MLflow's aliases lag"):
        desk.run(mirror_models, days_after(3), advanced=advanced)
    monkeypatch.setattr(mirror_models, "mirror_aliases", lambda *_: None)
    mirrored = desk.store.manifest(desk.run(mirror_models, days_after(3), advanced=advanced)).metrics
    assert (mirrored["champion"], mirrored["challenger"]) == (
        models.champion.model_version,
        models.challenger.model_version,
    )


def test_a_rollback_takes_effect_on_the_next_prediction(desk: Desk) -> None:
    models = begin_canary(desk)
    live(desk, 1, 4)
    new, old = models.challenger, models.champion
    assert choice_of(desk, 4)["model_version"] == new.model_version
    rollback = old.model_copy(
        update={
            "partition": days_after(4),
            "action": "rolled_back",
            "replaces": new.model_version,
            "decided_by": "hand:ann",
        }
    )
    desk.warehouse.record_deployment(rollback, expected_champion=new.model_version)
    live(desk, 5, 5)
    assert choice_of(desk, 5)["model_version"] == old.model_version
    assert choice_of(desk, 5)["beside"] is None
    assert desk.predict(days_after(4)) == desk.store.current(desk.use_case.name, "score", days_after(4))
    assert choice_of(desk, 4)["model_version"] == new.model_version
