"""The fields that people fill in when they trigger a DAG by hand."""

from __future__ import annotations

from airflow.sdk import Param

LEAST_REASON = 10
"""Characters of a reason: enough to say something."""

SPEC = r"^[a-z][a-z0-9_]*-[0-9a-f]{8}$"
"""A spec id: the spec's name and the first digits of the hash of what it declares."""

SPEC_OR_VERSION = rf"{SPEC}|^\d{{4}}-\d{{2}}-\d{{2}}-[0-9a-f]{{8}}$"
"""A spec id, or a version: training partition and the first digits of its hash."""


def partition(what: str = "The decision takes effect for the partitions after it.") -> Param:
    """The partition to work on; left empty, the newest published one."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Partition",
        description=f"YYYY-MM-DD. Left empty: the newest partition whose predictions are published. {what}",
    )


def reason(example: str) -> Param:
    """Why; must be filled in, and is recorded with the decision."""
    return Param(
        type="string",
        minLength=LEAST_REASON,
        title="Reason",
        description=f"Recorded for good with who triggered the run. At least {LEAST_REASON} characters, for example: "
        f"{example}",
    )


def spec_or_version(description: str) -> Param:
    """A spec id or a version that must be filled in."""
    return Param(type="string", pattern=SPEC_OR_VERSION, title="Spec or version", description=description)


def optional_spec(description: str) -> Param:
    """A spec id that may be left empty."""
    return Param(None, type=["null", "string"], pattern=SPEC, title="Spec", description=description)
