"""The fields that people fill in when they trigger a DAG by hand."""

from __future__ import annotations

from airflow.sdk import Param

LEAST_REASON = 10
"""Characters of a reason: enough to say something."""

VERSION = r"^\d{4}-\d{2}-\d{2}-[0-9a-f]{8}$"
"""A model version: training partition and the first digits of the model's hash."""


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


def model_version(description: str) -> Param:
    """A model version that must be filled in."""
    return Param(type="string", pattern=VERSION, title="Model version", description=description)


def optional_model_version(description: str) -> Param:
    """A model version that may be left empty."""
    return Param(None, type=["null", "string"], pattern=VERSION, title="Model version", description=description)
