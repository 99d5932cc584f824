"""A night that is published already, switched to the other model that was asked and back, without scoring."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow.compute as pc
import pytest

from integration.desk import (
    BOOKINGS,
    Desk,
    begin,
    begin_canary,
    days_after,
    live,
    trial_desk,
)
from nightshift.artifact import ArtifactRef
from nightshift.errors import (
    AuditFailed,
    PartitionNotReady,
    UnknownModel,
)
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.switch import switch_published
from nightshift.settings import Settings
from nightshift.steps.predict import score


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore) -> Iterator[Desk]:
    with trial_desk(monkeypatch, settings, store) as made:
        yield made


def published(desk: Desk, number: int) -> tuple[set[str], list[float]]:
    rows = [row for row in desk.rows("predictions") if row["booking_date"] == days_after(number + 1)]
    return {row["model_version"] for row in rows}, [row["p_late"] for row in rows]


def switch(desk: Desk, number: int, version: str) -> bool:
    return switch_published(desk.use_case, desk.settings, desk.store, desk.warehouse, days_after(number), version)


def test_a_published_night_is_switched_and_switched_back_without_scoring(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = begin(desk)
    (scores,) = live(desk, 1, 1)
    old, new = models.champion.model_version, models.challenger.model_version
    monkeypatch.setattr(score, "historical_features", None)
    before = published(desk, 1)
    first = desk.warehouse.publication(days_after(1))
    shadow = desk.store.read_table(scores, "shadow.parquet")

    assert not switch(desk, 1, old)
    assert switch(desk, 1, new)
    assert not switch(desk, 1, new)
    assert published(desk, 1) == ({new}, shadow["beside_score"].to_pylist())
    switched = desk.warehouse.publication(days_after(1))
    assert switched is not None
    assert (switched["role"], switched["model_version"], switched["rows"]) == ("challenger", new, BOOKINGS)
    derived = ArtifactRef(uri=switched["scores_uri"], sha256=switched["scores_sha256"], kind="scores")
    assert list(desk.store.manifest(derived).inputs["scores"]) == [scores]
    assert pc.unique(desk.store.read_table(derived, "scores.parquet")["model_version"]).to_pylist() == [new]
    assert desk.store.current(desk.use_case.name, "score", days_after(1)) == scores

    assert switch(desk, 1, old)
    assert published(desk, 1) == before
    again = desk.warehouse.publication(days_after(1))
    assert first is not None
    assert again is not None
    assert again["publish_id"] == first["publish_id"]
    assert desk.count("publications") == 2


def test_a_switched_night_stays_switched_when_its_prediction_runs_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    models = begin_canary(desk)
    (scores,) = live(desk, 1, 1)
    old, new = models.champion.model_version, models.challenger.model_version
    for version in (old, new):
        assert switch(desk, 1, version)
        before, shadow = desk.rows("publications", "publish_id"), desk.rows("shadow_predictions")
        assert desk.predict(days_after(1)) == scores
        assert published(desk, 1)[0] == {version}
        assert f"switched this night to {version}" in caplog.text
        assert desk.rows("publications", "publish_id") == before
        assert desk.rows("shadow_predictions") == shadow


def test_a_canary_night_is_switched_to_either_of_its_models(desk: Desk) -> None:
    models = begin_canary(desk)
    live(desk, 1, 1)
    old, new = models.champion.model_version, models.challenger.model_version
    assert published(desk, 1)[0] == {old, new}
    for version in (old, new, old):
        assert switch(desk, 1, version)
        assert published(desk, 1)[0] == {version}
        assert {row["published"] for row in desk.rows("shadow_predictions")} == {version == new}
    assert len(published(desk, 1)[1]) == BOOKINGS


def test_a_night_is_not_switched_to_a_model_that_was_not_asked(desk: Desk) -> None:
    models = begin(desk)
    live(desk, 1, 1)
    with pytest.raises(UnknownModel, match=models.challenger.model_version):
        switch(desk, 1, models.fallback.model_version)
    with pytest.raises(PartitionNotReady):
        switch(desk, 2, models.champion.model_version)


def test_a_switch_keeps_the_audit(desk: Desk) -> None:
    models = begin(desk)
    live(desk, 1, 1)
    before = published(desk, 1)
    lenient = desk.use_case
    strict = dataclasses.replace(lenient.audit, mean_score_between=(0.9, 1.0))
    desk.use_case = dataclasses.replace(lenient, audit=strict)
    with pytest.raises(AuditFailed, match="mean score is plausible"):
        switch(desk, 1, models.challenger.model_version)
    assert published(desk, 1) == before
