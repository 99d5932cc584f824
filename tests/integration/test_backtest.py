"""A backtest of the second use case through object store and warehouse, and what a nomination makes of it."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from pathlib import Path

import pytest

from nightshift import cli
from nightshift.artifact import Decision
from nightshift.core.attacks.attack_spec import GATES
from nightshift.core.lifecycle.state import state_after
from nightshift.declare.models import ModelSpec
from nightshift.documents.attack import AttackReport
from nightshift.documents.backtest import BacktestResult, Nomination
from nightshift.errors import ChampionChanged, ConfigurationError
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services.look_ahead import look_ahead_gate
from support.errors import raises_code
from support.nights import Nights

LAST = date(2020, 3, 21)
WORSE = ModelSpec(name="worse", estimators=("logistic_regression",), numeric=("weekday",))

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def nights(late_returns, settings, store, history) -> Nights:
    strict = dataclasses.replace(late_returns.promotion, margin_log_loss=0.05)
    history.copy(store, LAST)
    return Nights(dataclasses.replace(late_returns, promotion=strict), settings, store)


def test_specs_are_walked_and_nominated(nights, settings, store, tmp_path, capsys) -> None:
    warehouse = Warehouse(settings, nights.use_case)
    specs = ["linear", WORSE.model_dump_json()]
    ref = nights.step("backtest", LAST, specs=specs)
    result = store.read_document(ref, BacktestResult)
    assert (result.first, result.last, result.refit_every) == (LAST - timedelta(days=6), LAST - timedelta(days=1), 2)
    assert {one.spec.name: one.role for one in result.series} == {
        "small_trees": "champion",
        "fallback": "fallback",
        "linear": "challenger",
        "worse": "challenger",
    }
    assert {one.rows for one in result.series} == {240}
    (linear,) = [one for one in result.series if one.spec.name == "linear" and not one.baseline]
    assert set(linear.differences) == {"champion", "fallback", "frozen"}
    assert linear.graph_difference is not None
    assert linear.graph_difference < 1e-4
    assert {one.column for one in linear.slices} == {"customer"}
    assert b"<svg" in store.read(ref, "backtest.html")
    _rows_of_the_warehouse(warehouse, ref.sha256[:16], result)
    assert nights.step("backtest", LAST, specs=specs) == ref
    _rows_of_the_warehouse(warehouse, ref.sha256[:16], result)

    attacked = nights.step("attack", LAST, backtest=ref)
    attacks = store.read_document(attacked, AttackReport)
    assert [one.spec.name for one in attacks.specs] == ["linear", "worse"]
    assert attacks.demanded
    nominated = nights.step("nominate", LAST, backtest=ref, attacked=attacked)
    outcome = store.read_document(nominated, Nomination)
    assert outcome.outcomes == {linear.spec_id: "shadow", WORSE.spec_id: "backtest_failed"}
    assert "no_worse_than_champion.margin" in {gate.code for gate in outcome.gates[WORSE.spec_id]}
    verdicts = {gate.gate: gate.verdict for gate in outcome.gates[linear.spec_id]}
    assert verdicts["look_ahead"] == "pass"
    assert verdicts["backtest_partitions"] == "pass"
    assert {verdicts[gate] for gate in GATES} == {"pass"}
    assert nights.step("nominate", LAST, backtest=ref, attacked=attacked) == nominated
    decisions = warehouse.decisions()
    assert [(one.action, one.decided_by) for one in decisions] == [
        ("shadow", "nominate"),
        ("backtest_failed", "nominate"),
    ]
    state = state_after(decisions, LAST)
    assert state.challenge is not None
    assert state.challenge.spec_id == linear.spec_id
    assert state.specs[WORSE.spec_id] == WORSE

    _one_spec_at_a_time(nights, linear.spec_id)
    assert cli.main(["backtest", "late_returns", "--spec", "linear", "--from", "2020-03-17", "--to", "2020-03-20"]) == 0
    printed = capsys.readouterr().out
    assert linear.spec_id in printed
    assert "2020-03 " in printed
    with raises_code(ConfigurationError, "NS-BACKTEST-011", "none"):
        nights.step("backtest", LAST, specs="none")
    with raises_code(ConfigurationError, "NS-BACKTEST-008"):
        nights.step("backtest", LAST, last=LAST)
    _another_champion(nights, warehouse, ref, attacked)
    _look_ahead(nights, tmp_path)


def _one_spec_at_a_time(nights: Nights, in_shadow: str) -> None:
    """A later backtest of the same partition takes the place of no spec that an earlier one nominated."""
    another = ModelSpec(name="another", estimators=("logistic_regression",))
    walked = nights.step("backtest", LAST, specs=[another.model_dump_json()])
    nominated = nights.step("nominate", LAST, backtest=walked, attacked=nights.step("attack", LAST, backtest=walked))
    outcome = nights.store.read_document(nominated, Nomination)
    assert outcome.outcomes == {another.spec_id: "left"}
    assert f"{in_shadow} is in shadow" in outcome.why[another.spec_id]


def _rows_of_the_warehouse(warehouse: Warehouse, backtest_id: str, result: BacktestResult) -> None:
    with warehouse.connection() as connection:
        rows = connection.execute(
            "SELECT spec_id, baseline, count(*), sum(rows), bool_and(trained_on < partition) "
            "FROM late_returns.backtests WHERE backtest_id = %s GROUP BY 1, 2",
            [backtest_id],
        ).fetchall()
    assert sorted(rows) == sorted((one.spec_id, one.baseline, 6, 240, True) for one in result.series)


def _another_champion(nights: Nights, warehouse: Warehouse, backtest, attacked) -> None:
    """A backtest against another champion than the present one leads to nothing."""
    decision = warehouse.decisions()[0].model_copy(update={"action": "promoted", "decided_by": "hand:someone"})
    warehouse.record_deployment(decision)
    with raises_code(ChampionChanged, "NS-BACKTEST-009"):
        nights.step("nominate", LAST, backtest=backtest, attacked=attacked)
    assert len(warehouse.decisions()) == 3


def _look_ahead(nights: Nights, folder: Path) -> None:
    """Features that read later deliveries are found."""
    drawn, use_case = LAST - timedelta(days=5), nights.use_case
    assert look_ahead_gate(use_case, nights.store, drawn, LAST).verdict == "pass"
    leaky = folder / "leaky.sql"
    table = next(one for one in use_case.features.tables if one.name == "branch_history")
    sql = table.sql.read_text().replace("where delivered_on <= $partition", "")
    leaky.write_text(sql)
    tables = tuple(dataclasses.replace(one, sql=leaky) if one is table else one for one in use_case.features.tables)
    wrong = dataclasses.replace(use_case, features=dataclasses.replace(use_case.features, tables=tables))
    gate = look_ahead_gate(wrong, nights.store, drawn, LAST)
    assert (gate.verdict, gate.code, gate.observed) == ("fail", "look_ahead.differs", 1)
    assert "branch_history" in gate.reason

    # What was published for an earlier day since is not what the features were built from.
    redelivered = Decision(status="rejected", reason="delivered again")
    nights.store.decide(use_case.name, "publish", drawn - timedelta(days=1), redelivered)
    assert look_ahead_gate(use_case, nights.store, drawn, LAST).verdict == "pass"
