"""The `nightshift` command: runs the local stack and the demo, and shows what the pipeline recorded."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.declare.discovery import all_use_cases, broken_use_cases, load_use_case
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, NightshiftError, PredictionsOverdue
from nightshift.local import backup_commands, monitor_commands
from nightshift.local.layout import export_lines
from nightshift.local.review_commands import REVIEW_ARGUMENTS
from nightshift.local.stack import Stack
from nightshift.local.use_case_commands import COMMANDS, DAY
from nightshift.partitions import partition_range

if TYPE_CHECKING:
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.settings import Settings

Arguments = Mapping[Callable[[argparse.Namespace], int | None], Mapping[str, Mapping[str, Any]]]
"""Commands with their arguments: names, separated by spaces, and options of `add_argument`."""

HISTORY_DAYS = 90
"""Days of history that the demo loads by default."""

_EXPLAINED = {
    errno.EACCES: "this user may not use it; was it made by another user? Remove it as that user, or set "
    "NIGHTSHIFT_LOCAL_DIR to a folder of yours.",
    errno.EPERM: "this user may not do that; was it made by another user?",
    errno.ENOSPC: "the disk is full; free some space and try again.",
    errno.EROFS: "the disk is read-only; set NIGHTSHIFT_LOCAL_DIR to a folder on another one.",
}

# Each command imports what it needs, so that `nightshift status` does not load boto3.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 1, after printing the message, for a NightshiftError."""
    chosen = _parser().parse_args(arguments)
    try:
        result: int | None = chosen.run(chosen)
    except NightshiftError as error:
        print(f"nightshift {chosen.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader closed the pipe, as in `nightshift logs | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _EXPLAINED:
            raise
        print(f"nightshift {chosen.command}: {error.filename or ''}: {_EXPLAINED[error.errno]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nnightshift {chosen.command}: interrupted.", file=sys.stderr)
        return 130
    return result or 0


def _parser() -> argparse.ArgumentParser:
    span = {"--from": {"dest": "first", **DAY}, "--to": {"dest": "last", **DAY}}
    needed_span = {name: {"required": True, **options} for name, options in span.items()}
    which = {"--use-case": {"help": "may be left out if there is only one"}}
    arguments: Arguments = {
        up: {},
        down: {},
        status: {},
        logs: {
            "service": {"nargs": "?", "help": "only this service"},
            "-f --follow": {"action": "store_true", "help": "keep printing appended lines"},
            "-n --lines": {"type": int, "default": 50, "help": "last lines of each file (default 50)"},
        },
        env: {},
        clean: {},
        demo: {
            **which,
            "--history-first": {**DAY, "help": "default: the first partition there is"},
            "--history-last": {**DAY, "help": f"default: {HISTORY_DAYS} days of history"},
            "--nights": {"type": int, "default": 3, "help": "nights to run after the history (default 3)"},
        },
        land: {"use_case": {}, **needed_span},
        migrate: {"use_case": {"nargs": "?", "help": "only this one"}},
        preflight: {},
        watchdog: {"use_case": {"nargs": "?", "help": "only this one"}},
        backtest: {
            "use_case": {},
            "--spec": {"default": "", "help": "names or ids, separated by commas, or a spec as JSON"},
            **needed_span,
            "--every": {"type": int, "help": "partitions between refits (default: the promotion policy's)"},
            "--json": {"action": "store_true", "help": "print the whole result as JSON"},
        },
        lineage: {**which, "key": {"nargs": "+", "help": "the values of the prediction's key, in its order"}},
        summary: {**which, **span},
        review: REVIEW_ARGUMENTS,
        **backup_commands.COMMANDS,
        **COMMANDS,
    }
    parser = argparse.ArgumentParser(prog="nightshift", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="<command>")
    _add(commands, arguments)
    about = (monitor_commands.__doc__ or "").splitlines()[0]
    monitor = commands.add_parser("monitor", help=about.rstrip("."), description=about)
    _add(monitor.add_subparsers(required=True, metavar="<command>"), monitor_commands.COMMANDS)
    return parser


def _add(commands: Any, arguments: Arguments) -> None:
    """Add a parser for each command, named by its function."""
    for run, its_arguments in arguments.items():
        about = (run.__doc__ or "").strip()
        name = run.__name__.replace("_", "-")
        command = commands.add_parser(name, help=about.splitlines()[0].rstrip("."), description=about)
        command.set_defaults(run=run)
        for names, options in its_arguments.items():
            command.add_argument(*names.split(), **options)


# The local stack


def up(_: argparse.Namespace) -> None:
    """Start the local stack: SeaweedFS, PostgreSQL, MLflow, Airflow."""
    stack = Stack()
    stack.up()
    print(stack.login())


def down(_: argparse.Namespace) -> None:
    """Stop the local stack; its data stays."""
    Stack().down()


def status(_: argparse.Namespace) -> int:
    """Show what runs and where. Exits with 1 if only a part of it does."""
    rows = Stack().status()
    for row in rows:
        print(f"{row.service:<14} {row.state:<8} {row.pid or '-':>8}  {row.address}".rstrip())
    if any(row.state == "dead" for row in rows):
        print("A dead service ended unexpectedly: see `make logs`; `make up` starts it again.")
    return 0 if len({row.state for row in rows}) == 1 and rows[0].state != "dead" else 1


def logs(chosen: argparse.Namespace) -> None:
    """Print the logs of the services, newest lines last; -f follows them."""
    files = Stack().log_files(chosen.service)
    if not files:
        print("There are no logs yet.", file=sys.stderr)
    for line in _tail(files, chosen.lines, follow=chosen.follow):
        print(line, flush=True)


def _tail(files: Sequence[Path], lines: int, *, follow: bool) -> Iterator[str]:
    width = max((len(path.stem) for path in files), default=0)
    with ExitStack() as stack:
        logs = {f"{path.stem:<{width}} | ": stack.enter_context(path.open(errors="replace")) for path in files}
        for start, log in logs.items():
            yield from (start + line.rstrip() for line in deque(log, maxlen=lines))
        while follow:
            added = [start + line.rstrip() for start, log in logs.items() for line in log]
            yield from added
            if not added:
                time.sleep(0.5)


def env(_: argparse.Namespace) -> None:
    """Print export lines with the addresses and credentials of the local stack: eval "$(make -s env)"."""
    print(export_lines(Stack().environment()))


def clean(_: argparse.Namespace) -> None:
    """Stop the local stack and remove it with all its data."""
    stack = Stack()
    if sys.stdin.isatty() and stack.layout.folder.exists():
        answer = input(f"Remove {stack.layout.folder} with all its tables, artifacts and logs? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return
    stack.clean()


def demo(chosen: argparse.Namespace) -> None:
    """Run nights end to end: start the stack, land and load history, train, predict, and print a summary."""
    from nightshift.local.demo import Plan, run

    use_case = _use_case(chosen.use_case)
    first = chosen.history_first or use_case.first_partition
    run(Plan.of(use_case, first, chosen.history_last or first + timedelta(HISTORY_DAYS - 1), chosen.nights))


# The pipeline's data: commands on the services that the environment names, by default the local stack.


def land(chosen: argparse.Namespace) -> None:
    """Deliver a use case's replayed files to the landing folder, as its producer would."""
    _, store = _adopt_local_stack()
    from nightshift.local import landing

    partitions = partition_range(chosen.first, chosen.last)
    if not partitions:
        raise ConfigurationError("NS-SETTINGS-007", f"--to {chosen.last} is before --from {chosen.first}.")
    landing.land(store, load_use_case(chosen.use_case), partitions, partial(print, flush=True))


def migrate(chosen: argparse.Namespace) -> None:
    """Create the bucket and the warehouse tables of every use case, or bring them up to date."""
    settings, store = _adopt_local_stack()
    from nightshift.io.warehouse.warehouse import Warehouse

    store.ensure_bucket()
    for use_case in [load_use_case(chosen.use_case)] if chosen.use_case else all_use_cases():
        applied = Warehouse(settings, use_case).migrate()
        print(f"{use_case.name}: {', '.join(applied) if applied else 'up to date'}.")


def preflight(_: argparse.Namespace) -> int:
    """Check every use case, and that the object store and the warehouse can do what the pipeline needs."""
    settings, _store = _adopt_local_stack()
    from nightshift.services.check_use_case import check_declared
    from nightshift.services.preflight import Check, check

    results = check(settings, all_use_cases())
    results += [Check(path, False, fault) for path, fault in broken_use_cases().items()]
    for use_case in all_use_cases():
        faults = check_declared(use_case)
        results.append(Check(f"use case {use_case.name}", not faults, "\n".join(map(str, faults)) or "no faults"))
    for result in results:
        print(f"{'ok' if result.ok else 'MISSING':<8} {result.name}: {result.detail}")
    return 0 if all(result.ok for result in results) else 1


def watchdog(chosen: argparse.Namespace) -> int:
    """Check that use cases can be loaded and that the predictions that are due are published; else alert, exit with 1.

    For cron: it needs no Airflow. Run it after the deadline of each use case.
    """
    settings, store = _adopt_local_stack()
    from nightshift.services.watchdog import alert_of_unknown, check_publication, check_use_cases

    failed = False
    try:
        check_use_cases(settings, [chosen.use_case] if chosen.use_case else [])
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        if chosen.use_case:
            return 1
        failed = True
    for use_case in [load_use_case(chosen.use_case)] if chosen.use_case else all_use_cases():
        now = datetime.now(UTC)
        try:
            due = check_publication(use_case, settings, store, now)
            print(f"{use_case.name}: {f'{due} is published' if due else 'nothing is due'}")
        except PredictionsOverdue as error:
            failed = True
            print(error, file=sys.stderr)
        except NightshiftError as error:
            failed = True
            alert_of_unknown(use_case, settings, error, now)
            print(f"{use_case.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


def backtest(chosen: argparse.Namespace) -> None:
    """Compare specs with champion, fallback and a frozen version, walking forward over stored partitions."""
    settings, store = _adopt_local_stack()
    from nightshift.documents.backtest import BacktestResult
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.reports.backtest_text import lines
    from nightshift.steps.backtest import backtest as step
    from nightshift.steps.context import StepContext

    use_case = load_use_case(chosen.use_case)
    newest = Warehouse(settings, use_case).latest_publication()
    # The labels of a partition's predictions are delivered with the next one, late ones after it.
    as_of = max(chosen.last + timedelta(days=1), newest.partition if newest else date.min)
    ref = step.run(
        StepContext(use_case, settings, store, as_of),
        specs=chosen.spec, first=chosen.first, last=chosen.last, refit_every=chosen.every,
    )  # fmt: skip
    result = store.read_document(ref, BacktestResult)
    print(result.model_dump_json(indent=1) if chosen.json else "\n".join([*lines(result), f"\n{ref.uri}"]))


def lineage(chosen: argparse.Namespace) -> None:
    """Print the path from one prediction back to the landed files, with hashes."""
    settings, store = _adopt_local_stack()
    from nightshift.services.lineage import trace

    use_case = _use_case(chosen.use_case)
    names = use_case.key_columns
    if len(chosen.key) != len(names):
        raise ConfigurationError(
            "NS-SETTINGS-008", f"The key of a {use_case.name} prediction has {len(names)} values: {' '.join(names)}."
        )
    print(trace(use_case, settings, store, dict(zip(names, chosen.key, strict=True))))


def review(chosen: argparse.Namespace) -> None:
    """List the predictions that are to be reviewed, or answer one: its label, for later training rows."""
    _adopt_local_stack()
    from nightshift.local.review_commands import run

    run(chosen)


def summary(chosen: argparse.Namespace) -> None:
    """Show, night by night, rows, quarantined rows, model, metrics, drift verdict and seconds."""
    _adopt_local_stack()
    from nightshift.local.summary import summarise

    print(summarise(_use_case(chosen.use_case), chosen.first, chosen.last))


def _use_case(name: str | None) -> UseCase:
    """The use case of that name; without a name, the only one there is. Raises ConfigurationError if there are more."""
    if name is None:
        names = [use_case.name for use_case in all_use_cases()]
        if len(names) != 1:
            raise ConfigurationError(
                "NS-SETTINGS-009", f"Choose a use case with --use-case; there are: {', '.join(names) or 'none'}."
            )
        (name,) = names
    return load_use_case(name)


def _adopt_local_stack() -> tuple[Settings, ArtifactStore]:
    """Settings and store of this process, of the local stack unless its environment names a warehouse already."""
    if "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ:
        os.environ.update(Stack().environment())
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.settings import load_settings

    return load_settings(), ArtifactStore(load_settings())


if __name__ == "__main__":
    sys.exit(main())
