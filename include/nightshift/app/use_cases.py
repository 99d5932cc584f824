"""The first page: every use case that the user may read, each in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from nightshift.core.monitoring.overview import Night, phase
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore, in_parallel
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
    delivered = in_parallel(lambda one: newest_delivered(store, one), use_cases)
    result = []
    for use_case, day in zip(use_cases, delivered, strict=True):
        with reading(load_settings(), use_case) as reader:
            result.append(_line(store, reader, day, now))
    return result


def _line(store: ArtifactStore, reader: Reader, delivered: date | None, now: datetime) -> Line:
    use_case = reader.use_case
    known = reader.has("drift_daily")
    nights = recent_nights(reader, NIGHTS) if known else []
    published = {one.partition for one in nights}
    found = ""
    if delivered is not None:
        stages = stage_statuses(store, use_case, [delivered], published)[delivered]
        found = phase(delivered in published, stages, now)
    drifted = 0
    if known:
        query = (
            "SELECT count(*) AS n FROM {drift_daily} WHERE drifted "
            "AND partition = (SELECT max(partition) FROM {drift_daily})"
        )
        drifted = reader.rows(query)[0]["n"]
    pairs = [(one.log_loss, one.fallback_log_loss, one.rows) for one in nights if one.log_loss is not None]
    return Line(
        use_case,
        nights[0] if nights else None,
        delivered,
        found,
        _mean([(loss, rows) for loss, _, rows in pairs]),
        _mean([(fallback, rows) for _, fallback, rows in pairs]),
        drifted,
    )


def _mean(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else None
