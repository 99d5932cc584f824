"""Are the predictions published at the deadline? It reads the warehouse, depends on no stage, and starts none."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from nightshift.core.monitoring.alerts import Alert
from nightshift.declare.use_case import UseCase
from nightshift.errors import NightshiftError, PredictionsOverdue
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.pipeline import find_stage
from nightshift.services.alerts import raise_alert, send_unsent
from nightshift.settings import Settings

CAUSE = "overdue"
"""The cause of its alert."""

TO_PREDICTIONS = ("ingest", "materialize", "predict")
"""The stages on the way to predictions, in their order."""


def check_publication(use_case: UseCase, settings: Settings, store: ArtifactStore, now: datetime) -> date | None:
    """The partition whose deadline passed last, if its predictions are published; None if none is due at `now`.

    Alerts that are still to be sent are sent. Raises PredictionsOverdue if there is no publication, after recording and
    sending an alert that says what each stage decided, where the object store answers; and WarehouseUnavailable.
    """
    due = use_case.due_partition(now)
    warehouse = Warehouse(settings, use_case)
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


def alert_of_unknown(use_case: UseCase, settings: Settings, error: NightshiftError, now: datetime) -> None:
    """Send an alert that the check itself failed, with the cause of an overdue publication."""
    due = use_case.due_partition(now)
    message = f"whether the predictions of partition {due} are published is unknown: {error}"
    if due is None:
        message = f"no predictions are due, and the warehouse cannot be read: {error}"
    raise_alert(settings, use_case, Alert(due, CAUSE if due else f"{CAUSE}:{now.isoformat()}", message))


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
