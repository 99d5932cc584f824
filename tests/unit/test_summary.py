"""What the summary of the nights says about models."""

from __future__ import annotations

from typing import Any

import pytest

from nightshift.local.summary import _decided


def _row(deployment_id: int, action: str, by: str, version: str = "m") -> dict[str, Any]:
    return {"deployment_id": deployment_id, "action": action, "decided_by": by, "model_version": version}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "-"),
        ([_row(1, "shadow", "register")], "-"),
        ([_row(1, "failed", "train", "none")], "-"),
        ([_row(1, "rejected", "register"), _row(2, "canary", "advance_model", "a")], "canary a"),
        # A step that is run again replaces what it said; what people decide is kept row by row.
        ([_row(1, "canary", "advance_model", "a"), _row(2, "held", "advance_model", "a")], "-"),
        ([_row(1, "killed", "hand:eve", "c"), _row(2, "restored", "hand:eve", "c")], "killed c; restored c"),
        (
            [_row(1, "awaiting_approval", "advance_model", "a"), _row(2, "promoted", "record_approval", "a")],
            "awaiting approval a; promoted a",
        ),
    ],
)
def test_what_was_decided_about_models_besides_the_training(rows: list[dict[str, Any]], said: str) -> None:
    assert _decided(rows) == said
