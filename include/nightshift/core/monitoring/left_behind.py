"""What a night lists for a person: deliveries that changed after they were landed, and outdated features."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date

from nightshift.core.monitoring.alerts import Alert
from nightshift.core.monitoring.overview import Problem
from nightshift.documents.ingest import CatchUp

FILES_NAMED = 5
SHOWN_DIGITS = 12


@dataclass(frozen=True)
class LeftBehind:
    """A problem of a partition, and the cause of its alert: another one if the delivery changes once more."""

    partition: date
    cause: str
    problem: Problem

    @property
    def alert(self) -> Alert:
        """The alert about it, one for the partition and cause."""
        return Alert(self.partition, self.cause, f"{self.problem.what}: {self.problem.advice}")


def left_behind(use_case: str, document: CatchUp) -> list[LeftBehind]:
    """What a CatchUp leaves to a person, the newest partition first; of outdated features, one for what they lack."""
    backfill = f"backfill {use_case}.ingest"
    found = []
    for day, files in document.changed.items():
        named = ", ".join(files[:FILES_NAMED]) + (f" and {len(files) - FILES_NAMED} more" * (len(files) > FILES_NAMED))
        what = f"the delivery of {day} changed after it was landed ({named})"
        advice = f"{backfill} for it, with all runs, to take it as it is now"
        cause = f"changed_delivery:{document.changed_to.get(day, '')[:SHOWN_DIGITS]}"
        found.append(LeftBehind(day, cause, Problem(what, advice, f"night/{day}")))
    by_lack: dict[date, list[date]] = defaultdict(list)
    for day, lacks in document.outdated.items():
        for lack in lacks:
            by_lack[lack].append(day)
    for lack, days in by_lack.items():
        first, last = min(days), max(days)
        where = f"of {first}" if first == last else f"of {len(days)} partitions from {first} to {last}"
        what = f"the features {where} were built before {lack} was published as it is now"
        advice = f"{backfill} from {first} to {last}, with all runs, to predict again with it"
        found.append(LeftBehind(lack, "outdated_features", Problem(what, advice, f"night/{last}")))
    return sorted(found, key=lambda one: one.partition, reverse=True)
