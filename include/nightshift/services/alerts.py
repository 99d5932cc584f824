"""Alerts to people: recorded in the warehouse, then sent to every receiver, each cause of a partition once.

What could not be sent stays unsent and is sent by the next caller, so a receiver that does not answer fails nothing. A
message is sent twice only if the receiver accepts it too late, or the process ends before its answer is committed.
"""

from __future__ import annotations

import logging

from nightshift.core.monitoring.alerts import Alert, digest
from nightshift.declare.use_case import UseCase
from nightshift.errors import NightshiftError
from nightshift.io.alerts import usable_receivers
from nightshift.io.warehouse import alerts as recorded_alerts
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings

log = logging.getLogger(__name__)


def send_unsent(settings: Settings, use_case: UseCase, warehouse: Warehouse) -> None:
    """Send the alerts that are still to be sent, to each receiver in one message. Raises WarehouseUnavailable.

    What a receiver answers is committed before the next one is sent its message. Without receivers nothing is sent,
    and the alerts stay unsent.
    """
    if settings.alert_urls is None:
        return
    with warehouse.connection() as connection:
        unsent = recorded_alerts.find_unsent(connection, use_case)
        # Apprise takes seconds to load: not without need.
        receivers = usable_receivers(settings.alert_urls) if unsent else []
        if not receivers:
            return
        failed: dict[int, list[str]] = {number: [] for number in unsent}
        for receiver in receivers:
            due = recorded_alerts.take_unsent(connection, use_case, unsent, receiver.receiver_id)
            accepted = bool(due) and receiver.send(*digest(use_case.name, list(due.values())))
            for number in due:
                failed[number] += [] if accepted else [receiver.kind]
                accepted_by = [receiver.receiver_id] if accepted else []
                recorded_alerts.record_attempt(connection, use_case, number, accepted_by, failed[number])
            connection.commit()
        recorded_alerts.record_sent(connection, use_case, unsent, [one.receiver_id for one in receivers])


def raise_alert(settings: Settings, use_case: UseCase, *alerts: Alert) -> None:
    """Log and record alerts, unless their cause is recorded for the partition, and send what is unsent.

    If the warehouse cannot be used, they are sent without a record. Raises nothing that is not a defect.
    """
    for alert in alerts:
        log.warning("%s: %s", use_case.name, alert.message)
    warehouse = Warehouse(settings, use_case)
    try:
        warehouse.record_alert(*alerts)
    except NightshiftError as error:
        log.error("not recorded, and sent once: %s", error)
        title, text = digest(use_case.name, alerts)
        for receiver in usable_receivers(settings.alert_urls):
            receiver.send(title, f"{text}\nNot recorded: {error}")
        return
    try:
        send_unsent(settings, use_case, warehouse)
    except NightshiftError as error:
        log.error("recorded, and not sent yet: %s", error)
