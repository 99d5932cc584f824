"""How long the first view of the app takes, and every page after it, on a made-up year of nights of several use cases.

Starts a store, a warehouse and the app in a fresh process, as a restarted API server would, and asks for pages one
after the other. Fails if the first view of the list of use cases or of an overview takes longer than --most seconds.

    python benchmarks/app.py [--use-cases 10] [--most 1.0] [--keep]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import date, timedelta
from pathlib import Path

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
SERVER = ("-m", "uvicorn", "--factory", "nightshift.app.application:development_app", "--log-level", "warning")


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


def _measure(last: date, most: float, keep: bool) -> int:
    slow = []
    for first in FIRST_VIEWS:
        seconds, _ = _timed([first], last)[0]
        print(f"first view after a start, /{first.format(name='flight_delay')}: {seconds:.2f} s")
        if seconds > most:
            slow.append(first)
    for (seconds, size), page in zip(_timed(PAGES, last, keep=keep)[1:], PAGES[1:], strict=True):
        print(f"{seconds:6.2f} s  {size / 1000:6.0f} kB  /{page.format(name='flight_delay', last=last)}")
    if slow:
        print(f"The first view may take {most} s at most.", file=sys.stderr)
    return 1 if slow else 0


def _timed(pages: tuple[str, ...] | list[str], last: date, *, keep: bool = False) -> list[tuple[float, int]]:
    """Seconds and bytes of pages, asked for one after the other from a server that has just started."""
    (port,) = free_ports(1)
    server = subprocess.Popen([sys.executable, *SERVER, "--port", str(port)])
    try:
        _wait(port)
        found = []
        for page in pages:
            started = time.perf_counter()
            address = f"http://127.0.0.1:{port}/{page.format(name='flight_delay', last=last)}"
            with urllib.request.urlopen(address) as answer:
                size = len(answer.read())
            found.append((time.perf_counter() - started, size))
        if keep:
            print(f"http://127.0.0.1:{port}/", flush=True)
            server.wait()
        return found
    finally:
        server.terminate()
        server.wait()


def _wait(port: int) -> None:
    """Wait for the server with a file that needs nothing but the web framework."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/static/app.css"):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("The app did not start.")


if __name__ == "__main__":
    sys.exit(main())
