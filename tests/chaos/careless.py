"""Two steps to test the faults with: one that may be run again, and one that may not."""

from __future__ import annotations

from nightshift.artifact import ArtifactRef
from nightshift.steps.context import StepContext


def prepare(context: StepContext) -> None:
    """The table that both write to."""
    with context.warehouse.connection() as connection:
        connection.execute("CREATE TABLE late_returns.written (partition date)")


def careful(context: StepContext) -> ArtifactRef:
    """Write a row and an artifact; again, nothing."""
    with context.warehouse.connection() as connection:
        connection.execute("DELETE FROM late_returns.written WHERE partition = %s", [context.partition])
        connection.execute("INSERT INTO late_returns.written VALUES (%s)", [context.partition])
    return _commit(context)


def careless(context: StepContext) -> ArtifactRef:
    """Write a row and an artifact; again, another row."""
    with context.warehouse.connection() as connection:
        connection.execute("INSERT INTO late_returns.written VALUES (%s)", [context.partition])
    return _commit(context)


def _commit(context: StepContext) -> ArtifactRef:
    return context.commit("land", kind="landed", files={"rows.json": b"[]"})
