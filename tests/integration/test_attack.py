"""Attacks on specs of the second use case, on its real training rows, and what follows from their results."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta

import pytest

from nightshift.core.attacks.attack_spec import GATES
from nightshift.declare.policies import Risk, RiskPolicy
from nightshift.documents.attack import AttackReport
from nightshift.documents.backtest import Nomination
from nightshift.io.warehouse.warehouse import Warehouse
from support.history import TRAINED
from support.nights import Nights

LAST = date(2020, 3, 21)

pytestmark = pytest.mark.filterwarnings("default")


def with_policy(nights: Nights, *, demanded: bool = True, **attacks: object) -> Nights:
    """The use case with other bounds, and with risks that demand them or do not."""
    declared = nights.use_case
    risk = RiskPolicy(
        risks=(Risk("tools are missing", 4, 2, "a site stands still"),), attacks_from=8 if demanded else 9
    )
    changed = dataclasses.replace(declared, attacks=dataclasses.replace(declared.attacks, **attacks), risk=risk)
    return Nights(changed, nights.settings, nights.store)


def gate_rows(nights: Nights, candidate: str) -> dict[tuple[str, str], str]:
    with Warehouse(nights.settings, nights.use_case).connection() as connection:
        rows = connection.execute(
            "SELECT model_version, gate, verdict FROM late_returns.gate_results WHERE candidate = %s", [candidate]
        ).fetchall()
    return {(spec, gate): verdict for spec, gate, verdict in rows}


def alerts(nights: Nights) -> list[str]:
    with Warehouse(nights.settings, nights.use_case).connection() as connection:
        return [cause for (cause,) in connection.execute("SELECT cause FROM late_returns.alerts ORDER BY 1")]


def test_champion_beyond_a_bound_is_an_alert_where_risks_demand_it(trained_nights, history) -> None:
    history.copy(trained_nights.store, LAST, TRAINED + timedelta(days=1))
    champion = trained_nights.use_case.champion.spec_id
    within = with_policy(trained_nights)
    ref = within.step("attack", LAST)
    report = within.store.read_document(ref, AttackReport)
    (attacked,) = report.specs
    assert attacked.spec.spec_id == champion
    assert (attacked.fitted, attacked.unseen) == (400, 400)
    assert {gate.gate: gate.verdict for gate in attacked.gates} == dict.fromkeys(GATES, "pass")
    assert gate_rows(within, "attack") == {(champion, gate): "pass" for gate in GATES}
    assert champion.encode() in within.store.read(ref, "attacks.html")
    assert within.step("attack", LAST) == ref
    assert alerts(within) == []

    beyond = {"largest_membership_auc": 0.1}
    with_policy(trained_nights, demanded=False, **beyond).step("attack", LAST)
    assert gate_rows(within, "attack")[champion, "membership"] == "fail"
    assert alerts(within) == []
    with_policy(trained_nights, **beyond).step("attack", LAST, spec="linear")
    assert alerts(within) == []
    with_policy(trained_nights, **beyond).step("attack", LAST)
    assert alerts(within) == [f"attacks:{champion}"]


@pytest.mark.parametrize(("demanded", "outcome"), [(True, "backtest_failed"), (False, "shadow")])
def test_spec_beyond_a_bound_is_not_nominated_where_risks_demand_it(nights, history, demanded, outcome) -> None:
    history.copy(nights.store, LAST)
    strict = with_policy(nights, demanded=demanded, largest_fall=1e-6)
    walked = strict.step("backtest", LAST, specs=["linear"])
    attacked = strict.step("attack", LAST, backtest=walked)
    (linear,) = strict.store.read_document(attacked, AttackReport).specs
    assert {gate.gate: gate.code for gate in linear.gates}["evasion"] == "evasion.fall"
    nominated = strict.store.read_document(
        strict.step("nominate", LAST, backtest=walked, attacked=attacked), Nomination
    )
    assert nominated.outcomes == {linear.spec.spec_id: outcome}
    assert ("evasion.fall" in nominated.why[linear.spec.spec_id]) == demanded
