"""A table for users with one row per partition, from the warehouse, the manifests and Airflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import LiteralString, TypeVar

from psycopg import sql
from psycopg.rows import class_row

from nightshift.core.lifecycle.state import STEP_ORDER
from nightshift.declare.use_case import UseCase
from nightshift.deployment import VERSION_ACTIONS, Deployment
from nightshift.documents.check_drift import DriftKind
from nightshift.documents.predict import Calibration
from nightshift.errors import NightshiftError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.publications import Publication
from nightshift.io.warehouse.schema import column_list
from nightshift.io.warehouse.warehouse import TRAINING, Warehouse
from nightshift.pipeline import NIGHTLY
from nightshift.settings import load_settings

NOT_KNOWN = "-"
OVERALL: LiteralString = "role = 'published' AND slice_column = ''"
R = TypeVar("R", "_Performance", "_Drift")


@dataclass(frozen=True)
class _Performance:
    """A row of performance_daily."""

    prediction_date: date
    rows: int
    log_loss: float


@dataclass(frozen=True)
class _Drift:
    """A row of drift_daily."""

    partition: date
    drift: DriftKind
    drifted: bool


def summarise(use_case: UseCase, first: date | None = None, last: date | None = None) -> str:
    """A table of the partitions that were published, from `first` to `last` (default: all)."""
    settings = load_settings()
    store, warehouse = ArtifactStore(settings), Warehouse(settings, use_case)
    first, last = first or date.min, last or date.max
    published = warehouse.publications(first, last)
    if not published:
        return f"No partition of {use_case.name} has been published yet: run `make demo`, or {use_case.name}.ingest."
    decisions = warehouse.decisions()
    performance = _rows(warehouse, "performance_daily", _Performance, first, last, OVERALL)
    drift = _rows(warehouse, "drift_daily", _Drift, first, last)
    seconds = _seconds(use_case)
    lines = []
    for row in published:
        partition = row.partition
        decided = [one for one in decisions if one.partition == partition]
        lines.append(
            {
                "partition": str(partition),
                "predictions for": str(row.prediction_date),
                "published": f"{row.rows:,}",
                "quarantined": _quarantined(store, use_case, partition),
                "spec": row.spec_id + (" (fallback)" if row.role == "fallback" else ""),
                "version": row.model_version,
                "days old": str((partition - date.fromisoformat(row.model_version[:10])).days),
                "intercept": _intercept(store, row),
                "log loss": _log_loss([one for one in performance if one.prediction_date == row.prediction_date]),
                "training": _trained([one for one in decided if one.decided_by in TRAINING]),
                "decisions": _decided([one for one in decided if one.action not in VERSION_ACTIONS]),
                "drift": _verdict([one for one in drift if one.partition == partition]),
                "seconds": seconds.get(partition.isoformat(), NOT_KNOWN),
            }
        )
    return f"{use_case.title}\n\n{table(lines)}"


def table(lines: Sequence[Mapping[str, str]]) -> str:
    """The lines as a text table: columns as wide as their longest cell, numbers right-aligned."""
    headings = list(lines[0])
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) for name in headings}
    numbers = {name for name in headings if all(_is_number(line[name]) for line in lines)}

    def row(cells: Mapping[str, str]) -> str:
        padded = (cells[n].rjust(widths[n]) if n in numbers else cells[n].ljust(widths[n]) for n in headings)
        return "  ".join(padded).rstrip()

    rules = {name: "-" * width for name, width in widths.items()}
    return "\n".join(map(row, [{name: name for name in headings}, rules, *lines]))


def _is_number(cell: str) -> bool:
    return cell == NOT_KNOWN or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def _rows(
    warehouse: Warehouse, name: str, kind: type[R], first: date, last: date, condition: LiteralString = "true"
) -> list[R]:
    columns = column_list(field.name for field in fields(kind))
    query = sql.SQL("SELECT {} FROM {} WHERE partition BETWEEN %s AND %s AND {} ORDER BY partition").format(
        columns, warehouse.table(name), sql.SQL(condition)
    )
    with warehouse.connection() as connection, connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, [first, last]).fetchall()


def _quarantined(store: ArtifactStore, use_case: UseCase, partition: date) -> str:
    decision = store.decision(use_case.name, "publish", partition)
    if decision is None or decision.ref is None:
        return NOT_KNOWN
    quarantined = store.manifest(decision.ref).metrics.get("quarantined_rows")
    return NOT_KNOWN if quarantined is None else str(_total(quarantined))


def _total(value: int | Mapping[str, int]) -> int:
    """The sum of a count, or of counts by feed."""
    return sum(map(_total, value.values())) if isinstance(value, Mapping) else int(value)


def _intercept(store: ArtifactStore, publication: Publication) -> str:
    """The calibration intercept (log odds) of the primary's spec."""
    calibration = store.read_document(publication.calibration, Calibration)
    return f"{calibration.specs[publication.spec_id].intercept:.3f}"


def _log_loss(published: Sequence[_Performance]) -> str:
    """Log loss of the published rows of a day over all versions; "-" until labels mature."""
    rows = sum(row.rows for row in published)
    return f"{sum(row.log_loss * row.rows for row in published) / rows:.4f}" if rows else NOT_KNOWN


def _trained(decisions: Sequence[Deployment]) -> str:
    """The last decision about each spec's version."""
    last = {one.spec_id: one.action for one in decisions if one.action in VERSION_ACTIONS}
    return "; ".join(f"{action} {spec_id}".strip() for spec_id, action in last.items()) or NOT_KNOWN


def _decided(decisions: Sequence[Deployment]) -> str:
    """Decisions about specs: the last one of each step, and each one by hand."""
    last: dict[object, Deployment] = {}
    for number, one in enumerate(decisions):
        by = one.decided_by
        # A backtest may nominate several specs; a review has one outcome.
        last[(by, one.spec_id if by == "nominate" else "") if by in STEP_ORDER else number] = one
    decided = [one for one in last.values() if one.action != "held"]
    texts = [f"{one.action.replace('_', ' ')} {one.spec_id or one.model_version}".strip() for one in decided]
    return "; ".join(texts) or NOT_KNOWN


def _verdict(rows: Sequence[_Drift]) -> str:
    """ "stable", or what drifted with the number of columns; "-" if nothing was judged."""
    if not rows:
        return NOT_KNOWN
    drifted = Counter(row.drift for row in rows if row.drifted)
    counts = [f"{kind} ({count})" for kind, count in sorted(drifted.items())]
    return f"drifted: {', '.join(counts)}" if counts else "stable"


def _seconds(use_case: UseCase) -> dict[str, str]:
    """Partition -> seconds from the start of its ingest to the end of its last DAG; {} without Airflow."""
    from nightshift.local.airflow_api import AirflowApi
    from nightshift.local.stack import Stack

    try:
        api = AirflowApi(Stack().environment())
        runs = [api.newest_runs(f"{use_case.name}.{stage}") for stage in NIGHTLY]
    except NightshiftError:
        # The other columns do not need Airflow.
        return {}
    seconds = {}
    for key in runs[0]:
        spans = [
            (run.start_date.timestamp(), run.start_date.timestamp() + run.duration)
            for by_key in runs
            if (run := by_key.get(key)) and run.start_date and run.duration is not None
        ]
        if len(spans) == len(NIGHTLY):
            seconds[key] = f"{max(end for _, end in spans) - min(start for start, _ in spans):.0f}"
    return seconds
