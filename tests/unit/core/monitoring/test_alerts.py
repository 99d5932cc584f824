"""What alerts about decisions say, and how many alerts make one message."""

from datetime import date, timedelta

import pytest

from nightshift.core.monitoring.alerts import SHOWN, Alert, decision_alert, digest
from nightshift.deployment import Deployment

D = date(2020, 3, 20)


def decision(action, **fields):
    return Deployment(partition=D, action=action, role="champion", spec_id="trees-0", decided_by="hand:ann", **fields)


@pytest.mark.parametrize(
    ("decided", "killed", "text"),
    [
        (decision("promoted", replaces="linear-0", reason={"why": "better"}), False,
         "trees-0 is champion after partition 2020-03-20, in place of linear-0. Decided by hand:ann: better"),
        (decision("rolled_back", replaces="linear-0", reason={"why": "harm"}), True,
         "trees-0 is champion again after partition 2020-03-20, in place of linear-0. The kill switch is on: the "
         "fallback goes on serving. Decided by hand:ann: harm"),
        (decision("killed", reason={"why": "near zero"}), True,
         "the kill switch is on after partition 2020-03-20: the fallback serves. Decided by hand:ann: near zero"),
        (decision("retired", model_version="2020-03-19-0", reason={"why": "wrong weather"}), False,
         "2020-03-19-0 is retired after partition 2020-03-20. Decided by hand:ann: wrong weather"),
        (decision("rejected", reason={"gates": {"parity": "pass: ", "change": "fail: 0.3 over 0.1"}}), False,
         "the version of trees-0 trained by partition 2020-03-20 failed a version gate; the newest that passed is "
         "used. Decided by hand:ann: change fail: 0.3 over 0.1"),
    ],
)  # fmt: skip
def test_a_decision_says_what_changes_who_decided_and_why(decided, killed, text):
    assert decision_alert(decided, 7, killed=killed) == Alert(D, f"{decided.action}:7", text)


def test_rejections_in_a_row_by_the_same_gates_are_one_alert_in_seven():
    days = [D + timedelta(days=n) for n in range(16)]
    failing = dict.fromkeys(days, "constant_rate") | {days[9]: "parity"}
    trained = [
        decision("rejected", reason={"gates": {failing[day]: "fail: by 0.001", "leakage": "pass: "}}).model_copy(
            update={"partition": day}
        )
        for day in days
    ]
    alerts = [decision_alert(one, n, killed=False, recorded=trained[: n + 1]) for n, one in enumerate(trained)]
    assert [n for n, alert in enumerate(alerts) if alert] == [0, 7, 9, 10]
    assert "failed a version gate (8 partitions in a row); the newest that passed is used" in alerts[7].message
    # Another spec, and a version that passed, begin a new row.
    other = [one.model_copy(update={"spec_id": "linear-0"}) for one in trained[:3]]
    assert decision_alert(trained[3], 3, killed=False, recorded=other) is not None
    passed = [*trained[:2], trained[2].model_copy(update={"action": "registered"})]
    assert decision_alert(trained[3], 3, killed=False, recorded=passed) is not None


@pytest.mark.parametrize("action", ["registered", "shadow", "canary", "confirmed", "held", "failed"])
def test_other_decisions_are_no_alerts(action):
    assert decision_alert(decision(action), 7, killed=False) is None


def test_one_alert_is_its_message():
    assert digest("parcels", [Alert(D, "drift", "hours drifted")]) == ("Nightshift, parcels: 1 alert", "hours drifted")


def test_sixty_partitions_with_one_cause_are_one_line():
    days = [date.fromordinal(D.toordinal() + n) for n in range(60)]
    title, text = digest("parcels", [Alert(day, "failed:ingest", f"ingest of {day} failed") for day in days])
    assert title == "Nightshift, parcels: 60 alerts"
    assert text == "ingest of 2020-05-18 failed (and 59 more of 2020-03-20 to 2020-05-18)"


def test_causes_are_lines_in_the_order_they_came_and_too_many_are_counted():
    alerts = [Alert(None if n else D, f"cause:{n}", f"number {n}") for n in range(SHOWN + 3)]
    lines = digest("parcels", alerts)[1].splitlines()
    assert lines == [*(f"number {n}" for n in range(SHOWN)), "and 3 other causes, see the table parcels.alerts"]
