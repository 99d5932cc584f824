"""`make chaos`: run a night under each fault and print how many points of each it survived.

make chaos                                  all faults, on a night whose versions were made by hand
make chaos ARGS="--scene training"          on a night that trains, also those of MLflow
make chaos ARGS="--scene search"            on a search, attacks, a backtest and a nomination, reproductions
make chaos ARGS="--scene by-hand"           on decisions by hand, record_failure, the sweep of orphans
make chaos ARGS="--scene publication"       on a publication: minutes
make chaos ARGS="killed twice"              some faults
make chaos ARGS="--scene backfill"          30 nights through Airflow: four at once, scheduler killed, in reverse
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

from chaos import backfills
from chaos.faults import FAULTS, MLFLOW_FAULTS
from chaos.scenes import SCENES
from chaos.services import running
from chaos.step_process import preload
from chaos.trial import Result
from nightshift.local.processes import forget_ambient_stack
from support.second_use_case import ROOT

BUCKET = "chaos"


def main(words: Sequence[str]) -> int:
    """Exit status: 0 if all were survived."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    names = [*(fault.name for fault in (*FAULTS, *MLFLOW_FAULTS)), *(way.name for way in backfills.WAYS)]
    parser.add_argument("faults", nargs="*", choices=[[], *names], metavar="fault")
    scenes = [*SCENES, "backfill"]
    parser.add_argument("--scene", choices=scenes, default="night", help="what is disturbed (default: %(default)s)")
    parser.add_argument("--nights", type=int, default=30, help="of --scene backfill (default: %(default)s)")
    arguments = parser.parse_args(words)
    if arguments.scene == "backfill":
        forget_ambient_stack(os.environ)
        equal = True
        for text, same in backfills.compare(arguments.faults, arguments.nights):
            print(text, flush=True)
            equal &= same
        return int(not equal)
    of_scene = (*FAULTS, *MLFLOW_FAULTS) if arguments.scene == "training" else FAULTS
    faults = [one for one in of_scene if one.name in arguments.faults or not arguments.faults]
    scene, needed = SCENES[arguments.scene]
    forget_ambient_stack(os.environ)
    os.environ["NIGHTSHIFT_USE_CASE_ROOTS"] = str(ROOT)
    preload(needed)
    # The servers do not end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began, results = time.monotonic(), list[Result]()
    with running(BUCKET) as services:
        trial = scene(services)
        writes = {service: sum(of_step.values()) for service, of_step in trial.writes.items()}
        print(f"undisturbed night: {writes} writes, {time.monotonic() - began:.0f} s", flush=True)
        if differences := trial.undisturbed_again():
            print("two undisturbed nights differ:", *differences, sep="\n")
            return 1
        for fault in faults:
            result = trial.disturbed(fault)
            results.append(result)
            print(line(result), result.why, f"{time.monotonic() - began:.0f} s", sep="\n", flush=True)
    print(table(results))
    return int(any(result.why for result in results))


def line(result: Result) -> str:
    """A row of the table."""
    survived = "no" if result.why else "yes"
    return f"{result.fault.name:20} {result.points:6} {result.attempts:9} {survived:9} {result.fault.happens}"


def table(results: Sequence[Result]) -> str:
    """All results, one a line."""
    head = f"{'fault':20} {'points':>6} {'attempts':>9} {'survived':9} what happens"
    survived = sum(not result.why for result in results)
    total = f"{survived} of {len(results)} faults survived, {sum(result.points for result in results)} points"
    return "\n".join([head, *map(line, results), total])


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(main(sys.argv[1:]))
