"""The `nightshift` command: the local stack, the demo, and looks into what the pipeline left behind."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

from nightshift.errors import ConfigurationError, NightshiftError
from nightshift.usecase import all_use_cases, broken_use_cases, load_use_case, parse_partition, partition_range

_EXPLAINED = {
    errno.EACCES: "this user may not use it; was it made by another user? Remove it as that user, or set "
    "NIGHTSHIFT_LOCAL_DIR to a folder of yours.",
    errno.EPERM: "this user may not do that; was it made by another user?",
    errno.ENOSPC: "the disk is full; free some space and try again.",
    errno.EROFS: "the disk is read-only; set NIGHTSHIFT_LOCAL_DIR to a folder on another one.",
}

# Each command imports what it needs: `nightshift status` should not wait for boto3.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 1, after one clear sentence, for an error raised on purpose."""
    chosen = _parser().parse_args(arguments)
    try:
        result: int | None = chosen.run(chosen)
    except NightshiftError as error:
        print(f"nightshift {chosen.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output had enough, as in `nightshift logs | head`.
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
    parser = argparse.ArgumentParser(prog="nightshift", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="<command>")

    def command(name: str, run: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        about = (run.__doc__ or "").strip()
        added = commands.add_parser(name, help=about.splitlines()[0].rstrip("."), description=about)
        added.set_defaults(run=run)
        return added

    command("up", up)
    command("down", down)
    command("status", status)
    logs_command = command("logs", logs)
    logs_command.add_argument("service", nargs="?", help="only this service")
    logs_command.add_argument("-f", "--follow", action="store_true", help="go on printing what is added")
    logs_command.add_argument("-n", "--lines", type=int, default=50, help="last lines of each file (default 50)")
    command("env", env)
    command("clean", clean)

    demo_command = command("demo", demo)
    demo_command.add_argument("--use-case", default="flight_delay")
    demo_command.add_argument("--history-first", type=_partition, default=date(2013, 1, 1), metavar="YYYY-MM-DD")
    demo_command.add_argument("--history-last", type=_partition, default=date(2013, 5, 30), metavar="YYYY-MM-DD")
    demo_command.add_argument("--nights", type=int, default=3, help="nights to run after the history (default 3)")

    land_command = command("land", land)
    land_command.add_argument("use_case")
    land_command.add_argument("--from", dest="first", type=_partition, required=True, metavar="YYYY-MM-DD")
    land_command.add_argument("--to", dest="last", type=_partition, required=True, metavar="YYYY-MM-DD")

    command("migrate", migrate).add_argument("use_case", nargs="?", help="only this one")
    command("preflight", preflight)

    backtest_command = command("backtest", backtest)
    backtest_command.add_argument("use_case")
    backtest_command.add_argument("--spec", default="", help="names or ids, separated by commas, or a spec as JSON")
    backtest_command.add_argument("--from", dest="first", type=_partition, required=True, metavar="YYYY-MM-DD")
    backtest_command.add_argument("--to", dest="last", type=_partition, required=True, metavar="YYYY-MM-DD")
    backtest_command.add_argument(
        "--every", type=int, help="partitions between refits (default: the promotion policy's)"
    )
    backtest_command.add_argument("--json", action="store_true", help="print the whole result as JSON")

    lineage_command = command("lineage", lineage)
    lineage_command.add_argument("--use-case", default="flight_delay")
    lineage_command.add_argument("key", nargs="+", help="the prediction's key, for flights: date carrier flight origin")

    summary_command = command("summary", summary)
    summary_command.add_argument("--use-case", default="flight_delay")
    summary_command.add_argument("--from", dest="first", type=_partition, metavar="YYYY-MM-DD")
    summary_command.add_argument("--to", dest="last", type=_partition, metavar="YYYY-MM-DD")

    from nightshift.local.use_case_commands import COMMANDS

    for run, arguments in COMMANDS.items():
        added = command(run.__name__, run)
        for names, options in arguments.items():
            added.add_argument(*names.split(), **options)
    return parser


def _partition(text: str) -> date:
    try:
        return parse_partition(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# The local stack


def up(_: argparse.Namespace) -> None:
    """Start the local stack: SeaweedFS, PostgreSQL, MLflow, Airflow."""
    from nightshift.local.stack import Stack

    stack = Stack()
    stack.up()
    print(stack.login())


def down(_: argparse.Namespace) -> None:
    """Stop the local stack; its data stays."""
    from nightshift.local.stack import Stack

    Stack().down()


def status(_: argparse.Namespace) -> int:
    """Show what runs and where. Exits with 1 if only a part of it does."""
    from nightshift.local.stack import Stack

    rows = Stack().status()
    for row in rows:
        print(f"{row.service:<14} {row.state:<8} {row.pid or '-':>8}  {row.address}".rstrip())
    if any(row.state == "dead" for row in rows):
        print("A dead service ended by itself: see `make logs`; `make up` starts it again.")
    return 0 if len({row.state for row in rows}) == 1 and rows[0].state != "dead" else 1


def logs(chosen: argparse.Namespace) -> None:
    """Print the logs of the services, newest lines last; -f goes on."""
    from nightshift.local.stack import Stack

    files = Stack().log_files(chosen.service)
    if not files:
        print("There are no logs yet.", file=sys.stderr)
    for line in _tail(files, chosen.lines, follow=chosen.follow):
        print(line, flush=True)


def _tail(files: Sequence[Path], lines: int, *, follow: bool) -> Iterator[str]:
    width = max((len(path.stem) for path in files), default=0)
    with _opened(files) as sources:
        for path, source in sources.items():
            for line in source.read().decode(errors="replace").splitlines()[-lines:]:
                yield f"{path.stem:<{width}} | {line}"
        while follow:
            added = False
            for path, source in sources.items():
                while line_bytes := source.readline():
                    added = True
                    yield f"{path.stem:<{width}} | {line_bytes.decode(errors='replace').rstrip()}"
            if not added:
                time.sleep(0.5)


@contextmanager
def _opened(files: Sequence[Path]) -> Iterator[dict[Path, BinaryIO]]:
    with ExitStack() as stack:
        yield {path: stack.enter_context(path.open("rb")) for path in files}


def env(_: argparse.Namespace) -> None:
    """Print export lines by which any client finds the local stack: eval "$(make -s env)"."""
    from nightshift.local.layout import export_lines
    from nightshift.local.stack import Stack

    print(export_lines(Stack().environment()))


def clean(_: argparse.Namespace) -> None:
    """Stop the local stack and remove it with all its data."""
    from nightshift.local.stack import Stack

    stack = Stack()
    if sys.stdin.isatty() and stack.layout.folder.exists():
        answer = input(f"Remove {stack.layout.folder} with all its tables, artifacts and logs? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return
    stack.clean()


def demo(chosen: argparse.Namespace) -> None:
    """Run real nights: start the stack, land and load history, train, predict, and show what came of it."""
    from nightshift.local.demo import Plan, run

    run(Plan.of(load_use_case(chosen.use_case), chosen.history_first, chosen.history_last, chosen.nights))


# The pipeline's data. These run against whatever the environment names; the local stack if it names nothing.


def land(chosen: argparse.Namespace) -> None:
    """Deliver a use case's replayed files to the landing folder, as its producer would."""
    _adopt_local_stack()
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.local.landing import land as land_partitions
    from nightshift.settings import load_settings

    partitions = partition_range(chosen.first, chosen.last)
    if not partitions:
        raise ConfigurationError(f"--to {chosen.last} is before --from {chosen.first}.")
    landed = land_partitions(
        ArtifactStore(load_settings()), load_use_case(chosen.use_case), partitions, _every(10, "partitions landed")
    )
    print(f"{landed.written} files written, {landed.unchanged} were there already.")


def _every(step: int, what: str) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if done % step == 0 or done == total:
            print(f"{done} of {total} {what}.", flush=True)

    return show


def migrate(chosen: argparse.Namespace) -> None:
    """Create the bucket and the warehouse tables of every use case, or bring them up to date."""
    _adopt_local_stack()
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.warehouse import Warehouse
    from nightshift.settings import load_settings

    settings = load_settings()
    ArtifactStore(settings).ensure_bucket()
    for use_case in [load_use_case(chosen.use_case)] if chosen.use_case else all_use_cases():
        applied = Warehouse(settings, use_case).migrate()
        print(f"{use_case.name}: {', '.join(applied) if applied else 'up to date'}.")


def preflight(_: argparse.Namespace) -> int:
    """Check every use case, and that the object store and the warehouse can do what the pipeline needs."""
    _adopt_local_stack()
    from nightshift.io.preflight import Check, check
    from nightshift.services.check_use_case import check_declared
    from nightshift.settings import load_settings

    found = check(load_settings(), all_use_cases())
    found += [Check(path, False, fault) for path, fault in broken_use_cases().items()]
    for use_case in all_use_cases():
        faults = check_declared(use_case)
        found.append(Check(f"use case {use_case.name}", not faults, "\n".join(map(str, faults)) or "no faults"))
    for result in found:
        print(f"{'ok' if result.ok else 'MISSING':<8} {result.name}: {result.detail}")
    return 0 if all(result.ok for result in found) else 1


def backtest(chosen: argparse.Namespace) -> None:
    """Compare specs with champion, fallback and a frozen version, walking forward over stored partitions."""
    _adopt_local_stack()
    from nightshift.documents import BacktestResult
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.warehouse import Warehouse
    from nightshift.reports.backtest_text import lines
    from nightshift.settings import load_settings
    from nightshift.steps.backtest import backtest as step

    use_case, settings = load_use_case(chosen.use_case), load_settings()
    store = ArtifactStore(settings)
    newest = Warehouse(settings, use_case).latest_publication()
    # The labels of a partition's predictions are delivered with the next one, late ones after it.
    as_of = max(chosen.last + timedelta(days=1), newest["partition"] if newest else date.min)
    ref = step.run(
        use_case, settings, store, as_of,
        specs=chosen.spec, first=chosen.first, last=chosen.last, refit_every=chosen.every,
    )  # fmt: skip
    result = store.read_document(ref, BacktestResult)
    print(result.model_dump_json(indent=1) if chosen.json else "\n".join([*lines(result), f"\n{ref.uri}"]))


def lineage(chosen: argparse.Namespace) -> None:
    """Print the path from one prediction back to the landed files, with hashes."""
    _adopt_local_stack()
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.lineage import trace
    from nightshift.settings import load_settings

    use_case = load_use_case(chosen.use_case)
    names = use_case.key_columns
    if len(chosen.key) != len(names):
        raise ConfigurationError(f"A prediction of {use_case.name} is named by {len(names)} values: {' '.join(names)}.")
    settings = load_settings()
    print(trace(use_case, settings, ArtifactStore(settings), dict(zip(names, chosen.key, strict=True))))


def summary(chosen: argparse.Namespace) -> None:
    """Show, night by night, rows, quarantined rows, model, metrics, drift verdict and seconds."""
    _adopt_local_stack()
    from nightshift.local.summary import summarise

    print(summarise(load_use_case(chosen.use_case), chosen.first, chosen.last))


def _adopt_local_stack() -> None:
    """Point this process at the local stack unless its environment names a warehouse already."""
    if "NIGHTSHIFT_WAREHOUSE_URL" not in os.environ:
        from nightshift.local.stack import Stack

        os.environ.update(Stack().environment())


if __name__ == "__main__":
    sys.exit(main())
