"""What came of each night, for a person to read: one row a night, from the warehouse, the manifests and Airflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from nightshift.core.lifecycle.state import STEP_ORDER
from nightshift.errors import NightshiftError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse import TRAINING, Warehouse
from nightshift.settings import load_settings
from nightshift.usecase import UseCase

HEADINGS = (
    "night",
    "predictions for",
    "published",
    "quarantined",
    "model",
    "training",
    "holdout AUC",
    "log loss",
    "models",
    "drift",
    "seconds",
)
NOT_KNOWN = "-"


def summarise(use_case: UseCase, first: date | None = None, last: date | None = None) -> str:
    """A table of the nights that were published, from `first` to `last` if they are given."""
    settings = load_settings()
    store, warehouse = ArtifactStore(settings), Warehouse(settings, use_case)
    published = _rows(warehouse, use_case, "publications", "superseded_at IS NULL", first, last)
    if not published:
        return (
            f"No night of {use_case.name} has been published yet: run `make demo`, or backfill {use_case.name}.ingest."
        )
    decisions = _rows(warehouse, use_case, "deployments", "action <> 'bootstrap'", first, last)
    trained = {row["partition"]: row for row in decisions if row["decided_by"] in TRAINING}
    drift = _rows(warehouse, use_case, "drift_daily", "true", first, last)
    seconds = _seconds(use_case)
    lines = [
        (
            str(row["partition"]),
            str(row["prediction_date"]),
            f"{row['rows']:,}",
            _quarantined(store, use_case, row["partition"]),
            row["model_version"] + (" (fallback)" if row["role"] == "fallback" else ""),
            *_training(store, use_case, trained.get(row["partition"])),
            _decided([d for d in decisions if d["partition"] == row["partition"]]),
            _verdict([d for d in drift if d["partition"] == row["partition"]]),
            seconds.get(row["partition"].isoformat(), NOT_KNOWN),
        )
        for row in published
    ]
    return f"{use_case.title}\n\n{table(HEADINGS, lines)}"


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, numbers to the right."""
    columns = list(zip(headings, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_the_right = [all(_is_number(cell) for cell in column[1:]) for column in columns]

    def row(cells: Sequence[str]) -> str:
        pairs = zip(cells, widths, to_the_right, strict=True)
        return "  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in pairs).rstrip()

    return "\n".join([row(headings), row(["-" * width for width in widths]), *map(row, lines)])


def _is_number(cell: str) -> bool:
    return cell == NOT_KNOWN or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def _rows(
    warehouse: Warehouse, use_case: UseCase, name: str, condition: str, first: date | None, last: date | None
) -> list[dict[str, Any]]:
    order = sql.SQL(", deployment_id") if name == "deployments" else sql.SQL("")
    query = sql.SQL(
        "SELECT * FROM {} WHERE {} AND partition BETWEEN coalesce(%s, '-infinity') AND coalesce(%s, 'infinity') "
        "ORDER BY partition{}"
    ).format(sql.Identifier(use_case.name, name), sql.SQL(condition), order)  # type: ignore[arg-type]
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [first, last]).fetchall()


def _quarantined(store: ArtifactStore, use_case: UseCase, partition: date) -> str:
    decision = store.decision(use_case.name, "publish", partition)
    if decision is None or decision.ref is None:
        return NOT_KNOWN
    quarantined = store.manifest(decision.ref).metrics.get("quarantined_rows")
    return NOT_KNOWN if quarantined is None else str(_total(quarantined))


def _total(value: Any) -> int:
    """A count, or counts by feed."""
    return sum(map(_total, value.values())) if isinstance(value, Mapping) else int(value)


def _training(store: ArtifactStore, use_case: UseCase, row: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Decision and the candidate it is about, holdout AUC and holdout log loss of the night's own training."""
    if row is None:
        return NOT_KNOWN, NOT_KNOWN, NOT_KNOWN
    metrics: Mapping[str, Any] = {}
    decision = store.decision(use_case.name, "register", row["partition"])
    if decision is not None and decision.ref is not None:
        metrics = store.manifest(decision.ref).metrics
    winner = row["reason"].get("winner")
    said = f"{row['action']} ({winner})" if winner else row["action"]
    return said, _metric(metrics, row, "auc"), _metric(metrics, row, "log_loss")


def _decided(rows: Sequence[Mapping[str, Any]]) -> str:
    """What else was decided about models: by their trial, with the last word of each step, and by hand."""
    last = {
        row["decided_by"] if row["decided_by"] in STEP_ORDER else row["deployment_id"]: row
        for row in rows
        if row["decided_by"] not in TRAINING
    }
    said = [
        f"{row['action'].replace('_', ' ')} {row['model_version']}" for row in last.values() if row["action"] != "held"
    ]
    return "; ".join(said) or NOT_KNOWN


def _metric(metrics: Mapping[str, Any], row: Mapping[str, Any], name: str) -> str:
    for source in (metrics, metrics.get("holdout", {}), row["reason"], row["reason"].get("holdout", {})):
        value = source.get(name) if isinstance(source, Mapping) else None
        if isinstance(value, int | float):
            return f"{value:.4f}"
    return NOT_KNOWN


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """ "stable", or what drifted with the number of columns beyond their threshold."""
    if not rows:
        return NOT_KNOWN
    drifted = sorted({row["drift"] for row in rows if row["verdict"] == "drifted"})
    if drifted:
        counts = [f"{kind} ({sum(r['exceeds'] for r in rows if r['drift'] == kind)})" for kind in drifted]
        return f"drifted: {', '.join(counts)}"
    return "stable" if any(row["verdict"] == "stable" for row in rows) else "not judged"


def _seconds(use_case: UseCase) -> dict[str, str]:
    """Partition -> seconds from the start of its ingest to the end of its last DAG; empty if Airflow is not there."""
    from nightshift.local.airflow_api import NIGHTLY, AirflowApi
    from nightshift.local.layout import Layout, public_environment

    layout = Layout.default()
    try:
        environment = public_environment(layout, layout.state())
        api = AirflowApi(
            environment["AIRFLOW_API_URL"], environment["NIGHTSHIFT_UI_USER"], environment["NIGHTSHIFT_UI_PASSWORD"]
        )
        runs = [api.newest_runs(f"{use_case.name}.{stage}") for stage in NIGHTLY]
    except NightshiftError:
        # The summary is about what was left behind; it can be read while Airflow is down.
        return {}
    seconds = {}
    for key in runs[0]:
        found = [run for by_key in runs if (run := by_key.get(key)) and run.started_at and run.seconds is not None]
        if len(found) == len(NIGHTLY):
            starts = [run.started_at for run in found if run.started_at]
            ends = [_end(run.started_at, run.seconds) for run in found if run.started_at and run.seconds is not None]
            seconds[key] = f"{max(ends) - min(s.timestamp() for s in starts):.0f}"
    return seconds


def _end(started_at: datetime, seconds: float) -> float:
    return started_at.timestamp() + seconds
