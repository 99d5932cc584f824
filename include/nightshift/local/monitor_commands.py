"""Explain what monitoring rules did, or dry-run them over past partitions: `nightshift monitor`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from nightshift.declare.discovery import load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError
from nightshift.local.stack import Stack
from nightshift.local.use_case_commands import DAY

if TYPE_CHECKING:
    from nightshift.documents.rules import RuleOutcome
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.warehouse.warehouse import Warehouse


def explain(chosen: argparse.Namespace) -> None:
    """Show which monitoring rules fired in a partition, on what numbers, and what they did."""
    from nightshift.reports.rules_text import explanation
    from nightshift.services.rules import explained

    use_case, _, warehouse = _opened(chosen.use_case)
    outcomes = explained(warehouse, use_case, chosen.partition)
    _print({chosen.partition: outcomes}, explanation(use_case.name, chosen.partition, outcomes), as_json=chosen.json)


def dry_run(chosen: argparse.Namespace) -> None:
    """Show in which past partitions the rules, as declared now, would fire and begin to; nothing is changed.

    Losses are those of the labels that are known by now. No rule counts as firing before the first partition.
    """
    from nightshift.reports.rules_text import dry_run_lines
    from nightshift.services.rules import dry_run as evaluate

    if chosen.last < chosen.first:
        raise ConfigurationError("NS-RULE-015", f"--to {chosen.last} is before --from {chosen.first}: swap them.")
    use_case, store, warehouse = _opened(chosen.use_case)
    outcomes = evaluate(store, warehouse, use_case, chosen.first, chosen.last)
    _print(outcomes, dry_run_lines(use_case.name, outcomes), as_json=chosen.json)


def _opened(name: str) -> tuple[UseCase, ArtifactStore, Warehouse]:
    """The use case with its stores: the local stack's, unless the environment names a warehouse."""
    if "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ:
        os.environ.update(Stack().environment())
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.settings import load_settings

    use_case = load_use_case(name)
    return use_case, ArtifactStore(load_settings()), Warehouse(load_settings(), use_case)


def _print(outcomes: Mapping[date, Sequence[RuleOutcome]], lines: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        values = {str(day): [one.model_dump(mode="json") for one in of_day] for day, of_day in outcomes.items()}
        print(json.dumps(values, indent=1))
    else:
        print("\n".join(lines))


JSON = {"action": "store_true", "help": "print the outcomes by partition as JSON"}

COMMANDS: dict[Callable[[argparse.Namespace], int | None], dict[str, dict[str, Any]]] = {
    explain: {"use_case": {}, "partition": DAY, "--json": JSON},
    dry_run: {
        "use_case": {},
        "--from": {**DAY, "dest": "first", "required": True, "help": "the first partition"},
        "--to": {**DAY, "dest": "last", "required": True, "help": "the last partition"},
        "--json": JSON,
    },
}
"""Each command with its arguments, as in use_case_commands."""
