"""The first page: every use case that the user may read, each in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from nightshift.core.monitoring.overview import Night, phase
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.io.warehouse.reader import Reader, reading
from nightshift.services.overview import newest_delivered, recent_nights, stage_statuses
from nightshift.settings import load_settings

NIGHTS = 30
TONES = {"published": "good", "under way": "busy", "rejected": "bad", "overdue": "bad"}


@dataclass(frozen=True)
class Line:
    """A use case in one line. `phase`: of the newest delivered partition, or "" if nothing is delivered."""

    use_case: UseCase
    newest: Night | None
    delivered: date | None
    phase: str
    log_loss: float | None
    fallback: float | None
    drifted: int

    @property
    def tone(self) -> str:
        """The class of the phase in app.css."""
        return TONES.get(self.phase, "")


def lines(store: ArtifactStore, use_cases: Sequence[UseCase], now: datetime) -> list[Line]:
    """A line for each use case, in their order."""
    with reading(load_settings(), use_cases[0]) as reader:
        recorded = [_recorded(reader.of(one)) for one in use_cases]

    def line(item: tuple[UseCase, tuple[list[Night], int]]) -> Line:
        use_case, (nights, drifted) = item
        return _line(store, use_case, nights, drifted, now)

    return in_parallel(line, zip(use_cases, recorded, strict=True))


def _recorded(reader: Reader) -> tuple[list[Night], int]:
    """The newest nights, and how many columns have drifted in the newest checked partition."""
    if not reader.has("drift_daily"):
        return [], 0
    (drifted,) = reader.rows(
        "SELECT count(*) AS columns FROM {drift_daily} WHERE drifted "
        "AND partition = (SELECT max(partition) FROM {drift_daily})"
    )
    return recent_nights(reader, NIGHTS), drifted["columns"]


def _line(store: ArtifactStore, use_case: UseCase, nights: Sequence[Night], drifted: int, now: datetime) -> Line:
    published = {one.partition for one in nights}
    delivered = newest_delivered(store, use_case)
    found = ""
    if delivered is not None:
        stages = stage_statuses(store, use_case, [delivered], published)[delivered]
        found = phase(delivered in published, stages, now)
    known = [one for one in nights if one.log_loss is not None]
    return Line(
        use_case,
        nights[0] if nights else None,
        delivered,
        found,
        _mean([(one.log_loss, one.rows) for one in known]),
        _mean([(one.fallback_log_loss, one.rows) for one in known]),
        drifted,
    )


def _mean(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else None
