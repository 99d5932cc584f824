"""The rules for what needs a person, and the estimate of a loss before its labels."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from nightshift.core.monitoring.expected_loss import Estimate, estimates
from nightshift.core.monitoring.overview import (
    PATIENCE,
    StageStatus,
    missing_delivery,
    partition_problems,
    phase,
    rule_problems,
)
from nightshift.declare.discovery import load_use_case

NOW = datetime(2020, 3, 2, 8, 0, tzinfo=UTC)
DAY = date(2020, 3, 1)


def stages(
    predict: str | None = None, *, materialize: str | None = "published", hours_ago: float = 1.0, reason: str = ""
) -> list[StageStatus]:
    decided = NOW - timedelta(hours=hours_ago)
    return [
        StageStatus("ingest", "published", decided_at=decided - timedelta(hours=1)),
        StageStatus("materialize", materialize, decided_at=decided if materialize else None),
        StageStatus("predict", predict, reason, decided if predict else None),
    ]


def test_a_partition_is_under_way_until_retries_are_used_up() -> None:
    assert phase(False, stages(), NOW) == "under way"
    patience = PATIENCE.total_seconds() / 3600
    assert phase(False, stages(hours_ago=patience), NOW) == "under way"
    assert phase(False, stages(hours_ago=patience + 0.1), NOW) == "overdue"
    assert phase(True, stages("published", hours_ago=99), NOW) == "published"
    assert phase(False, [StageStatus("ingest", "published"), StageStatus("predict", None)], NOW) == "overdue"


def test_the_newest_decision_counts() -> None:
    late = stages(materialize=None, hours_ago=2.5)  # ingest was decided 3.5 hours ago
    assert phase(False, late, NOW) == "overdue"
    assert phase(False, stages(hours_ago=2.5), NOW) == "under way"


def test_a_rejection_is_never_under_way() -> None:
    assert phase(False, stages("rejected", reason="audit"), NOW) == "rejected"
    assert phase(True, stages("rejected"), NOW) == "rejected"


def test_problems_are_newest_first_and_overdue_partitions_are_one() -> None:
    days = [DAY + timedelta(days=n) for n in range(5)]
    found, under_way = partition_problems(
        "parcels",
        [days[0]],
        {
            days[0]: stages("published"),
            days[1]: stages(hours_ago=30),
            days[2]: stages(hours_ago=9),
            days[3]: stages("rejected", reason="mean score"),
            days[4]: stages(),
        },
        NOW,
    )
    assert under_way == [days[4]]
    assert [one.page for one in found] == [f"night/{days[3]}", f"night/{days[1]}"]
    assert "mean score" in found[0].what
    assert "parcels.predict" in found[0].advice
    assert found[1].what.startswith("2 partitions up to 2020-03-03")


def test_a_delivery_that_did_not_come_is_a_problem_unless_the_past_is_replayed() -> None:
    import dataclasses

    live = dataclasses.replace(load_use_case("flight_delay"), last_partition=None)
    cutoff = live.cutoff(DAY + timedelta(days=1))
    assert missing_delivery(live, DAY, cutoff + PATIENCE - timedelta(seconds=1)) == []
    (problem,) = missing_delivery(live, DAY, cutoff + PATIENCE)
    assert str(DAY + timedelta(days=1)) in problem.what
    replay = dataclasses.replace(live, last_partition=DAY)
    assert missing_delivery(replay, DAY, cutoff + timedelta(days=900)) == []


def test_an_estimate_has_a_band_of_its_own_past_errors() -> None:
    expected = [0.5] * 12
    observed: list[float | None] = [0.5 + (0.1 if n % 2 else -0.1) for n in range(11)] + [None]
    found = estimates(expected, observed)
    assert found[9] == Estimate(0.5, None, None)  # nine errors are too few
    last = found[11]
    assert (last.low, last.high) == (pytest.approx(0.4), pytest.approx(0.6))


def test_a_night_is_estimated_without_its_own_loss() -> None:
    expected = [0.5] * 12
    calm = estimates(expected, [0.5] * 12)
    harmed = estimates(expected, [0.5] * 11 + [3.0])
    assert calm[11] == harmed[11]
    assert estimates([None], [0.5]) == [Estimate(None, None, None)]


def test_rules_ask_for_a_search_or_say_that_promotions_are_held() -> None:
    row = {"rule": "losses", "fired": True, "acted": True, "since": DAY}
    days = [DAY + timedelta(days=n) for n in (1, 0)]
    rows = [row | {"partition": day, "action": action} for day in days for action in ("hold", "search", "alert")]
    found = [(one.what, one.page) for one in rule_problems("parcels", rows)]
    assert found == [
        (f"rule losses holds promotions since {DAY}", f"night/{days[0]}"),
        (f"rule losses requested a search on {days[0]}", f"night/{days[0]}"),
        (f"rule losses requested a search on {days[1]}", f"night/{days[1]}"),
    ]
    assert rule_problems("parcels", []) == []
