"""A person approves a promotion, or declines it, or says nothing; nobody waits for the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from integration.desk import (
    GOOD,
    POOR,
    D,
    Desk,
    Models,
    begin_canary,
    choice_of,
    days_after,
    decided,
    live,
    trial_desk,
)
from nightshift.artifact import ArtifactRef
from nightshift.errors import (
    ConfigurationError,
)
from nightshift.io.artifact_store import ArtifactStore
from nightshift.policies import Risk, RiskPolicy
from nightshift.settings import Settings
from nightshift.steps.promote import record_approval

RISKY = RiskPolicy(risks=(Risk("harm", 5, 5, "somebody is hurt"),), approval_hours=24.0)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore) -> Iterator[Desk]:
    with trial_desk(monkeypatch, settings, store) as made:
        yield made


@pytest.fixture
def asked(desk: Desk) -> tuple[Desk, Models, ArtifactRef]:
    """A use case of high risk, on the night that a person is asked."""
    desk.use_case = dataclasses.replace(desk.use_case, risk=RISKY)
    models = begin_canary(desk)
    live(desk, 1, 3)
    return desk, models, desk.store.current(desk.use_case.name, "advance_model", days_after(3))


def test_a_risky_promotion_awaits_approval_and_nobody_waits_for_it(asked: tuple[Desk, Models, ArtifactRef]) -> None:
    desk, models, ref = asked
    new = models.challenger.model_version
    advance = desk.read(ref, "advance.json")
    assert (advance["action"], advance["approval_needed"], advance["model_version"]) == (
        "awaiting_approval",
        True,
        new,
    )
    assert f"shall `{new}` become champion" in advance["summary"]
    assert desk.store.manifest(ref).inputs["judged"][0].uri in advance["summary"]
    # Nights go on, and nobody is asked a second time while the question is open.
    live(desk, 4, 4)
    assert choice_of(desk, 4)["beside"]["stage"] == "canary"
    second = desk.read(desk.store.current(desk.use_case.name, "advance_model", days_after(4)), "advance.json")
    assert (second["action"], second["approval_needed"]) == ("none", False)
    assert f"asked for on {days_after(3)}" in second["reason"]
    # However many nights there are meanwhile: in a backfill they are minutes apart.
    live(desk, 5, 6)
    assert decided(desk)[1:] == [(3, "awaiting_approval", new)]


def test_an_approved_model_is_promoted_after_the_newest_night(asked: tuple[Desk, Models, ArtifactRef]) -> None:
    desk, models, ref = asked
    new, old = models.challenger.model_version, models.champion.model_version
    (before,) = live(desk, 4, 4)
    answer: dict[str, Any] = {"advanced": ref, "answer": "approved", "decided_by": "hand:ann"}
    recorded = desk.read(desk.run(record_approval, days_after(3), **answer), "approval.json")
    assert recorded["recorded"] == ["approved", "promoted"]
    assert recorded["answered_by"] == "hand:ann"
    assert decided(desk)[-2:] == [(4, "approved", new), (4, "promoted", new)]
    made = desk.warehouse.decisions()[-1]
    assert (made.replaces, made.role, made.reason["answered_by"]) == (old, "champion", "hand:ann")
    assert desk.predict(days_after(4)) == before
    live(desk, 5, 5)
    assert choice_of(desk, 5)["model_version"] == new
    # A second try finds the answer, nights later, and does not ask again.
    actions = desk.actions()
    assert desk.read(desk.run(record_approval, days_after(3), **answer), "approval.json") == recorded
    assert not desk.promote(days_after(3))["approval_needed"]
    assert desk.actions() == actions


@pytest.mark.parametrize(("answer", "action"), [("declined", "declined"), ("timed_out", "approval_timed_out")])
def test_a_model_that_is_not_approved_is_withdrawn(
    asked: tuple[Desk, Models, ArtifactRef], answer: str, action: str
) -> None:
    desk, models, ref = asked
    new = models.challenger.model_version
    desk.run(record_approval, days_after(3), advanced=ref, answer=answer, decided_by="")
    assert decided(desk)[-2:] == [(3, action, new), (3, "withdrawn", new)]
    live(desk, 4, 4)
    assert choice_of(desk, 4)["model_version"] == models.champion.model_version
    assert choice_of(desk, 4)["beside"] is None


def test_an_approval_that_comes_too_late_promotes_nothing(asked: tuple[Desk, Models, ArtifactRef]) -> None:
    desk, models, ref = asked
    desk.deploy(days_after(3), "retired", models.challenger.model)
    made = desk.warehouse.decisions()[-1]
    version = models.challenger.model_version
    desk.warehouse.record_deployment(made.model_copy(update={"model_version": version}))
    answer = desk.run(record_approval, days_after(3), advanced=ref, answer="approved", decided_by="hand:ann")
    assert desk.read(answer, "approval.json")["recorded"] == ["approved"]
    assert "without_effect" in desk.warehouse.decisions()[-1].reason
    assert desk.warehouse.champion_as_of(date.max) == models.champion


def test_an_answer_that_answers_nothing_is_refused(asked: tuple[Desk, Models, ArtifactRef]) -> None:
    desk, _, ref = asked
    with pytest.raises(ConfigurationError, match="perhaps"):
        desk.run(record_approval, days_after(3), advanced=ref, answer="perhaps", decided_by="hand:ann")
    other = desk.store.current(desk.use_case.name, "advance_model", days_after(2))
    with pytest.raises(ConfigurationError, match="recorded 'none'"):
        desk.run(record_approval, days_after(2), advanced=other, answer="approved", decided_by="hand:ann")


def test_the_first_model_of_a_risky_use_case_is_tried_against_the_fallback(desk: Desk) -> None:
    desk.use_case = dataclasses.replace(desk.use_case, risk=RISKY)
    fallback = desk.deploy(days_after(-1), "bootstrap", desk.model(days_after(-1), graph=POOR), "fallback")
    first = desk.deploy(D, "shadow", desk.model(D, graph=GOOD))
    desk.deploy(D, "canary", first.model, by="advance_model", reason={"share": 0.4})
    live(desk, 1, 3)
    ref = desk.store.current(desk.use_case.name, "advance_model", days_after(3))
    assert desk.read(ref, "advance.json")["champion"] is None
    assert {row["incumbent"] for row in desk.rows("trial_nights")} == {fallback.model_version}
    desk.run(record_approval, days_after(3), advanced=ref, answer="approved", decided_by="hand:ann")
    live(desk, 4, 4)
    assert choice_of(desk, 4)["model_version"] == first.model_version
    assert choice_of(desk, 4)["beside"] is None
