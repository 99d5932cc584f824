"""A spec's way to champion and back, on a real store and a real warehouse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pytest

from nightshift.artifact import ArtifactRef
from nightshift.core.evaluation import log_loss
from nightshift.declare.policies import PromotionPolicy, Risk, RiskPolicy
from nightshift.declare.rules import LossSignal, Rule
from nightshift.documents.promote import Advance, Approval, Review
from nightshift.errors import ChampionChanged, ConfigurationError, PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.services.live_backtest import LiveAndBacktest
from nightshift.services.live_scores import ScoredPartition, days_predicted, known_labels
from nightshift.settings import Settings
from nightshift.steps.promote import review
from support.desk import SIMILAR, TERRIBLE, D, Desk, begin, begin_canary, days_after, new_desk
from support.errors import raises_code
from support.receiver import Receiver, with_receivers

HIGH = RiskPolicy(risks=(Risk("harm", 5, 5, "somebody is hurt"),), approval_hours=24.0)
POLICY = PromotionPolicy(
    shadow_partitions=2, canary_partitions=2, watch_partitions=3, longest_partitions=8, emergency_margin=0.3
)


@pytest.fixture
def differs() -> dict[str, float]:
    """How far the live losses are from the backtest's, in nats: {"by": ...}."""
    return {"by": 0.0}


@pytest.fixture
def desk(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, store: ArtifactStore, differs: dict[str, float]
) -> Iterator[Desk]:
    def compare(
        use_case: Any, settings: Any, store: Any, spec: Any, scored: Sequence[ScoredPartition], as_of: date
    ) -> Mapping[date, LiveAndBacktest]:
        """In place of a walk with real estimators: the live loss, and that loss less what it differs by."""
        compared = {}
        for one in scored:
            labels, _ = known_labels(store, use_case, days_predicted(use_case, [one]), as_of)
            rows = [row for row in one.rows.to_pylist() if row["spec_id"] == spec.spec_id]
            label = dict(zip(labels["booking"].to_pylist(), labels[use_case.label].to_pylist(), strict=True))
            truth = np.array([label[row["booking"]] for row in rows])
            live = log_loss(truth, np.array([row["raw_score"] for row in rows]))
            compared[one.partition] = LiveAndBacktest(live, live - differs["by"])
        return compared

    monkeypatch.setattr(review, "compare_with_backtest", compare)
    with new_desk(monkeypatch, settings, store, promotion=POLICY) as made:
        yield made


def promote(desk: Desk, partition: date) -> Advance:
    reviewed = desk.step("review", partition, allow_undecided=True)
    return desk.store.read_document(desk.step("advance", partition, reviewed=reviewed), Advance)


def nights(desk: Desk, first: int, last: int) -> list[str]:
    """Partitions first to last after D: delivered, reviewed, predicted. Returns the actions recorded."""
    actions = []
    for number in range(first, last + 1):
        desk.deliver(days_after(number))
        actions.append(promote(desk, days_after(number)).action)
        desk.predict(days_after(number))
    return actions


def challenge(desk: Desk, graph: bytes = SIMILAR) -> str:
    """A challenger in shadow from D + 1 on. Returns its spec id."""
    begin(desk)
    spec = desk.use_case.challengers[0]
    desk.register(spec, D, graph, role="challenger")
    desk.decide(D, "shadow", spec)
    return spec.spec_id


def decided(desk: Desk) -> list[tuple[int, str]]:
    """What was decided after D about specs."""
    return [(number, action) for number, action, _ in desk.actions() if number > 0]


def question(desk: Desk) -> ArtifactRef:
    """A use case of high risk, on the partition whose review asks a person: D + 8."""
    desk.use_case = dataclasses.replace(desk.use_case, risk=HIGH)
    challenge(desk)
    assert nights(desk, 1, 8) == ["none"] * 3 + ["canary"] + ["none"] * 3 + ["awaiting_approval"]
    return desk.store.current(desk.use_case.name, "advance", days_after(8))


# Ways of a spec


def test_shadow_canary_approval_champion(desk: Desk) -> None:
    asked = question(desk)
    spec_id, before = desk.use_case.challengers[0].spec_id, desk.use_case.champion.spec_id
    document = desk.store.read_document(asked, Advance)
    assert document.approval_needed
    assert f"shall `{spec_id}` become champion in place of `{before}`" in document.summary
    assert desk.choice(days_after(5)).shadows[0].share == POLICY.canary_share
    # Nights go on, and there is one question only.
    assert nights(desk, 9, 9) == ["none"]
    answer = {"advanced": asked, "answer": "approved", "decided_by": "hand:ann"}
    ref = desk.step("record_approval", days_after(8), **answer)
    approval = desk.store.read_document(ref, Approval)
    assert (approval.partition, approval.recorded) == (days_after(9), ("approved", "promoted"))
    last = desk.warehouse.decisions()[-1]
    assert (last.replaces, last.reason["answered_by"]) == (before, "hand:ann")
    # A second try changes nothing; the next partition has the new champion, watched beside the former.
    assert desk.step("record_approval", days_after(8), **answer) == ref
    nights(desk, 10, 13)
    choice = desk.choice(days_after(10))
    assert (choice.primary.spec_id, choice.primary.role) == (spec_id, "champion")
    assert ("former", before) in {(one.role, one.spec_id) for one in choice.shadows}
    assert desk.choice(days_after(9)).primary.spec_id == before
    nights(desk, 14, 14)
    assert decided(desk) == [
        (4, "canary"), (8, "awaiting_approval"), (9, "approved"), (9, "promoted"), (13, "confirmed")
    ]  # fmt: skip
    assert "former" not in {one.role for one in desk.choice(days_after(14)).shadows}


def test_promoted_without_approval(desk: Desk) -> None:
    spec_id = challenge(desk)
    assert nights(desk, 1, 5) == ["none", "none", "none", "promoted", "none"]
    assert desk.choice(days_after(4)).primary.spec_id == desk.use_case.champion.spec_id
    assert desk.choice(days_after(5)).primary.spec_id == spec_id


def test_withdrawn_because_live_differs_from_backtest(desk: Desk, differs: dict[str, float]) -> None:
    differs["by"] = 0.02
    challenge(desk)
    assert nights(desk, 1, 4) == ["none", "none", "none", "withdrawn"]
    reviewed = desk.store.current(desk.use_case.name, "review", days_after(4))
    document = desk.store.read_document(reviewed, Review)
    assert "mean log loss +0.0200 from the backtest's (band 0.01)" in document.why
    assert desk.warehouse.decisions()[-1].reason["why"] == document.why
    nights(desk, 5, 5)
    assert {one.role for one in desk.choice(days_after(5)).shadows} == {"fallback"}


def test_harm_rolls_back_by_itself(desk: Desk, receiver: Receiver) -> None:
    desk.settings = with_receivers(desk.settings, receiver)
    spec_id, before = challenge(desk), desk.use_case.champion.spec_id
    nights(desk, 1, 4)
    # The version of the fresh champion that the next training makes ranks backwards.
    desk.register(desk.use_case.challengers[0], days_after(4), TERRIBLE)
    assert nights(desk, 5, 7) == ["none", "rolled_back", "none"]
    assert [desk.choice(days_after(n)).primary.spec_id for n in (5, 6, 7)] == [spec_id, spec_id, before]
    first, promoted, rolled_back = receiver.lines
    assert first.startswith(f"{before} is champion after partition {days_after(-1)}")
    assert promoted.startswith(f"{spec_id} is champion after partition {days_after(4)}, in place of {before}")
    assert rolled_back.startswith(f"{before} is champion again after partition {days_after(6)}, in place of {spec_id}")
    assert "beyond the emergency margin of 0.3" in rolled_back


def test_slow_harm_rolls_back_by_the_e_process(desk: Desk) -> None:
    policy = dataclasses.replace(POLICY, emergency_margin=9.0, watch_partitions=9)
    desk.use_case = dataclasses.replace(desk.use_case, promotion=policy)
    challenge(desk)
    nights(desk, 1, 4)
    desk.register(desk.use_case.challengers[0], days_after(4), TERRIBLE)
    actions = nights(desk, 5, 13)
    assert "rolled_back" in actions
    assert "e-value" in desk.warehouse.decisions()[-1].reason["why"]
    assert desk.warehouse.state_as_of(date.max).champion == desk.use_case.champion.spec_id


def test_question_without_an_answer_frees_the_place(desk: Desk) -> None:
    asked = question(desk)
    assert nights(desk, 9, 17) == ["none"] * 8 + ["withdrawn"]
    assert decided(desk)[-2:] == [(17, "approval_timed_out"), (17, "withdrawn")]
    state = desk.warehouse.state_as_of(days_after(18))
    assert state.challenge is None
    # The answer comes after all: it is recorded and changes nothing.
    ref = desk.step("record_approval", days_after(8), advanced=asked, answer="approved", decided_by="hand:ann")
    assert desk.store.read_document(ref, Approval).recorded == ("approved",)
    assert "without_effect" in desk.warehouse.decisions()[-1].reason
    assert desk.warehouse.state_as_of(date.max).champion == desk.use_case.champion.spec_id


@pytest.mark.parametrize(("answer", "action"), [("declined", "declined"), ("timed_out", "approval_timed_out")])
def test_not_approved(desk: Desk, answer: str, action: str) -> None:
    asked = question(desk)
    desk.step("record_approval", days_after(8), advanced=asked, answer=answer, decided_by="")
    assert decided(desk)[-2:] == [(8, action), (8, "withdrawn")]
    assert desk.warehouse.state_as_of(days_after(9)).challenge is None


def test_answers_to_nothing(desk: Desk) -> None:
    asked = question(desk)
    with raises_code(ConfigurationError, "NS-DEPLOY-005", "perhaps"):
        desk.step("record_approval", days_after(8), advanced=asked, answer="perhaps", decided_by="hand:ann")
    other = desk.store.current(desk.use_case.name, "advance", days_after(6))
    with raises_code(ConfigurationError, "NS-DEPLOY-005", "none"):
        desk.step("record_approval", days_after(6), advanced=other, answer="approved", decided_by="hand:ann")


def test_kill_switch_stops_the_way(desk: Desk) -> None:
    challenge(desk)
    nights(desk, 1, 2)
    desk.decide(days_after(2), "killed")
    assert nights(desk, 3, 5) == ["none"] * 3
    assert desk.choice(days_after(4)).primary.role == "fallback"
    desk.decide(days_after(5), "restored")
    # Two partitions that count before, one after.
    assert "promoted" in nights(desk, 6, 9)


# Runs again, late and at once


def test_review_again(desk: Desk) -> None:
    challenge(desk)
    nights(desk, 1, 3)
    desk.deliver(days_after(4))
    once = promote(desk, days_after(4))
    before = desk.actions()
    assert promote(desk, days_after(4)) == once
    assert desk.actions() == before


def test_corrected_labels_take_a_decision_back(desk: Desk, differs: dict[str, float]) -> None:
    challenge(desk)
    nights(desk, 1, 3)
    desk.deliver(days_after(4))
    assert promote(desk, days_after(4)).action == "promoted"
    differs["by"] = 0.02
    assert promote(desk, days_after(4)).action == "withdrawn"
    assert desk.warehouse.state_as_of(days_after(5)).challenge is None
    desk.use_case = dataclasses.replace(
        desk.use_case, promotion=dataclasses.replace(POLICY, shadow_partitions=3, longest_partitions=9)
    )
    assert promote(desk, days_after(4)).action == "held"
    assert desk.warehouse.state_as_of(days_after(5)).challenge is not None


def test_late_review_changes_no_partition_chosen_before(desk: Desk) -> None:
    challenge(desk)
    nights(desk, 1, 3)
    for number in (4, 5):
        desk.deliver(days_after(number))
        desk.predict(days_after(number))
    late = promote(desk, days_after(4))
    assert late.action == "none"
    assert late.why.startswith(f"not recorded, since the versions of {days_after(5)} were chosen before")
    assert promote(desk, days_after(5)).action == "promoted"


def test_champion_changed_meanwhile(desk: Desk) -> None:
    challenge(desk)
    nights(desk, 1, 3)
    desk.deliver(days_after(4))
    reviewed = desk.step("review", days_after(4))
    desk.decide(days_after(3), "promoted", desk.use_case.fallback, by="hand:ann")
    with raises_code(ChampionChanged, "NS-DEPLOY-003"):
        desk.step("advance", days_after(4), reviewed=reviewed)
    status = desk.store.decision(desk.use_case.name, "advance", days_after(4))
    assert status is not None
    assert status.status == "rejected"


def test_canary_publishes_its_share(desk: Desk) -> None:
    desk.use_case = dataclasses.replace(desk.use_case, risk=RiskPolicy(risks=(Risk("money", 2, 4, "money is lost"),)))
    begin_canary(desk)
    assert nights(desk, 1, 4) == ["none", "none", "none", "promoted"]


# Monitoring rules that hold promotions

ALWAYS = Rule("hold_always", (LossSignal("expected", margin=-10.0),), then="hold")
NEVER = Rule("hold_never", (LossSignal("expected", margin=10.0),), then="hold")


def test_review_waits_for_the_scores_of_the_partition_before(desk: Desk) -> None:
    challenge(desk)
    nights(desk, 1, 2)
    desk.deliver(days_after(3))
    promote(desk, days_after(3))
    desk.deliver(days_after(4))
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"{desk.use_case.name}.predict for {days_after(3)}"):
        desk.step("review", days_after(4))
    assert reviewed(desk, 4, allow_undecided=True).partition == days_after(4)
    desk.predict(days_after(3))
    desk.step("review", days_after(4))


def test_specs_are_chosen_after_the_review_of_the_partition_before(desk: Desk) -> None:
    challenge(desk)
    nights(desk, 1, 1)
    desk.step("choose_specs", days_after(2))
    with raises_code(PartitionNotReady, "NS-PREDICT-001", f"{desk.use_case.name}.promote for {days_after(2)}"):
        desk.step("choose_specs", days_after(3))
    desk.step("choose_specs", days_after(3), allow_undecided=True)


def reviewed(desk: Desk, number: int, **arguments: bool) -> Review:
    return desk.store.read_document(desk.step("review", days_after(number), **arguments), Review)


def test_a_promotion_waits_until_the_rules_that_hold_it_are_evaluated(desk: Desk) -> None:
    desk.use_case = dataclasses.replace(desk.use_case, rules=(NEVER,))
    challenge(desk)
    assert nights(desk, 1, 3) == ["none"] * 3
    desk.deliver(days_after(4))
    with raises_code(PartitionNotReady, "NS-RULE-011", days_after(4)):
        desk.step("review", days_after(4))
    # After the last retry: held without any evaluation, decided by that of the partition before if there is one.
    held = reviewed(desk, 4, allow_undecided=True)
    assert held.outcome == "hold"
    assert "have not been evaluated" in held.why
    desk.check_drift(days_after(3))
    assert reviewed(desk, 4, allow_undecided=True).outcome == "promote"
    desk.predict(days_after(4))
    desk.check_drift(days_after(4))
    assert reviewed(desk, 4).outcome == "promote"


def test_a_rule_holds_a_promotion_as_long_as_it_fires(desk: Desk) -> None:
    desk.use_case = dataclasses.replace(desk.use_case, rules=(ALWAYS,))
    spec_id = challenge(desk)
    assert nights(desk, 1, 3) == ["none"] * 3
    desk.check_drift(days_after(3))
    desk.night(days_after(4))
    assert reviewed(desk, 4, allow_undecided=True).outcome == "hold"
    desk.check_drift(days_after(4))
    held = reviewed(desk, 4)
    assert (held.outcome, held.spec_id) == ("hold", spec_id)
    assert f"held by the monitoring rule hold_always (since {days_after(3)})" in held.why
    assert promote(desk, days_after(4)).action == "none"
    # Without that rule the partition's review promotes; with it again, the decision is taken back.
    declared = desk.use_case
    desk.use_case = dataclasses.replace(declared, rules=())
    assert promote(desk, days_after(4)).action == "promoted"
    desk.use_case = declared
    assert promote(desk, days_after(4)).action == "held"
