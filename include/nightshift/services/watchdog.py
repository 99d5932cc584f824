"""Are the predictions published at the deadline? It reads the warehouse, depends on no stage, and starts none."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from nightshift.core.monitoring.alerts import Alert, digest
from nightshift.declare.discovery import check_loadable
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, NightshiftError, PredictionsOverdue
from nightshift.io.alerts import usable_receivers
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.partitions import partition_range
from nightshift.pipeline import find_stage
from nightshift.services.alerts import raise_alert, send_unsent
from nightshift.settings import Settings

log = logging.getLogger(__name__)

CAUSE = "overdue"
"""The cause of its alert."""

TO_PREDICTIONS = ("ingest", "materialize", "predict")
"""The stages on the way to predictions, in their order."""

AFTER_PREDICTIONS = {"promote": "advance", "check_drift": "apply_rules"}
"""Nightly stages that reject no partition when they fail, and the step of each that has a status if it did not."""
DAYS = 7
"""Partitions before the one that is due whose stages are looked at."""


def check_publication(use_case: UseCase, settings: Settings, store: ArtifactStore, now: datetime) -> date | None:
    """The partition whose deadline passed last, if its predictions are published; None if none is due at `now`.

    Alerts that are still to be sent are sent, also those of failed runs of the stages in `AFTER_PREDICTIONS`, of the
    days before, whose callback was lost. Raises PredictionsOverdue if there is no publication, after recording and
    sending an alert that says what each stage decided, where the object store answers; and WarehouseUnavailable.
    """
    due = use_case.due_partition(now)
    warehouse = Warehouse(settings, use_case)
    for alert in _without_result(use_case, store, due) if due else []:
        warehouse.record_alert(alert)
    if due is None or warehouse.publications(due, due):
        send_unsent(settings, use_case, warehouse)
        return due
    newest = warehouse.latest_publication()
    zone = ZoneInfo(use_case.timezone)
    message = (
        f"no predictions of partition {due}, for {due + timedelta(days=1)}, are published at "
        f"{use_case.deadline_of(due).astimezone(zone):%Y-%m-%d %H:%M %Z}. {_statuses(use_case, store, due)}. "
        f"The newest publication is of {newest.partition if newest else 'no partition'}"
    )
    raise_alert(settings, use_case, Alert(due, CAUSE, message))
    raise PredictionsOverdue("NS-ALERT-002", f"{use_case.name}: {message}. Look at the first stage without a status.")


def check_use_cases(settings: Settings, names: Collection[str] = ()) -> None:
    """Raise ConfigurationError if a use case, or one of those named, cannot be loaded, after sending an alert.

    It has no DAGs then, so no run of it can fail. Without a declaration there is no table to record the alert in: it is
    sent with every check. Raises UnknownUseCase.
    """
    try:
        check_loadable(names)
    except ConfigurationError as error:
        message = f"none of their DAGs run, because these use cases cannot be loaded: {error}"
        for receiver in usable_receivers(settings.alert_urls):
            receiver.send(*digest("nightshift", [Alert(None, "broken", message)]))
        raise


def alert_of_unknown(use_case: UseCase, settings: Settings, error: NightshiftError, now: datetime) -> None:
    """Send an alert that the check itself failed, with the cause of an overdue publication."""
    due = use_case.due_partition(now)
    message = f"whether the predictions of partition {due} are published is unknown: {error}"
    if due is None:
        message = f"no predictions are due, and the warehouse cannot be read: {error}"
    raise_alert(settings, use_case, Alert(due, CAUSE if due else f"{CAUSE}:{now.isoformat()}", message))


def _without_result(use_case: UseCase, store: ArtifactStore, due: date) -> list[Alert]:
    """The alerts of stages that left no result of a partition before `due` that was predicted: failed, or never run.

    Their causes are those of the callbacks of failed runs, so each is sent once. Without an object store, none.
    """
    found = []
    window = partition_range(due - timedelta(days=DAYS), due - timedelta(days=1))
    try:
        predicted = store.decisions(use_case.name, find_stage("predict").decided_by, window)
        for stage, step in AFTER_PREDICTIONS.items():
            days = [day for day, one in predicted.items() if one is not None and one.published is not None]
            for day, status in store.decisions(use_case.name, step, days).items():
                if status is None or status.published is None:
                    why = f" ({status.reason})" if status and status.reason else ""
                    what = f"{stage} of {day} has left no result{why}: look at the run of {use_case.name}.{stage}"
                    found.append(Alert(day, f"failed:{stage}", what))
    except NightshiftError as error:
        log.error("%s: what the stages before %s left cannot be read: %s", use_case.name, due, error)
    return found


def _statuses(use_case: UseCase, store: ArtifactStore, partition: date) -> str:
    """What each stage on the way to predictions decided, as one line of text."""
    found = []
    try:
        for stage in TO_PREDICTIONS:
            status = store.decision(use_case.name, find_stage(stage).decided_by, partition)
            reason = f" ({status.reason})" if status is not None and status.reason else ""
            found.append(f"{stage}: {status.status if status else 'not decided'}{reason}")
    except NightshiftError as error:
        found.append(f"what the stages decided cannot be read ({error})")
    return ", ".join(found)
