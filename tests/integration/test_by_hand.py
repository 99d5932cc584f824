"""What people decide by hand, on a real store and a real warehouse."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date

import pytest

from nightshift.deployment import GateResult
from nightshift.errors import ArtifactCorrupt, ChampionChanged, ConfigurationError, UnknownModel
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.alerts import send_unsent
from support.champions import ANNA, WHY, Grown
from support.desk import GOOD, POOR, SIMILAR, D, Desk, days_after
from support.errors import raises_code
from support.receiver import Receiver, with_receivers

# From when on


@pytest.mark.parametrize("way", ["roll_back", "switch", "retire", "annul"])
def test_date_without_effect(grown: Grown, way: str) -> None:
    ways = {
        "roll_back": lambda day: grown.roll_back(day),
        "switch": lambda day: grown.switch("on", day),
        "retire": lambda day: grown.retire(grown.first.spec_id, day),
        "annul": lambda day: grown.annul(grown.newest_decision(), day),
    }
    if way == "annul":
        grown.switch("on")
    before = grown.desk.actions()
    for day in (days_after(1), date(2026, 11, 21)):
        with raises_code(ConfigurationError, "NS-DEPLOY-004", D, days_after(1)):
            ways[way](day)
    assert grown.desk.actions() == before
    ways[way](D)
    assert len(grown.desk.actions()) == len(before) + 1


@pytest.mark.parametrize("way", ["roll_back", "switch"])
def test_message_names_the_first_partition_affected(grown: Grown, way: str) -> None:
    decide = {"roll_back": grown.roll_back, "switch": lambda: grown.switch("on")}[way]
    name = {"roll_back": "rollback.json", "switch": "kill_switch.json"}[way]
    assert f"The first partition affected is {days_after(1)}" in grown.read(decide(), name)["message"]


def test_message_names_a_partition_chosen_before(grown: Grown) -> None:
    grown.desk.choose(days_after(1))
    message = grown.read(grown.roll_back(), "rollback.json")["message"]
    assert f"The first partition affected is {days_after(2)}" in message
    assert f"to choose them again, clear {grown.desk.use_case.name}.predict for it" in message


# rollback_model


def test_rollback(grown: Grown) -> None:
    ref = grown.roll_back()
    assert grown.primary(1) == grown.second.spec_id
    assert grown.primary(0) == grown.third.spec_id
    last = grown.warehouse.decisions()[-1]
    assert (last.action, last.spec_id, last.replaces) == ("rolled_back", grown.second.spec_id, grown.third.spec_id)
    assert (last.decided_by, last.reason["why"]) == (ANNA, WHY)
    result = grown.read(ref, "rollback.json")
    assert (result["spec_id"], result["replaces"]) == (grown.second.spec_id, grown.third.spec_id)
    # It is trained again from the next partition on.
    assert grown.warehouse.state_as_of(days_after(1)).trained[grown.second.spec_id] == "champion"


def test_rollback_to_a_named_spec_and_forth(grown: Grown) -> None:
    grown.roll_back(to_spec=grown.first.spec_id)
    assert grown.primary(1) == grown.first.spec_id
    grown.roll_back(to_spec=grown.third.spec_id)
    assert grown.primary(1) == grown.third.spec_id


@pytest.mark.usefixtures("in_a_run")
def test_second_try_of_a_run_goes_back_once(grown: Grown) -> None:
    once = grown.roll_back()
    before = grown.desk.actions()
    assert grown.roll_back() == once
    assert grown.desk.actions() == before


def test_specs_that_cannot_be_rolled_back_to(grown: Grown) -> None:
    grown.retire(grown.first.spec_id)
    before = grown.desk.actions()
    reasons = {
        "none-00000000": "was never champion",
        grown.fallback.spec_id: "was never champion",
        grown.first.spec_id: "was retired",
        grown.third.spec_id: "is the champion already",
    }
    for spec_id, why in reasons.items():
        with raises_code(UnknownModel, "NS-DEPLOY-014", why, grown.second.spec_id):
            grown.roll_back(to_spec=spec_id)
    assert grown.desk.actions() == before


def test_former_champion_without_a_version(grown: Grown) -> None:
    grown.retire(grown.version(grown.second))
    grown.roll_back()
    assert grown.primary(1) == grown.first.spec_id


def test_nothing_to_roll_back(desk: Desk) -> None:
    why = {"reason": WHY, "decided_by": ANNA}
    desk.register(desk.use_case.fallback, days_after(-2), POOR, role="fallback")
    with raises_code(UnknownModel, "NS-DEPLOY-012", "2020-03-18"):
        desk.step("rollback_model", days_after(-2), **why)
    desk.register(desk.use_case.champion, days_after(-1))
    desk.decide(days_after(-1), "promoted", desk.use_case.champion)
    with raises_code(UnknownModel, "NS-DEPLOY-013"):
        desk.step("rollback_model", days_after(-1), **why)


def test_rollback_that_a_later_promotion_would_undo(grown: Grown) -> None:
    grown.desk.night(days_after(1))
    grown.desk.decide(days_after(1), "promoted", grown.first, replaces=grown.third.spec_id)
    with raises_code(ChampionChanged, "NS-DEPLOY-015", days_after(1), grown.first.spec_id):
        grown.roll_back(D)
    grown.roll_back(days_after(1))
    assert grown.primary(2) == grown.third.spec_id


def test_rollback_before_an_annulment(grown: Grown) -> None:
    for number in (1, 2):
        grown.desk.night(days_after(number))
    grown.roll_back(D)
    grown.annul(grown.newest_decision(), days_after(2))
    with raises_code(ChampionChanged, "NS-DEPLOY-022", days_after(1), grown.second.spec_id):
        grown.roll_back(days_after(1))


def test_two_rollbacks_at_once(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = grown.warehouse.decisions()
    grown.roll_back(decided_by="hand:bert")
    monkeypatch.setattr(Warehouse, "decisions", lambda self: seen)
    with raises_code(ChampionChanged, "NS-DEPLOY-003", grown.second.spec_id):
        grown.roll_back(to_spec=grown.first.spec_id)


# kill_switch


def test_kill_switch_and_back(grown: Grown) -> None:
    ref = grown.switch("on")
    assert grown.read(ref, "kill_switch.json")["serves"] == grown.version(grown.fallback)
    assert grown.primary(0) == grown.third.spec_id
    grown.desk.night(days_after(1))
    published = next(iter(grown.warehouse.publications(days_after(1), days_after(1))), None)
    assert published is not None
    assert (published.role, published.model_version) == ("fallback", grown.version(grown.fallback))
    # Whatever is promoted meanwhile.
    grown.desk.decide(days_after(1), "promoted", grown.first, replaces=grown.third.spec_id)
    grown.desk.night(days_after(2))
    assert grown.desk.choice(days_after(2)).primary.role == "fallback"
    grown.switch("off", days_after(2))
    assert grown.primary(3) == grown.first.spec_id


def test_decisions_do_not_wait_for_mlflow(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    before = len(grown.desk.actions())
    for decide in (lambda: grown.switch("on"), lambda: grown.switch("off"), grown.roll_back):
        assert grown.store.manifest(decide()).metrics["changed"] is True
    assert [action for _, action, _ in grown.desk.actions()][before:] == ["killed", "restored", "rolled_back"]


def test_kill_switch_twice(grown: Grown) -> None:
    grown.switch("off")
    assert "restored" not in {action for _, action, _ in grown.desk.actions()}
    grown.switch("on")
    before = grown.desk.actions()
    again = grown.switch("on", reason="pressed twice to be sure")
    assert grown.desk.actions() == before
    assert grown.store.manifest(again).metrics["changed"] is False


def test_kill_switch_without_a_fallback(desk: Desk) -> None:
    desk.register(desk.use_case.champion, days_after(-1))
    desk.decide(days_after(-1), "promoted", desk.use_case.champion)
    why = {"reason": WHY, "decided_by": ANNA}
    with raises_code(UnknownModel, "NS-DEPLOY-007"):
        desk.step("kill_switch", days_after(-1), state="on", **why)
    with raises_code(ConfigurationError, "NS-DEPLOY-006", "maybe"):
        desk.step("kill_switch", days_after(-1), state="maybe", **why)


def test_kill_switch_turned_the_other_way_later(grown: Grown) -> None:
    grown.desk.night(days_after(1))
    grown.switch("on", days_after(1))
    with raises_code(ConfigurationError, "NS-DEPLOY-008", days_after(1)):
        grown.switch("off", D)


def test_kill_switch_before_an_annulment(grown: Grown) -> None:
    grown.desk.night(days_after(1))
    grown.switch("on", D)
    grown.annul(grown.newest_decision(), days_after(1))
    with raises_code(ConfigurationError, "NS-DEPLOY-021", D):
        grown.switch("on", D)
    grown.switch("on", days_after(1))
    assert grown.primary(2) == grown.fallback.spec_id


def test_alerts_once(grown: Grown, receiver: Receiver) -> None:
    grown.desk.settings = with_receivers(grown.desk.settings, receiver)
    send_unsent(grown.desk.settings, grown.desk.use_case, grown.warehouse)
    before = len(receiver.received)
    for _ in range(2):
        grown.switch("on")
    grown.roll_back()
    (_, on), (_, rolled_back) = receiver.received[before:]
    assert on == f"the kill switch is on after partition {D}: the fallback serves. Decided by {ANNA}: {WHY}"
    assert f"{grown.second.spec_id} is champion again after partition {D}, in place of" in rolled_back
    assert "The kill switch is on: the fallback goes on serving" in rolled_back
    assert WHY in rolled_back


# retire_model


def test_retired_spec_is_archived(grown: Grown) -> None:
    version = grown.version(grown.first)
    grown.warehouse.record_gates(
        days_after(-8), version, [GateResult(gate="parity_fitted", verdict="pass", observed=1e-7, bound=1e-5)]
    )
    ref = grown.retire(grown.first.spec_id)
    key = f"archive/{grown.desk.use_case.name}/{grown.first.spec_id}.zip"
    body = grown.store.get(key)
    assert body is not None
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.read("model/model.onnx") == GOOD
        deployments = json.loads(archive.read("deployments.json"))
        gates = json.loads(archive.read("gate_results.json"))
        assert [n.split("/")[1] for n in archive.namelist() if n.startswith("manifests/")] == ["fit"]
    assert [d["action"] for d in deployments] == ["registered", "promoted"]
    assert [(g["gate"], g["verdict"], g["observed"]) for g in gates] == [("parity_fitted", "pass", 1e-7)]
    assert grown.read(ref, "retirement.json")["archive"] == grown.store.uri(key)
    assert grown.warehouse.state_as_of(days_after(1)).retired == {grown.first.spec_id}
    before = grown.desk.actions()
    assert grown.retire(grown.first.spec_id) == ref
    assert grown.store.get(key) == body
    assert grown.desk.actions() == before


def test_retired_version_gives_way_to_the_one_before(grown: Grown) -> None:
    before = grown.version(grown.third)
    grown.desk.register(grown.third, days_after(-1), POOR)
    bad = grown.version(grown.third)
    grown.retire(bad)
    grown.desk.choose(days_after(1))
    assert grown.desk.choice(days_after(1)).primary.model_version == before
    assert grown.warehouse.decisions()[-1].model_version == bad
    with raises_code(ConfigurationError, "NS-DEPLOY-011", "champion"):
        grown.retire(before)


def test_what_is_in_use_is_not_retired(grown: Grown) -> None:
    desk = grown.desk
    desk.decide(days_after(-1), "promoted", grown.first, replaces=grown.third.spec_id)
    before = desk.actions()
    reasons = {
        grown.first.spec_id: ("NS-DEPLOY-010", "the champion"),
        grown.third.spec_id: ("NS-DEPLOY-010", "watched"),
        grown.fallback.spec_id: ("NS-DEPLOY-010", "the fallback"),
        grown.version(grown.fallback): ("NS-DEPLOY-011", "the fallback"),
    }
    for name, (code, role) in reasons.items():
        with raises_code(ConfigurationError, code, name, role):
            grown.retire(name)
        assert grown.store.get(f"archive/{desk.use_case.name}/{name}.zip") is None
    with raises_code(UnknownModel, "NS-DEPLOY-009", "2020-01-01-00000000"):
        grown.retire("2020-01-01-00000000")
    assert desk.actions() == before


def test_champion_of_a_later_partition_is_not_retired(grown: Grown) -> None:
    grown.desk.night(days_after(1))
    grown.desk.decide(days_after(1), "promoted", grown.first, replaces=grown.third.spec_id)
    with raises_code(ConfigurationError, "NS-DEPLOY-010", "champion"):
        grown.retire(grown.first.spec_id, D)


def test_retired_challenger_is_withdrawn(grown: Grown) -> None:
    challenger = grown.desk.use_case.challengers[0]
    grown.desk.register(challenger, days_after(-1), SIMILAR, role="challenger")
    grown.desk.decide(days_after(-1), "shadow", challenger)
    assert grown.warehouse.state_as_of(days_after(1)).challenge is not None
    grown.retire(challenger.spec_id)
    assert grown.warehouse.state_as_of(days_after(1)).challenge is None


def test_damaged_version_is_not_retired(grown: Grown) -> None:
    version = grown.warehouse.state_as_of(date.max).version(grown.first.spec_id)
    assert version is not None
    grown.store.put(grown.store.key(version.model.uri) + "model.onnx", b"damaged")
    before = grown.desk.actions()
    with raises_code(ArtifactCorrupt, "NS-STORE-018", "model.onnx"):
        grown.retire(grown.first.spec_id)
    assert grown.desk.actions() == before
