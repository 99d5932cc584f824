"""Monitoring rules in check_drift: what they record, alert and decide, on hand-made versions."""

from __future__ import annotations

import dataclasses
import json
from datetime import date

import pytest

from nightshift import cli
from nightshift.core.monitoring.overview import rule_problems
from nightshift.core.monitoring.rules import DayLoss, Evidence, Past, evaluate
from nightshift.declare.rules import LossSignal, MissingPublication, Rule
from nightshift.declare.use_case import UseCase
from nightshift.documents.rules import AppliedRules, RuleOutcome
from nightshift.errors import PartitionNotReady
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services import rules
from nightshift.settings import Settings
from support.desk import TERRIBLE, D, Desk, begin, days_after
from support.errors import raises_code
from support.receiver import Receiver, with_receivers

WORSE = Rule("worse", (LossSignal("fallback", margin=0.1),), then="fallback", at_least=2, of_last=3)
MISSING = Rule("missing", (MissingPublication(),), then="alert", of_last=2)
SEARCH = Rule("surprised", (LossSignal("expected", margin=0.1),), then="search")


def begin_with(desk: Desk, *declared: Rule) -> None:
    """A champion that is far worse than the fallback, under these rules."""
    desk.use_case = dataclasses.replace(desk.use_case, rules=declared)
    begin(desk, graph=TERRIBLE)


def checked(desk: Desk, first: int, last: int) -> list[dict[str, RuleOutcome]]:
    """Partitions first to last after D, each delivered, predicted and checked. Returns the outcomes by rule."""
    found = []
    for number in range(first, last + 1):
        desk.night(days_after(number))
        found.append(applied(desk, days_after(number)))
    return found


def applied(desk: Desk, partition: date) -> dict[str, RuleOutcome]:
    document = desk.store.read_document(desk.check_drift(partition), AppliedRules)
    return {one.rule: one for one in document.outcomes}


def alerts(receiver: Receiver) -> list[str]:
    return [line for line in receiver.lines if "Rules: " in line]


def kills(desk: Desk) -> list[tuple[date, str]]:
    return [(one.partition, one.decided_by) for one in desk.warehouse.decisions() if one.action == "killed"]


def test_a_rule_turns_on_the_kill_switch_once(desk: Desk, receiver: Receiver) -> None:
    desk.settings = with_receivers(desk.settings, receiver)
    begin_with(desk, WORSE)
    outcomes = [one["worse"] for one in checked(desk, 0, 2)]
    # The labels of D + 1 are the first of published predictions.
    assert [(one.fired, len(one.matches)) for one in outcomes] == [(False, 0), (False, 1), (True, 2)]
    assert kills(desk) == [(days_after(2), "rule:worse")]
    assert len(alerts(receiver)) == 1
    assert "worse turns on the kill switch" in alerts(receiver)[0]
    assert desk.choice(days_after(2)).primary.role == "champion"
    # The same again changes nothing.
    before = desk.rows("rules_daily")
    assert applied(desk, days_after(2))["worse"] == outcomes[2]
    assert (desk.rows("rules_daily"), len(kills(desk)), len(alerts(receiver))) == (before, 1, 1)
    # From the next partition on the fallback serves; a person ends it, and the rule, which goes on firing, accepts it.
    checked(desk, 3, 3)
    assert desk.choice(days_after(3)).primary.role == "fallback"
    desk.decide(days_after(3), "restored")
    (again,) = checked(desk, 4, 4)
    assert desk.choice(days_after(4)).primary.role == "champion"
    assert (again["worse"].fired, again["worse"].since, again["worse"].acted) == (True, days_after(2), False)
    assert "restored by hand:ann" in again["worse"].effect
    assert (len(kills(desk)), len(alerts(receiver))) == (1, 1)


def test_a_rule_that_fires_anew_turns_the_kill_switch_on_again(desk: Desk) -> None:
    begin_with(desk, dataclasses.replace(WORSE, at_least=1, of_last=1))
    checked(desk, 0, 1)
    checked(desk, 2, 2)  # predicted by the fallback; the labels are of the champion's last predictions
    desk.decide(days_after(2), "restored")
    outcomes = checked(desk, 3, 4)
    assert [one["worse"].fired for one in outcomes] == [False, True]
    assert [day for day, _ in kills(desk)] == [days_after(1), days_after(4)]


def test_a_late_check_leaves_the_kill_switch_to_the_newest_partition(desk: Desk) -> None:
    """Scored partitions do not change: the versions of D + 3 were chosen before D + 2 is checked."""
    begin_with(desk, WORSE)
    desk.live(0, 3)
    for number in range(2):
        desk.check_drift(days_after(number))
    late = applied(desk, days_after(2))["worse"]
    assert (late.fired, late.acted) == (True, False)
    assert kills(desk) == []
    newest = applied(desk, days_after(3))["worse"]
    assert (newest.since, newest.acted) == (days_after(2), True)
    assert kills(desk) == [(days_after(3), "rule:worse")]


def test_the_switch_is_left_as_a_person_set_it(desk: Desk) -> None:
    begin_with(desk, WORSE)
    checked(desk, 0, 1)
    desk.night(days_after(2))
    desk.decide(days_after(1), "killed")
    outcome = applied(desk, days_after(2))["worse"]
    assert (outcome.fired, outcome.acted) == (True, False)
    assert f"on since {days_after(1)}" in outcome.effect
    assert kills(desk) == [(days_after(1), "hand:ann")]


def test_nothing_is_decided_without_a_version_of_the_fallback(desk: Desk) -> None:
    begin_with(desk, WORSE)
    desk.live(0, 2)
    for number in range(2):
        desk.check_drift(days_after(number))
    desk.decide(D, "retired", desk.use_case.fallback, by="hand:ann")
    outcome = applied(desk, days_after(2))["worse"]
    assert (outcome.fired, outcome.acted) == (True, False)
    assert kills(desk) == []


def test_a_rule_does_not_stop_predictions_that_are_being_made(desk: Desk) -> None:
    begin_with(desk)
    desk.night(D)
    desk.deliver(days_after(1))
    choice = desk.choose(days_after(1))
    desk.decide(D, "killed", by="rule:worse")
    desk.publish(days_after(1), desk.score(days_after(1), choice))
    assert [one.role for one in desk.warehouse.publications(D, days_after(1))] == ["champion", "champion"]
    desk.night(days_after(2))
    assert desk.choice(days_after(2)).primary.role == "fallback"


def test_a_missing_publication_is_alerted_once(desk: Desk, receiver: Receiver) -> None:
    desk.settings = with_receivers(desk.settings, receiver)
    begin_with(desk, MISSING)
    checked(desk, 0, 0)
    desk.deliver(days_after(1))
    outcomes = [one["missing"].fired for one in checked(desk, 2, 3)]
    assert outcomes == [True, False]
    assert len(alerts(receiver)) == 1
    assert f"{days_after(1)} is ingested and has no predictions" in alerts(receiver)[0]
    # Partitions before the first publication are history.
    assert rules.read_evidence(
        desk.store, desk.warehouse, desk.use_case, [MISSING], D, days_after(3)
    ).unpublished == {days_after(1)}  # fmt: skip


def test_what_is_recorded_says_what_to_do(desk: Desk) -> None:
    begin_with(desk, SEARCH, MISSING)
    checked(desk, 0, 2)
    rows = {(row["partition"], row["rule"]): row for row in desk.rows("rules_daily")}
    assert len(rows) == 6
    row = rows[days_after(1), "surprised"]
    assert (row["action"], row["fired"], row["began"], row["acted"], row["matched"]) == ("search", True, True, True, 1)
    assert f'"partition": "{days_after(1)}"' in row["effect"]
    (match,) = row["evidence"]
    assert match["day"] == str(days_after(1))
    numbers = match["observations"][0]["numbers"]
    assert numbers["difference"] == pytest.approx(numbers["log_loss"] - numbers["expected"])
    goes_on = rows[days_after(2), "surprised"]
    assert (goes_on["since"], goes_on["began"], goes_on["acted"]) == (days_after(1), False, False)
    assert "airflow dags trigger" in row["effect"]
    newest_first = sorted(rows.values(), key=lambda one: one["partition"], reverse=True)
    (problem,) = rule_problems(desk.use_case.name, newest_first)
    assert str(days_after(1)) in problem.what


def test_a_dry_run_gives_what_was_recorded_and_changes_nothing(desk: Desk) -> None:
    begin_with(desk, SEARCH, MISSING, dataclasses.replace(SEARCH, name="never", signals=(LossSignal("expected", 9.0),)))
    checked(desk, 0, 3)
    before = desk.rows("rules_daily")
    days = desk.use_case, days_after(0), days_after(3)
    outcomes = rules.dry_run(desk.store, desk.warehouse, *days)
    assert desk.rows("rules_daily") == before
    recorded = rules.recorded(desk.warehouse, *days[1:])
    assert list(outcomes) == list(recorded)
    for day, of_day in outcomes.items():
        stored = {one.rule: one for one in recorded[day]}
        for one in of_day:
            assert one.model_copy(update={"effect": ""}) == stored[one.rule].model_copy(update={"effect": ""})
    assert [any(one.fired for one in of_day) for of_day in outcomes.values()] == [False, True, True, True]


def test_a_partition_that_was_not_checked_cannot_be_explained(desk: Desk) -> None:
    begin_with(desk, SEARCH)
    with raises_code(PartitionNotReady, "NS-RULE-016", D):
        rules.explained(desk.warehouse, desk.use_case, D)


def test_the_commands_print_text_and_json(
    late_returns: UseCase, settings: Settings, store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse, name = Warehouse(settings, late_returns), late_returns.name
    evidence = Evidence(losses={D: DayLoss(40, 0.9, expected=0.5, fallback=0.4)})
    rules.record(warehouse, D, [evaluate(SEARCH, D, evidence, Past()), evaluate(MISSING, D, evidence, Past())], None)
    assert cli.main(["monitor", "explain", name, str(D)]) == 0
    text = capsys.readouterr().out
    assert "1 of 2 rules fired" in text
    assert "log loss of 2020-03-20 0.9000, +0.4000 from what the scores promised" in text
    assert cli.main(["monitor", "explain", name, str(D), "--json"]) == 0
    outcomes = json.loads(capsys.readouterr().out)[str(D)]
    assert {one["rule"]: one["fired"] for one in outcomes} == {"missing": False, "surprised": True}
    assert cli.main(["monitor", "explain", name, str(days_after(1))]) == 1
    assert "NS-RULE-016" in capsys.readouterr().err
    assert cli.main(["monitor", "dry-run", name, "--from", str(D), "--to", str(days_after(1))]) == 0
    assert "no partition of that range" in capsys.readouterr().out
    assert cli.main(["monitor", "dry-run", name, "--from", str(days_after(1)), "--to", str(D)]) == 1
    assert "NS-RULE-015" in capsys.readouterr().err
