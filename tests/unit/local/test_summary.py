"""What the summary of the partitions says about specs and versions."""

from __future__ import annotations

from datetime import date

import pytest

from nightshift.deployment import Action, Deployment
from nightshift.local.summary import _decided, _log_loss, _Performance, _trained

DAY = date(2020, 3, 1)


def _row(action: Action, by: str, spec_id: str = "") -> Deployment:
    return Deployment(partition=DAY, action=action, role="champion", spec_id=spec_id, decided_by=by)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "-"),
        ([_row("canary", "advance", "a")], "canary a"),
        # A step that is run again replaces its decision; decisions by hand are kept row by row.
        ([_row("canary", "advance", "a"), _row("held", "advance", "a")], "-"),
        ([_row("killed", "hand:eve"), _row("restored", "hand:eve")], "killed; restored"),
        ([_row("shadow", "nominate", "a"), _row("backtest_failed", "nominate", "b")],
         "shadow a; backtest failed b"),
        ([_row("awaiting_approval", "advance", "a"), _row("promoted", "record_approval", "a")],
         "awaiting approval a; promoted a"),
    ],
)  # fmt: skip
def test_decisions_about_specs(rows: list[Deployment], text: str) -> None:
    assert _decided(rows) == text


def test_the_last_result_of_each_version_is_shown() -> None:
    rows = [
        _row("rejected", "register", "a"),
        _row("registered", "register", "b"),
        _row("registered", "register", "a"),
        _row("promoted", "register", "a"),
    ]
    assert _trained(rows) == "registered a; registered b"
    assert _trained([_row("failed", "record_failure")]) == "failed"
    assert _trained([]) == "-"


def test_the_log_loss_of_a_canary_partition_weighs_by_rows() -> None:
    assert _log_loss([_Performance(DAY, 30, 0.5), _Performance(DAY, 10, 0.9)]) == "0.6000"
    assert _log_loss([]) == "-"
