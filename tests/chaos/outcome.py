"""What a night left: rows and objects without what may differ between two runs of the same night."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from nightshift.artifact import Manifest, sha256_hex
from nightshift.core.gates.verification import GATES
from nightshift.io.artifact_store import ArtifactStore
from support.history import objects_of

SCHEMAS = ("late_returns", "feast_online")
WALL_CLOCK = frozenset(
    {
        *("applied_at", "recorded_at", "predicted_at", "published_at", "superseded_at", "decided_at", "answered_at"),
        *("first_at", "tried_at", "sent_at", "started_at", "seconds", "created_ts"),
        *("run_id", "dag_id", "tries"),
    }
)
"""Columns that hold when something was done, by which run, or how long it took."""
SEQUENCES = frozenset({"deployment_id", "alert_id"})
"""Columns whose numbers have gaps where a transaction was rolled back; their order is compared."""

MEASURED = ("/record_pipeline/", "/report_training/", "/track_training/", "mlflow/")
"""Parts of the keys of objects that hold how long something took, or MLflow's names of runs."""

TIMED = frozenset(gate.name for gate in GATES if gate.timed)
"""Gates whose observed values are times and memory."""

Left = dict[str, Any]
"""Rows by table and objects by key, comparable."""


def left_by(warehouse_url: str, store: ArtifactStore) -> Left:
    """What is in the warehouse and in the bucket."""
    left: Left = {}
    with psycopg.connect(warehouse_url) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = ANY(%s) ORDER BY 1, 2",
            [list(SCHEMAS)],
        ).fetchall()
        for name in tables:
            left[".".join(name)] = _rows(connection, sql.Identifier(*name))
    objects = objects_of(store)
    return left | {
        key: _content(key, body) for key, body in objects.items() if not any(map(key.__contains__, MEASURED))
    }


def _rows(connection: psycopg.Connection, table: sql.Identifier) -> list[str]:
    rows = [row for (row,) in connection.execute(sql.SQL("SELECT to_jsonb(t) FROM {} AS t").format(table))]
    sequence = next((name for name in SEQUENCES if rows and name in rows[0]), None)
    if sequence:
        rows.sort(key=lambda row: row[sequence])
    texts = [json.dumps(_comparable(row), sort_keys=True) for row in rows]
    return texts if sequence else sorted(texts)


def _comparable(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in row.items() if name not in WALL_CLOCK | SEQUENCES}
    if "cause" in values:
        values["cause"] = re.sub(r":\d+$", "", values["cause"])
    if values.get("gate") in TIMED:
        values.update(observed=None, reason=None)
    if f"/{values.get('step')}/" in MEASURED:
        values.update(bytes=None, artifact_uri=None)
    return values


def _content(key: str, body: bytes) -> Any:
    if not key.endswith("manifest.json"):
        return sha256_hex(body)
    # Without code and host, the clock and what was measured by it.
    manifest = Manifest.model_validate_json(body)
    return manifest.model_dump(mode="json", include={"ref", "inputs", "files", "parameters"})


def differences(expected: Left, actual: Left) -> list[str]:
    """What is missing, added or other, a line each."""
    lines = []
    for name in sorted(expected.keys() | actual.keys()):
        one, other = expected.get(name), actual.get(name)
        if one == other:
            continue
        if isinstance(one, list) and isinstance(other, list):
            lines += [f"{name}: missing {row}" for row in one if row not in other]
            lines += [f"{name}: added {row}" for row in other if row not in one]
            if sorted(one) == sorted(other):
                lines.append(f"{name}: in another order")
            elif len(one) != len(other):
                lines.append(f"{name}: {len(other)} rows in place of {len(one)}")
        else:
            lines.append(f"{name}: {'missing' if other is None else 'added' if one is None else 'other'}")
    return lines
