"""Monitoring rules: what fires on which numbers, what begins, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import product

import pytest

from nightshift.core.monitoring.rules import DayLoss, Evidence, Past, RecordedDrift, evaluate, evaluate_each, following
from nightshift.declare.rules import DEFAULT_RULES, Action, DriftSignal, LossSignal, MissingPublication, Rule
from nightshift.documents.check_drift import ColumnDrift, DriftKind
from nightshift.documents.rules import RuleOutcome

FIRST = date(2013, 3, 1)
MARGIN = 0.03125
"""Exact in binary, as are sums with it."""
CONCEPT = Rule("concept", (DriftSignal("concept"),), then="alert")
FIVE_OF_SEVEN = Rule("worse", (LossSignal("fallback", margin=MARGIN),), then="fallback", at_least=5, of_last=7)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def drifted(
    kind: DriftKind, since: date | None, excess: float = 1.5, source: str = "outcomes", column: str = "carrier=UA"
) -> RecordedDrift:
    one = ColumnDrift(
        source=source, column=column, statistic="residual", days=28, value=12.0, low=-8.0, high=8.0, excess=excess
    )
    return RecordedDrift(kind, one, since)


def losses(differences: Mapping[int, float], rows: int = 100) -> Evidence:
    """Days by number, each with the loss above the fallback's."""
    return Evidence(
        losses={day(n): DayLoss(rows, 0.5 + by, expected=0.5, fallback=0.5) for n, by in differences.items()}
    )


def fired(rule: Rule, number: int, evidence: Evidence) -> bool:
    return evaluate(rule, day(number), evidence, Past()).fired


def each(rule: Rule, days: Sequence[int], evidence: Evidence) -> list[RuleOutcome]:
    return [one for (one,) in evaluate_each([rule], [day(n) for n in days], evidence).values()]


# The rules of a use case that declares none


def response_to(new: set[str]) -> tuple[bool, bool]:
    """(search, alert): the response to the kinds of drift that begin, as documented in docs/drift.md."""
    search = bool(new & {"label", "concept"}) or {"data", "prediction"} <= new
    return search, bool(new)


@pytest.mark.parametrize("states", list(product(("stable", "begins", "goes on"), repeat=4)))
def test_default_rules_respond_to_drift_that_begins(states: tuple[str, ...]) -> None:
    kinds: tuple[DriftKind, ...] = ("data", "prediction", "label", "concept")
    rows = [
        drifted(kind, day(5) if state == "begins" else day(2))
        for kind, state in zip(kinds, states, strict=True)
        if state != "stable"
    ]
    outcomes = [evaluate(rule, day(5), Evidence({day(5): rows}), Past()) for rule in DEFAULT_RULES]
    search, alert = response_to({kind for kind, state in zip(kinds, states, strict=True) if state == "begins"})
    assert any(one.acted and one.then == "search" for one in outcomes) == search
    assert any(one.began for one in outcomes) == alert


def test_default_rules_respond_again_to_a_further_column() -> None:
    rows = {
        day(0): [drifted("label", day(0), column="is_late")],
        day(1): [drifted("label", day(0), column="is_late")],
        day(2): [drifted("label", day(0), column="is_late"), drifted("label", day(2), column="other")],
    }
    (rule,) = [rule for rule in DEFAULT_RULES if rule.name == "label_drift"]
    assert [one.began for one in each(rule, [0, 1, 2], Evidence(rows))] == [True, False, True]


# Signals


@pytest.mark.parametrize(
    ("signal", "matches"),
    [
        (DriftSignal("concept"), True),
        (DriftSignal("label"), False),
        (DriftSignal("concept", source="outcomes"), True),
        (DriftSignal("concept", source="weather"), False),
        (DriftSignal("concept", column="carrier=UA"), True),
        (DriftSignal("concept", column=""), False),
        (DriftSignal("concept", statistic="residual"), True),
        (DriftSignal("concept", statistic="loss"), False),
        (DriftSignal("concept", least_excess=1.4), True),
        (DriftSignal("concept", least_excess=1.5), False),
        (DriftSignal("concept", new=True), False),
    ],
)
def test_a_signal_selects_columns(signal: DriftSignal, matches: bool) -> None:
    evidence = Evidence({day(3): [drifted("concept", day(1))]})
    assert fired(Rule("one", (signal,), then="alert"), 3, evidence) == matches


def test_drift_in_both_directions_counts() -> None:
    assert fired(CONCEPT, 0, Evidence({day(0): [drifted("concept", day(0), excess=-2.0)]}))
    assert not fired(CONCEPT, 0, Evidence({day(0): [drifted("concept", None, excess=-0.9)]}))


def test_all_signals_have_to_hold_on_the_same_day() -> None:
    rule = Rule("both", (DriftSignal("data"), LossSignal("expected", 0.1)), then="alert", of_last=3)
    loss = {day(1): DayLoss(100, 0.7, expected=0.5, fallback=None)}
    assert not fired(rule, 2, Evidence({day(2): [drifted("data", day(2))]}, loss))
    assert fired(rule, 2, Evidence({day(1): [drifted("data", day(1))]}, loss))


@pytest.mark.parametrize(("by", "rows", "matches"), [(0.04, 20, True), (MARGIN, 20, False), (0.04, 19, False)])
def test_a_loss_matches_beyond_its_margin_on_enough_labels(by: float, rows: int, matches: bool) -> None:
    rule = Rule("worse", (LossSignal("fallback", margin=MARGIN),), then="alert")
    assert fired(rule, 0, losses({0: by}, rows)) == matches


def test_a_loss_with_nothing_to_compare_does_not_match() -> None:
    rule = Rule("worse", (LossSignal("fallback", margin=MARGIN),), then="alert")
    assert not fired(rule, 0, Evidence(losses={day(0): DayLoss(100, 0.9, expected=0.1, fallback=None)}))
    rule = Rule("worse", (LossSignal("expected", margin=MARGIN),), then="alert")
    assert fired(rule, 0, Evidence(losses={day(0): DayLoss(100, 0.9, expected=0.1, fallback=None)}))


def test_a_missing_publication_is_found_by_the_next_partition() -> None:
    rule = Rule("missing", (MissingPublication(),), then="alert", of_last=2)
    outcomes = each(rule, [0, 2, 3], Evidence(unpublished={day(1)}))
    assert [one.fired for one in outcomes] == [False, True, False]
    assert [match.day for match in outcomes[1].matches] == [day(1)]


# Windows


def test_enough_of_the_last_partitions_have_to_match() -> None:
    worse = dict.fromkeys((0, 1, 3, 4), 0.05) | {2: 0.0, 5: 0.0}
    assert not fired(FIVE_OF_SEVEN, 6, losses(worse | {6: MARGIN}))
    outcome = evaluate(FIVE_OF_SEVEN, day(6), losses(worse | {6: 0.05}), Past())
    assert outcome.fired
    assert [match.day for match in outcome.matches] == [day(n) for n in (0, 1, 3, 4, 6)]
    assert outcome.matches[0].observations[0].numbers == {
        "log_loss": 0.55, "fallback": 0.5, "difference": pytest.approx(0.05), "margin": MARGIN
    }  # fmt: skip
    # The first of them has left the window.
    assert not fired(FIVE_OF_SEVEN, 7, losses(worse | {6: 0.05}))


def test_days_after_the_partition_are_not_seen() -> None:
    assert not fired(FIVE_OF_SEVEN, 3, losses(dict.fromkeys(range(10), 0.05)))


def test_the_largest_observations_are_kept_and_the_others_counted() -> None:
    rows = [drifted("concept", day(0), excess=1 + n, column=f"carrier={n}") for n in range(1, 9)]
    (match,) = evaluate(CONCEPT, day(0), Evidence({day(0): rows}), Past()).matches
    assert [one.numbers["excess"] for one in match.observations] == [9.0, 8.0, 7.0, 6.0, 5.0]
    assert match.further == 3


# What begins, and what follows


def test_a_rule_that_goes_on_firing_begins_once_and_keeps_its_beginning() -> None:
    rows = {day(n): [drifted("concept", day(1))] for n in (1, 2, 3, 5)}
    outcomes = each(CONCEPT, range(6), Evidence(rows))
    assert [one.since for one in outcomes] == [None, day(1), day(1), day(1), None, day(5)]
    assert [one.began for one in outcomes] == [False, True, False, False, False, True]
    assert [one.acted for one in outcomes] == [one.began for one in outcomes]
    assert (outcomes[0].effect, outcomes[2].effect) == ("", f"goes on since {day(1)}")


def test_a_hold_acts_as_long_as_it_fires() -> None:
    rule = Rule("hold", (DriftSignal("concept"),), then="hold")
    outcomes = each(rule, range(4), Evidence({day(n): [drifted("concept", day(1))] for n in (1, 2)}))
    assert [one.acted for one in outcomes] == [False, True, True, False]


def test_a_fallback_does_not_follow_again_while_the_rule_goes_on_firing() -> None:
    """Also not if a further column begins to drift."""
    rule = Rule("kill", (DriftSignal("concept"),), then="fallback")
    further = [drifted("concept", day(0)), drifted("concept", day(1), column="carrier=DL")]
    evidence = Evidence({day(0): [drifted("concept", day(0))], day(1): further, day(3): [drifted("concept", day(3))]})
    outcomes = each(rule, range(4), evidence)
    assert [one.acted for one in outcomes] == [True, False, False, True]
    assert [one.began for one in outcomes] == [True, True, False, True]


def test_a_search_is_requested_at_most_once_in_seven_partitions() -> None:
    rule = Rule("search", (DriftSignal("label", new=True),), then="search")
    rows = {day(n): [drifted("label", day(n), column=f"label {n}")] for n in range(0, 15, 3)}
    outcomes = each(rule, range(15), Evidence(rows))
    assert [n for n, one in enumerate(outcomes) if one.began] == [0, 3, 6, 9, 12]
    assert [n for n, one in enumerate(outcomes) if one.acted] == [0, 9]
    assert str(day(0)) in outcomes[6].effect


def test_two_rules_request_one_search() -> None:
    searched = Past(searched=day(0))
    assert following(searched, day(5), []).searched == day(0)
    assert following(searched, day(6), []).searched is None


@pytest.mark.parametrize("then", ["alert", "search", "hold", "fallback"])
def test_a_rule_that_does_not_fire_has_no_effect(then: Action) -> None:
    outcome = evaluate(Rule("none", (DriftSignal("label"),), then=then), FIRST, Evidence(), Past({"none": FIRST}))
    assert (outcome.fired, outcome.began, outcome.acted, outcome.effect, outcome.since) == (
        False,
        False,
        False,
        "",
        None,
    )
