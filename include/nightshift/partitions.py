"""Partitions: days, keyed YYYY-MM-DD."""

from __future__ import annotations

from datetime import date, timedelta

from nightshift.errors import ConfigurationError


def parse_partition(key: str) -> date:
    """A partition key `YYYY-MM-DD` as a date. Raises ConfigurationError for anything else."""
    try:
        parsed = date.fromisoformat(key)
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat() != key:
        raise ConfigurationError(
            "NS-SETTINGS-003", f"{key!r} is not a partition key; write it as YYYY-MM-DD, for example 2013-05-31."
        )
    return parsed


def partition_range(first: date, last: date) -> list[date]:
    """All partitions from first to last, both included; empty if last is before first."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
