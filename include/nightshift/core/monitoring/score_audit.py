"""Audit of a partition's scores before they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from nightshift.core.duckdb_session import duckdb_session
from nightshift.declare.policies import AuditPolicy

EXAMPLES = 5
ROWS_THAT_DIFFER = 10_000
"""More rows need no more distinct scores than this many: the leaves and categories of a model are finite."""
PROBABILITY_CHECKS = ("no score is missing", "scores are in [0, 1]")
"""Names of the checks that a shadow's scores have to pass, too: they are stored, but not published."""


@dataclass(frozen=True)
class AuditCheck:
    """One check of one partition's scores: the observed value, its bound, and examples of rows that violate it."""

    name: str
    passed: bool
    observed: float | None
    bound: str
    examples: tuple[str, ...] = ()


def audit_scores(
    scores: ds.Dataset, *, key: Sequence[str], score: str, scheduled_rows: int, policy: AuditPolicy
) -> list[AuditCheck]:
    """Check one partition's scores.

    `scores` has the key columns and the score (float64), and is read several times: only the scores themselves are in
    memory. `scheduled_rows` is the expected number of rows, counted from the input and not from the scores. All checks
    are run, whichever fail.
    """
    values = np.asarray(scores.to_table(columns=[score])[score], dtype=np.float64)
    rows = len(values)
    present = values[~np.isnan(values)]
    missing, outside = np.isnan(values), (values < 0) | (values > 1)
    repeated, repeated_keys = _repeated(scores, key)
    mean = float(present.mean()) if len(present) else None
    distinct = len(np.unique(present))
    needed = policy.least_distinct_share * min(rows, ROWS_THAT_DIFFER)
    low, high = policy.mean_score_between
    return [
        AuditCheck("rows equal the schedule's", rows == scheduled_rows, rows, f"= {scheduled_rows}"),
        AuditCheck("there are rows", rows > 0, rows, "> 0"),
        AuditCheck("keys are unique", not repeated, repeated, "= 0 repeated", _texts(repeated_keys)),
        AuditCheck(PROBABILITY_CHECKS[0], not missing.any(), int(missing.sum()), "= 0", _keys(scores, key, missing)),
        AuditCheck(PROBABILITY_CHECKS[1], not outside.any(), int(outside.sum()), "= 0", _keys(scores, key, outside)),
        AuditCheck("mean score is plausible", mean is not None and low <= mean <= high, mean, f"{low} to {high}"),
        AuditCheck("scores differ", 0 < distinct >= needed, distinct, f">= {needed:g} distinct scores"),
    ]


def _repeated(scores: ds.Dataset, key: Sequence[str]) -> tuple[int, pa.Table]:
    """How many keys have several rows, and the first of them."""
    names = ", ".join(f'"{name}"' for name in key)
    with duckdb_session(keys=scores.scanner(columns=list(key)).to_reader()) as session:
        query = f"SELECT {names} FROM keys GROUP BY {names} HAVING count(*) > 1"  # noqa: S608
        session.execute(f"CREATE TABLE repeated AS {query}")
        ((count,),) = session.execute("SELECT count(*) FROM repeated").fetchall()
        first = f"FROM repeated ORDER BY {names} LIMIT {EXAMPLES}"
        return count, session.execute(first).to_arrow_table()


def _keys(scores: ds.Dataset, key: Sequence[str], chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    positions = np.flatnonzero(chosen)[:EXAMPLES]
    return _texts(scores.take(positions, columns=list(key))) if len(positions) else ()


def _texts(keys: pa.Table) -> tuple[str, ...]:
    return tuple("|".join(map(str, row.values())) for row in keys.to_pylist())
