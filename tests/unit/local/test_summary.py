"""What the summary of the partitions says about specs and versions."""

from __future__ import annotations

from typing import Any

import pytest

from nightshift.local.summary import _decided, _log_loss, _trained


def _row(deployment_id: int, action: str, by: str, spec_id: str = "") -> dict[str, Any]:
    row = {"deployment_id": deployment_id, "action": action, "decided_by": by, "spec_id": spec_id}
    return row | {"model_version": ""}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "-"),
        ([_row(1, "canary", "advance", "a")], "canary a"),
        # A step that is run again replaces its decision; decisions by hand are kept row by row.
        ([_row(1, "canary", "advance", "a"), _row(2, "held", "advance", "a")], "-"),
        ([_row(1, "killed", "hand:eve"), _row(2, "restored", "hand:eve")], "killed; restored"),
        ([_row(1, "shadow", "nominate", "a"), _row(2, "backtest_failed", "nominate", "b")],
         "shadow a; backtest failed b"),
        ([_row(1, "awaiting_approval", "advance", "a"), _row(2, "promoted", "record_approval", "a")],
         "awaiting approval a; promoted a"),
    ],
)  # fmt: skip
def test_decisions_about_specs(rows: list[dict[str, Any]], text: str) -> None:
    assert _decided(rows) == text


def test_the_last_result_of_each_version_is_shown() -> None:
    rows = [
        _row(1, "rejected", "register", "a"),
        _row(2, "registered", "register", "b"),
        _row(3, "registered", "register", "a"),
        _row(4, "promoted", "register", "a"),
    ]
    assert _trained(rows) == "registered a; registered b"
    assert _trained([_row(1, "failed", "record_failure")]) == "failed"
    assert _trained([]) == "-"


def test_the_log_loss_of_a_canary_partition_weighs_by_rows() -> None:
    assert _log_loss([{"rows": 30, "log_loss": 0.5}, {"rows": 10, "log_loss": 0.9}]) == "0.6000"
    assert _log_loss([]) == "-"
