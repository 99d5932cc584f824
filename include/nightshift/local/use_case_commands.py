"""The commands for a user's own use case: `nightshift new`, `check`, `start`. Docstrings are their help texts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.declare.discovery import ROOTS_VARIABLE, load_use_case
from nightshift.errors import ConfigurationError
from nightshift.local.stack import Stack
from nightshift.partitions import parse_partition

if TYPE_CHECKING:
    from nightshift.core.checks.faults import Fault
    from nightshift.local.dry_run import DryRun


def new(chosen: argparse.Namespace) -> None:
    """Write a small runnable use case to start from: declaration, SQL, Feast definitions and a producer of its data."""
    from nightshift.local.new_use_case import write

    for path in write(chosen.name, chosen.root, chosen.sample, chosen.label, chosen.date, chosen.key):
        print(path)
    root = chosen.root.resolve()
    partition = load_new(root, chosen.name)
    # As it was typed, so that the lines can be copied.
    command = sys.argv[0] if Path(sys.argv[0]).name == "nightshift" else "nightshift"
    print(
        f"\nNow: export {ROOTS_VARIABLE}={root}\n"
        f"     {command} check {chosen.name}\n"
        f"     {command} check {chosen.name} --partition {partition}"
    )


def load_new(root: Path, name: str) -> date:
    """A partition of the new use case that a dry run can score. Adds `root` to NIGHTSHIFT_USE_CASE_ROOTS."""
    from nightshift.core.checks.declaration_checks import partitions_needed

    roots = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    os.environ[ROOTS_VARIABLE] = os.pathsep.join(dict.fromkeys([str(root), *filter(None, roots)]))
    use_case = load_use_case(name)
    return use_case.first_partition + timedelta(days=partitions_needed(use_case))


def check(chosen: argparse.Namespace) -> int:
    """Check a use case without services; with --partition, also run it up to its scores in a scratch stack.

    Deliveries come from --landing, else from the bucket of the local stack if it is up and has any, else from its
    replay.py.
    Exits with 1 if there is a fault.
    """
    from nightshift.services.check_use_case import check as check_use_case

    stack = _stack_environment()
    faults = check_use_case(chosen.name)
    results: DryRun | None = None
    say: Callable[[str], None] = (lambda _: None) if chosen.json else (lambda line: print(line, flush=True))
    if chosen.partition and not faults:
        from nightshift.local.dry_run import dry_run, source_of

        use_case = load_use_case(chosen.name)
        source = source_of(use_case, chosen.landing, stack, say)
        faults, results = dry_run(use_case, chosen.partition, source, say)
    if chosen.json:
        print(
            json.dumps(
                {"faults": [asdict(fault) for fault in faults], "dry_run": asdict(results) if results else {}}, indent=1
            )
        )
        return 1 if faults else 0
    for spec, what in (results.versions if results else {}).items():
        print(f"version of {spec}: {what}")
    for note in results.notes if results else ():
        print(f"note: {note}")
    print(_conclusion(chosen.name, chosen.partition, faults, results))
    return 1 if faults else 0


def _conclusion(name: str, partition: date | None, faults: Sequence[Fault], results: DryRun | None) -> str:
    if faults:
        return "\n".join([*map(str, faults), f"{len(faults)} fault{'s' if len(faults) > 1 else ''}."])
    if partition and results:
        return f"{name} is ready: {results.rows} rows of {partition} were scored."
    return f"{name} has no faults. With --partition YYYY-MM-DD its deliveries are checked, too."


def _stack_environment() -> dict[str, str] | None:
    """Variables of the local stack if its object store is running, else None. Adopts its use case roots."""
    stack = Stack()
    try:
        environment = stack.environment()
    except ConfigurationError:
        return None
    if ROOTS_VARIABLE in environment:
        os.environ.setdefault(ROOTS_VARIABLE, environment[ROOTS_VARIABLE])
    up = {row.service for row in stack.status() if row.state == "running"}
    return environment if "s3" in up else None


def start(chosen: argparse.Namespace) -> None:
    """Load the delivered history of a use case into the local stack, train, run the nights after it, and summarise.

    The stack is started if it is down. Tables are migrated, DAGs unpaused. Finished runs are not repeated.
    """
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.local.demo import Nights, Plan, Progress
    from nightshift.local.summary import summarise
    from nightshift.services.check_use_case import check as check_use_case
    from nightshift.settings import load_settings

    progress = Progress()
    stack = Stack(say=progress.line)
    stack.up()
    os.environ.update(stack.environment())
    if faults := check_use_case(chosen.name):
        raise ConfigurationError("NS-USECASE-013", "\n".join([f"{chosen.name} has faults.", *map(str, faults)]))
    use_case = load_use_case(chosen.name)
    load_settings.cache_clear()
    Warehouse(load_settings(), use_case).migrate()
    plan = Plan.of(use_case, chosen.first, chosen.last, chosen.nights)
    nights = Nights(plan, stack, progress)
    nights.load_history()
    nights.run_nights()
    print(f"\n{summarise(use_case, plan.nights[0], plan.nights[-1])}\n\n{stack.login()}")


def _partition(text: str) -> date:
    try:
        return parse_partition(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


DAY = {"type": _partition, "metavar": "YYYY-MM-DD"}

COMMANDS: dict[Callable[[argparse.Namespace], int | None], dict[str, dict[str, Any]]] = {
    new: {
        "name": {"help": "letters, digits and _"},
        "--root": {"type": Path, "required": True, "help": f"a folder, to be named in {ROOTS_VARIABLE}"},
        "--sample": {"type": Path, "help": "a CSV or Parquet file to take columns, types and expectations from"},
        "--label": {"help": "the sample's column with 0 and 1 to predict (default: the last such column)"},
        "--date": {"help": "the sample's column with the day of a row (default: the first date)"},
        "--key": {"help": "the sample's column that names a row of a day (default: the first that does)"},
    },
    check: {
        "name": {},
        "--json": {"action": "store_true", "help": "print the faults as JSON"},
        "--partition": {**DAY, "help": "score this partition in a dry run"},
        "--landing": {"type": Path, "help": "a folder with <feed>/dt=<partition>/<file> for the dry run"},
    },
    start: {
        "name": {},
        "--from": {**DAY, "dest": "first", "required": True, "help": "the first partition of the history"},
        "--to": {**DAY, "dest": "last", "required": True, "help": "the last partition of the history"},
        "--nights": {"type": int, "default": 1, "help": "nights to run after the history (default 1)"},
    },
}
"""Each command with its arguments: names, separated by spaces, and options of `add_argument`."""
