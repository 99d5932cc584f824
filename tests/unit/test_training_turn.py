"""Whose decisions a night waits for: of the nearest earlier one that is really decided, nobody's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nightshift.deployment import Action, Deployment
from nightshift.errors import PartitionNotReady
from nightshift.io.training_turn import take_turn

USE_CASE: Any = SimpleNamespace(name="late")


def day(number: int) -> date:
    return date(2013, 5, number)


def said(partition: int, action: str, by: str = "register") -> Deployment:
    return Deployment(
        partition=day(partition),
        action=cast(Action, action),
        role="challenger",
        model_version=f"{action}-{partition}",
        decided_by=by,
    )


def turn(
    decisions: Sequence[Deployment],
    partition: int = 9,
    *,
    refused: Sequence[int] = (),
    advanced: Sequence[int] = (),
    **how: bool,
) -> date | None:
    store: Any = SimpleNamespace(
        decision=lambda _, step, at: {
            "publish": SimpleNamespace(status="rejected" if at.day in refused else "published"),
            "advance_model": "advanced" if at.day in advanced else None,
        }[step]
    )
    warehouse: Any = SimpleNamespace(decisions=lambda: list(decisions))
    return take_turn(USE_CASE, store, warehouse, day(partition), **{"allow_undecided": False, **how})


START = [said(5, "bootstrap", "register_fallback"), said(5, "promoted")]


@pytest.mark.parametrize(
    ("decisions", "refused"),
    [
        ([], []),
        ([*START, said(8, "rejected")], []),
        ([*START, said(6, "rejected"), said(7, "rejected")], [8]),
        ([*START, said(6, "rejected"), said(7, "failed", "train"), said(8, "failed", "train")], []),
        (START, [6, 7, 8]),
    ],
)
def test_nobody_waits_for_a_decided_night_or_for_one_that_took_no_turn(
    decisions: list[Deployment], refused: list[int]
) -> None:
    assert turn(decisions, refused=refused) is None


@pytest.mark.parametrize(
    ("decisions", "refused"),
    [
        ([*START, said(6, "rejected")], [8]),
        ([*START, said(6, "rejected"), said(8, "failed", "train")], []),
    ],
)
def test_the_turn_is_kept_across_refused_and_failed_nights(decisions: list[Deployment], refused: list[int]) -> None:
    with pytest.raises(PartitionNotReady, match=rf"training of partition {day(7)}.*late\.train for {day(7)}"):
        turn(decisions, refused=refused)
    assert turn(decisions, refused=refused, allow_undecided=True) == day(7)


def test_a_trial_is_waited_for_also_where_the_training_failed() -> None:
    decisions = [*START, said(6, "shadow"), said(7, "rejected"), said(8, "failed", "train")]
    with pytest.raises(PartitionNotReady, match=rf"trial of partition {day(8)}"):
        turn(decisions)
    with pytest.raises(PartitionNotReady, match=rf"trial of partition {day(7)}"):
        turn(decisions, advanced=[8])
    assert turn(decisions, advanced=[7, 8]) is None
