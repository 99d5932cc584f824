"""Decisions by hand that are annulled, on a real store and a real warehouse."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from psycopg import errors, sql

from nightshift.errors import ChampionChanged, ConfigurationError
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.alerts import send_unsent
from support.champions import ANNA, WHY, Grown
from support.desk import D, days_after
from support.errors import raises_code
from support.receiver import Receiver, with_receivers

LONG_AFTER = date(2026, 11, 29)


def killed_by_mistake(grown: Grown) -> int:
    """The kill switch is on from the partition after D on."""
    grown.switch("on")
    return grown.newest_decision()


def message(grown: Grown, deployment_id: int, partition: date = D, **more: Any) -> str:
    return str(grown.read(grown.annul(deployment_id, partition, **more), "annulment.json")["message"])


# What it changes


def test_past_partitions_keep_the_state_they_had(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    published = grown.desk.night(days_after(1))
    publications = grown.desk.rows("publications", "publish_id")
    assert f"The first partition affected is {days_after(2)}" in message(grown, number, days_after(1))
    # Run again, the night with the kill switch on is as it was; the next one is the champion's.
    assert grown.desk.predict(days_after(1)) == published
    assert grown.desk.rows("publications", "publish_id") == publications
    assert grown.primary(1) == grown.fallback.spec_id
    assert grown.primary(2) == grown.third.spec_id


def test_annulled_before_it_took_effect(grown: Grown) -> None:
    text = message(grown, killed_by_mistake(grown))
    assert f"is annulled after partition {D}; from {days_after(1)} on {grown.version(grown.third)} serves" in text
    assert grown.primary(1) == grown.third.spec_id


def test_earlier_decision_counts_again(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    grown.switch("off")
    grown.annul(grown.newest_decision())
    assert grown.primary(1) == grown.fallback.spec_id
    grown.annul(number)
    assert grown.primary(1) == grown.third.spec_id


def test_rollback_of_a_later_date_blocks_no_other(grown: Grown) -> None:
    later = {"by": ANNA, "replaces": grown.third.spec_id}
    grown.desk.decide(LONG_AFTER, "rolled_back", grown.second, **later)
    number = grown.newest_decision()
    with raises_code(ChampionChanged, "NS-DEPLOY-015", LONG_AFTER, f"annul_decision with {number}"):
        grown.roll_back()
    assert "The first partition affected is 2026-11-30" in message(grown, number)
    grown.roll_back(to_spec=grown.first.spec_id)
    assert grown.primary(1) == grown.first.spec_id
    assert grown.warehouse.state_as_of(date.max).champion == grown.first.spec_id


def test_kill_switch_of_a_later_date_blocks_no_other(grown: Grown) -> None:
    killed_by_mistake(grown)
    grown.desk.decide(LONG_AFTER, "killed", by=ANNA)
    number = grown.newest_decision()
    with raises_code(ConfigurationError, "NS-DEPLOY-008", LONG_AFTER, f"annul_decision with {number}"):
        grown.switch("off")
    grown.annul(number)
    grown.switch("off")
    assert grown.primary(1) == grown.third.spec_id
    assert grown.warehouse.state_as_of(date.max).killed is None


def test_retired_spec_can_serve_again(grown: Grown) -> None:
    grown.retire(grown.second.spec_id)
    grown.annul(grown.newest_decision())
    grown.roll_back(to_spec=grown.second.spec_id)
    assert grown.primary(1) == grown.second.spec_id


def test_alert_names_what_was_annulled(grown: Grown, receiver: Receiver) -> None:
    number = killed_by_mistake(grown)
    grown.desk.settings = with_receivers(grown.desk.settings, receiver)
    send_unsent(grown.desk.settings, grown.desk.use_case, grown.warehouse)
    before = len(receiver.received)
    grown.annul(number, decided_by="hand:bert")
    ((_, text),) = receiver.received[before:]
    what = f"decision {number} (killed {grown.third.spec_id} after {D}, {ANNA}) is annulled after partition {D}"
    assert text == f"{what}. Decided by hand:bert: {WHY}"


# What cannot be annulled


def test_unknown_number(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    with raises_code(ConfigurationError, "NS-DEPLOY-016", number + 1, f"{number} (killed"):
        grown.annul(number + 1)


def test_annulment(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    grown.annul(number)
    with raises_code(ConfigurationError, "NS-DEPLOY-017", f"annulled, {number}, again"):
        grown.annul(grown.newest_decision())


@pytest.mark.parametrize(("action", "by"), [("promoted", "advance"), ("killed", "rule:harm")])
def test_decision_of_a_step_or_rule(grown: Grown, action: str, by: str) -> None:
    grown.desk.decide(D, action, grown.first, by=by)
    with raises_code(ConfigurationError, "NS-DEPLOY-018", action, by):
        grown.annul(grown.newest_decision())


def test_annulled_already(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    grown.annul(number)
    with raises_code(ConfigurationError, "NS-DEPLOY-019", ANNA, D):
        grown.annul(number, decided_by="hand:bert")


def test_without_effect(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    grown.switch("off")
    before = grown.desk.actions()
    with raises_code(ConfigurationError, "NS-DEPLOY-020", number):
        grown.annul(number)
    assert grown.desk.actions() == before


# Twice, side by side


@pytest.mark.usefixtures("in_a_run")
def test_second_try_of_a_run_annuls_once(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    once = grown.annul(number)
    before = grown.desk.actions()
    assert grown.annul(number) == once
    assert grown.desk.actions() == before


def test_of_two_at_once_one_is_recorded(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    number = killed_by_mistake(grown)
    seen = grown.warehouse.decisions()
    count = len(seen)
    monkeypatch.setattr(Warehouse, "decisions", lambda self: seen)

    def annul(who: str) -> str:
        try:
            grown.annul(number, decided_by=f"hand:{who}")
        except ConfigurationError as error:
            return error.code
        return "recorded"

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(annul, "xyz")) == ["NS-DEPLOY-019", "NS-DEPLOY-019", "recorded"]
    monkeypatch.undo()
    assert len(grown.warehouse.decisions()) == count + 1


def test_the_table_itself_takes_one_annulment_of_a_decision(grown: Grown) -> None:
    number = killed_by_mistake(grown)
    grown.annul(number)
    columns = "partition, action, role, model_version, reason, decided_by, annuls"
    query = sql.SQL("INSERT INTO {} (" + columns + ") VALUES (%s, %s, 'champion', '', '{{}}', %s, %s)").format(
        grown.warehouse.table("deployments")
    )
    for action, annuls, error in (
        ("annulled", number, errors.UniqueViolation),
        ("annulled", number + 99, errors.ForeignKeyViolation),
        ("annulled", None, errors.CheckViolation),
        ("killed", number, errors.CheckViolation),
    ):
        with grown.warehouse.connection() as connection:
            with pytest.raises(error):
                connection.execute(query, [D, action, ANNA, annuls])
            connection.rollback()
