"""Alerts recorded in a real warehouse and sent to real HTTP receivers: at least once, and never twice for one cause."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import SecretStr

from nightshift import cli
from nightshift.artifact import Decision
from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.errors import PredictionsOverdue, WarehouseUnavailable
from nightshift.io import alerts as receivers
from nightshift.io.warehouse import schema
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.services import alerts
from nightshift.services.alerts import raise_alert, send_unsent
from nightshift.services.watchdog import check_publication
from nightshift.settings import Settings
from support.desk import D, Desk, begin, days_after
from support.errors import raises_code
from support.receiver import SECRET, Receiver, receiving, with_receivers

DRIFT = Alert(D, "drift", "hours drifted")
NOBODY_LISTENS = "postgresql://nobody@127.0.0.1:1/warehouse"


def rows(warehouse: Warehouse) -> list[dict[str, Any]]:
    query = sql.SQL("SELECT * FROM {} ORDER BY alert_id").format(warehouse.table("alerts"))
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def minutes_pass(warehouse: Warehouse, minutes: int) -> None:
    """Move what was tried and sent into the past."""
    query = sql.SQL("UPDATE {} SET tried_at = tried_at - %(ago)s, sent_at = sent_at - %(ago)s")
    with warehouse.connection() as connection:
        connection.execute(query.format(warehouse.table("alerts")), {"ago": timedelta(minutes=minutes)})


@pytest.fixture
def alerting(settings: Settings, receiver: Receiver) -> Settings:
    return with_receivers(settings, receiver)


def test_a_cause_is_sent_once(alerting: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver) -> None:
    for _ in range(2):
        raise_alert(alerting, use_case, DRIFT)
        minutes_pass(warehouse, 60)
    raise_alert(alerting, use_case, Alert(D, "failed:ingest", "ingest failed"))
    title = f"Nightshift, {use_case.name}: 1 alert"
    assert receiver.received == [(title, "hours drifted"), (title, "ingest failed")]
    assert [(row["attempts"], row["error"], row["sent_at"] is not None) for row in rows(warehouse)] == [
        (1, "", True)
    ] * 2


def test_a_cause_without_a_partition_is_sent_once(
    alerting: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    for _ in range(2):
        raise_alert(alerting, use_case, Alert(None, "failed:reproduce:run-7", "reproduce failed"))
        minutes_pass(warehouse, 60)
    assert len(receiver.received) == len(rows(warehouse)) == 1


def test_what_a_receiver_rejects_is_sent_later_in_one_message(
    alerting: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    receiver.up = False
    for number in range(60):
        raise_alert(alerting, use_case, Alert(days_after(number), "failed:ingest", f"ingest of {number} failed"))
    # Sixty callers do not wait for a receiver that does not answer.
    assert receiver.refused == 1
    assert {row["error"] for row in rows(warehouse) if row["attempts"]} == {"JSON"}
    receiver.up = True
    minutes_pass(warehouse, 2)
    for _ in range(2):
        send_unsent(alerting, use_case, warehouse)
    assert receiver.received == [
        (
            f"Nightshift, {use_case.name}: 60 alerts",
            f"ingest of 59 failed (and 59 more of {days_after(0)} to {days_after(59)})",
        )
    ]
    assert all(row["sent_at"] for row in rows(warehouse))


def test_partitions_that_fail_in_a_row_are_two_messages(
    alerting: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    for number in range(60):
        raise_alert(alerting, use_case, Alert(days_after(number), "failed:ingest", f"ingest of {number} failed"))
        if number == 0:
            minutes_pass(warehouse, 2)
    assert receiver.lines == ["ingest of 0 failed"]
    minutes_pass(warehouse, 14)
    send_unsent(alerting, use_case, warehouse)
    assert receiver.lines[1:] == [f"ingest of 59 failed (and 58 more of {days_after(1)} to {days_after(59)})"]


def test_one_receiver_that_is_down_does_not_repeat_the_message_to_the_other(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    with receiving() as other:
        both = with_receivers(settings, receiver, other)
        other.up = False
        raise_alert(both, use_case, DRIFT)
        assert [row["sent_at"] for row in rows(warehouse)] == [None]
        other.up = True
        minutes_pass(warehouse, 2)
        for _ in range(2):
            send_unsent(both, use_case, warehouse)
        assert len(receiver.received) == len(other.received) == 1
    assert [(row["attempts"], row["error"]) for row in rows(warehouse)] == [(3, "")]


def test_what_one_receiver_accepted_is_recorded_before_the_next_is_sent_it(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the transaction while the second receiver takes its time."""
    with receiving() as other:
        both = with_receivers(settings, receiver, other)
        warehouse.record_alert(DRIFT)
        # The first receiver is in time: Apprise is loaded before.
        assert len(receivers.usable_receivers(both.alert_urls)) == 2
        other.seconds = 5
        with monkeypatch.context() as patch:
            patch.setattr(schema, "IDLE_SECONDS", 2)
            with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-005"):
                send_unsent(both, use_case, warehouse)
        assert [(row["sent_at"], len(row["accepted_by"])) for row in rows(warehouse)] == [(None, 1)]
        other.seconds = 0
        minutes_pass(warehouse, 2)
        for _ in range(2):
            send_unsent(both, use_case, warehouse)
        assert (len(receiver.received), len(other.received)) == (1, 2)
        assert rows(warehouse)[0]["sent_at"]


def test_a_receiver_that_never_ends_its_answer_keeps_nobody_waiting(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "SEND_SECONDS", 1)
    warehouse.record_alert(DRIFT)
    with receiving() as endless:
        endless.seconds = 40
        begun = time.monotonic()
        send_unsent(with_receivers(settings, endless, receiver), use_case, warehouse)
        assert time.monotonic() - begun < 20
        endless.seconds = 0
    assert receiver.lines == ["hours drifted"]
    assert [(row["attempts"], row["error"], row["sent_at"]) for row in rows(warehouse)] == [(2, "JSON", None)]


def test_headers_that_cannot_be_read_show_no_secret(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 0\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"json://127.0.0.1:{listening.getsockname()[1]}/{SECRET}"
        (one,) = receivers.usable_receivers(SecretStr(url))
        caplog.set_level(logging.DEBUG)
        one.send("title", "text")
        answering.join()
    assert SECRET not in caplog.text


def test_an_alert_counts_as_sent_once_a_receiver_that_did_not_accept_it_is_taken_away(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    with receiving() as other:
        other.up = False
        raise_alert(with_receivers(settings, receiver, other), use_case, DRIFT)
    minutes_pass(warehouse, 2)
    send_unsent(with_receivers(settings, receiver), use_case, warehouse)
    assert len(receiver.received) == 1
    assert [(row["error"], row["sent_at"] is not None) for row in rows(warehouse)] == [("", True)]


def test_without_receivers_alerts_wait_for_one(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    raise_alert(settings, use_case, DRIFT)
    assert [(row["attempts"], row["sent_at"]) for row in rows(warehouse)] == [(0, None)]
    send_unsent(with_receivers(settings, receiver), use_case, warehouse)
    assert receiver.lines == ["hours drifted"]


def test_eight_at_once_send_each_cause_once(
    settings: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver
) -> None:
    warehouse.migrate()
    with receiving() as other, ThreadPoolExecutor(8) as pool:
        both = with_receivers(settings, receiver, other)
        receiver.seconds = other.seconds = 0.3
        list(pool.map(lambda n: raise_alert(both, use_case, Alert(D, f"cause:{n % 4}", f"number {n % 4}")), range(8)))
        minutes_pass(warehouse, 2)
        send_unsent(both, use_case, warehouse)
        assert sorted(receiver.lines) == sorted(other.lines) == [f"number {n}" for n in range(4)]


def test_a_process_that_ends_while_it_sends_leaves_the_alert_unsent(
    alerting: Settings, use_case: UseCase, warehouse: Warehouse, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.record_alert(DRIFT)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "digest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            send_unsent(alerting, use_case, warehouse)
    send_unsent(alerting, use_case, warehouse)
    assert receiver.lines == ["hours drifted"]


def test_without_a_warehouse_an_alert_is_sent_unrecorded(
    alerting: Settings, use_case: UseCase, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    down = alerting.model_copy(update={"warehouse_url": SecretStr(NOBODY_LISTENS)})
    raise_alert(down, use_case, DRIFT)
    ((_, text),) = receiver.received
    assert text.startswith("hours drifted\nNot recorded: NS-WAREHOUSE-")
    assert SECRET not in caplog.text


# The decision and its alert


def test_a_decision_whose_process_ends_before_sending_is_sent_by_the_next(desk: Desk, receiver: Receiver) -> None:
    """The alert is in the transaction of the decision."""
    begin(desk)
    desk.decide(D, "killed", desk.use_case.champion)
    assert receiver.received == []
    send_unsent(with_receivers(desk.settings, receiver), desk.use_case, desk.warehouse)
    assert receiver.lines[-1].startswith(f"the kill switch is on after partition {D}")
    assert len(receiver.received) == 1


# The watchdog


def end(desk: Desk, partition: date, *steps: str) -> None:
    """Leave results of these steps; by default of promote and check_drift."""
    for step in steps or ("advance", "apply_rules"):
        desk.store.commit(use_case=desk.use_case.name, step=step, partition=partition, kind="result", files={})


def at(desk: Desk, partition: date, minutes: int = 0) -> datetime:
    return desk.use_case.deadline_of(partition) + timedelta(minutes=minutes)


def test_a_published_partition_is_not_overdue(desk: Desk, receiver: Receiver) -> None:
    settings = with_receivers(desk.settings, receiver)
    begin(desk)
    desk.night(D)
    send_unsent(settings, desk.use_case, desk.warehouse)
    before = len(receiver.received)
    assert check_publication(desk.use_case, settings, desk.store, at(desk, D)) == D
    assert check_publication(desk.use_case, settings, desk.store, at(desk, days_after(1), -1)) == D
    assert len(receiver.received) == before


def test_an_overdue_partition_is_alerted_once_with_what_the_stages_decided(desk: Desk, receiver: Receiver) -> None:
    settings = with_receivers(desk.settings, receiver)
    begin(desk)
    desk.night(D)
    send_unsent(settings, desk.use_case, desk.warehouse)
    before, one = len(receiver.lines), days_after(1)
    end(desk, D)
    desk.store.decide(desk.use_case.name, "publish", one, Decision(status="rejected", reason="no bookings"))
    for minutes in (0, 30):
        with raises_code(PredictionsOverdue, "NS-ALERT-002", one):
            check_publication(desk.use_case, settings, desk.store, at(desk, one, minutes))
        minutes_pass(desk.warehouse, 60)
    (message,) = receiver.lines[before:]
    assert f"no predictions of partition {one}, for {days_after(2)}" in message
    assert "ingest: rejected (no bookings), materialize: not decided, predict: not decided" in message
    assert f"The newest publication is of {D}" in message


def test_stages_without_a_result_are_alerted_once_as_their_callback_would(desk: Desk, receiver: Receiver) -> None:
    settings = with_receivers(desk.settings, receiver)
    begin(desk)
    for number in range(4):
        desk.night(days_after(number))
    send_unsent(settings, desk.use_case, desk.warehouse)
    before = len(receiver.lines)
    # Of D both stages failed, and the callback of promote came; of D + 1 one did; D + 2 is whole; D + 3 is under way.
    raise_alert(settings, desk.use_case, Alert(D, "failed:promote", "promote failed"))
    end(desk, days_after(1), "advance")
    end(desk, days_after(2))
    desk.store.decide(
        desk.use_case.name, "apply_rules", days_after(1), Decision(status="rejected", reason="no champion")
    )
    for minutes in (0, 30):
        assert check_publication(desk.use_case, settings, desk.store, at(desk, days_after(3), minutes)) == days_after(3)
        minutes_pass(desk.warehouse, 60)
    found = [(row["partition"], row["cause"]) for row in rows(desk.warehouse) if row["cause"].startswith("failed:")]
    assert found == [(D, "failed:promote"), (D, "failed:check_drift"), (days_after(1), "failed:check_drift")]
    name = desk.use_case.name
    why = f"check_drift of {days_after(1)} has left no result (no champion): look at the run of {name}.check_drift"
    assert receiver.lines[before:] == ["promote failed", f"{why} (and 1 more of {D} to {days_after(1)})"]


def test_the_watchdog_does_without_the_object_store(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightshift.io.artifact_store import ArtifactStore

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    settings = with_receivers(desk.settings, receiver)
    with raises_code(PredictionsOverdue, "NS-ALERT-002"):
        check_publication(desk.use_case, settings, ArtifactStore(settings), at(desk, D))
    assert "what the stages decided cannot be read (NS-STORE-" in receiver.lines[-1]


def test_the_command_exits_with_one_and_alerts(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.use_case = replace(desk.use_case, last_partition=None)
    monkeypatch.setattr(cli, "load_use_case", lambda _: desk.use_case)
    monkeypatch.setattr("nightshift.services.watchdog.check_loadable", lambda _: None)
    use = lambda settings: monkeypatch.setattr(cli, "_adopt_local_stack", lambda: (settings, desk.store))  # noqa: E731
    use(with_receivers(desk.settings, receiver))
    yesterday = desk.use_case.due_partition(datetime.now(UTC))
    assert cli.main(["watchdog", desk.use_case.name]) == 1
    assert f"no predictions of partition {yesterday}" in receiver.lines[-1]
    assert "NS-ALERT-002" in capsys.readouterr().err
    down = with_receivers(desk.settings, receiver).model_copy(update={"warehouse_url": SecretStr(NOBODY_LISTENS)})
    use(down)
    assert cli.main(["watchdog", desk.use_case.name]) == 1
    assert f"whether the predictions of partition {yesterday} are published is unknown" in receiver.received[-1][1]
    with raises_code(WarehouseUnavailable, "NS-WAREHOUSE-003"):
        check_publication(desk.use_case, down, desk.store, datetime.now(UTC))


def test_a_use_case_that_cannot_be_loaded_is_alerted(
    desk: Desk,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "include" / tmp_path.name / "use_case.py"
    file.parent.mkdir(parents=True)
    file.write_text("USE_CASE = UseCase(titel='')\n")
    settings = with_receivers(desk.settings, receiver)
    monkeypatch.setattr(cli, "_adopt_local_stack", lambda: (settings, desk.store))
    monkeypatch.setattr(cli, "all_use_cases", lambda: [desk.use_case])
    assert cli.main(["watchdog"]) == 0
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(tmp_path))
    for arguments in (["watchdog"], ["watchdog", tmp_path.name]):
        receiver.received.clear()
        assert cli.main(arguments) == 1
        assert f"{file}, line 1: NameError" in receiver.received[-1][1]
        assert "NS-USECASE-011" in capsys.readouterr().err
