"""How long the first view of the app takes, and every page after it, on a made-up year of nights of several use cases.

Starts a store, a warehouse and the app in a fresh process, as a restarted API server would, and asks for pages one
after the other. Fails if the first view of the list of use cases or of an overview takes longer than --most seconds.

    python benchmarks/app.py [--use-cases 10] [--most 1.0] [--keep]
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psutil
from app_year import declare, fill_store, fill_warehouse

from nightshift.local.processes import forget_ambient_stack, free_ports
from nightshift.local.scratch import running

PAGES = (
    "",
    "{name}",
    "{name}/model",
    "{name}/drift",
    "{name}/drift?days=180",
    "{name}/drift/data/weather?column=wind_speed_mph",
    "{name}/performance",
    "{name}/performance?days=366",
    "{name}/data",
    "{name}/lineage",
    "{name}/reports",
    "{name}/night/{last}",
)
FIRST_VIEWS = ("", "{name}")
SERVER = (
    "-m",
    "uvicorn",
    "app_server:app",
    "--app-dir",
    str(Path(__file__).parent),
    "--lifespan",
    "off",
    "--log-level",
    "warning",
)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--use-cases", type=int, default=10)
    arguments.add_argument("--most", type=float, default=1.0)
    arguments.add_argument("--keep", action="store_true", help="serve the app until interrupted")
    chosen = arguments.parse_args()
    forget_ambient_stack(os.environ)
    with tempfile.TemporaryDirectory(prefix="nightshift-app-") as folder:
        # Root has to run PostgreSQL as another user.
        Path(folder).chmod(0o755)
        names = [f"use_case_{number}" for number in range(1, chosen.use_cases)]
        declare(Path(folder) / "root", names)
        with running(Path(folder)) as services:
            os.environ |= services.s3_environment() | {
                "NIGHTSHIFT_ENVIRONMENT": "test",
                "NIGHTSHIFT_BUCKET": "bench-app",
                "NIGHTSHIFT_WAREHOUSE_URL": services.postgres.place.url("warehouse"),
                "NIGHTSHIFT_USE_CASE_ROOTS": str(Path(folder) / "root"),
            }
            last = date.today() - timedelta(days=1)  # noqa: DTZ011 - any day
            _fill(["flight_delay", *names], last)
            return _measure(last, chosen.most, chosen.keep)


def _fill(names: list[str], last: date) -> None:
    from nightshift.declare.discovery import load_use_case
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.settings import load_settings

    store = ArtifactStore(load_settings())
    store.ensure_bucket()
    for name in names:
        use_case = load_use_case(name)
        fill_warehouse(load_settings(), use_case, last, rows_a_day=920 if name == "flight_delay" else 40)
        fill_store(store, use_case, last, detailed=name == "flight_delay")


@dataclass(frozen=True)
class View:
    """What a page took: seconds until it was read, of which the app's own processor time; its bytes."""

    seconds: float
    processor: float
    size: int

    def __str__(self) -> str:
        return f"{self.seconds:5.2f} s, {self.processor:5.2f} s of the app's processor time, {self.size / 1000:4.0f} kB"


def _measure(last: date, most: float, keep: bool) -> int:
    slow = []
    for first in FIRST_VIEWS:
        (view,) = _timed([first], last)
        print(f"first view after a start  {view}  /{first.format(name='flight_delay')}", flush=True)
        if view.seconds > most:
            slow.append(first)
    for view, page in zip(_timed(PAGES, last, keep=keep)[1:], PAGES[1:], strict=True):
        print(f"{view}  /{page.format(name='flight_delay', last=last)}", flush=True)
    if slow:
        print(f"The first view may take {most} s at most.", file=sys.stderr)
    return 1 if slow else 0


def _timed(pages: Sequence[str], last: date, *, keep: bool = False) -> list[View]:
    """Views of pages, asked for one after the other from a server that has just started."""
    (port,) = free_ports(1)
    server = psutil.Popen([sys.executable, *SERVER, "--port", str(port)])
    try:
        _wait(port)
        found = []
        for page in pages:
            started, before = time.perf_counter(), sum(server.cpu_times()[:2])
            address = f"http://127.0.0.1:{port}/{page.format(name='flight_delay', last=last)}"
            with urllib.request.urlopen(address) as answer:
                size = len(answer.read())
            found.append(View(time.perf_counter() - started, sum(server.cpu_times()[:2]) - before, size))
        if keep:
            print(f"http://127.0.0.1:{port}/", flush=True)
            server.wait()
        return found
    finally:
        server.terminate()
        server.wait()


def _wait(port: int) -> None:
    """Wait until the server listens. The app is imported by then, as it is in an API server."""
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("The app did not start.")


if __name__ == "__main__":
    sys.exit(main())
