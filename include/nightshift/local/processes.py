"""Background processes that outlive the command which started them, and their ports.

A process is identified by its id and its start, so that a reused id is not mistaken for it: only processes that
Nightshift started are stopped.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from nightshift.artifact import Value
from nightshift.errors import ConfigurationError

POLL_SECONDS = 0.05
START_SECONDS = 60.0
LOG_TAIL_LINES = 15
LONGEST_SOCKET_PATH = 103
"""Bytes a unix socket's path may have on every system (Linux allows 107, macOS 103)."""

STACK_VARIABLES = ("NIGHTSHIFT_", "AWS_", "MLFLOW_", "AIRFLOW")
NO_STACK_VARIABLES = frozenset({"NIGHTSHIFT_RUNTIMES_DIR", "NIGHTSHIFT_CODE_VERSION", "MLFLOW_DISABLE_TELEMETRY"})
"""Variables that match STACK_VARIABLES but do not describe a stack."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Child processes of this process until they are reaped."""


class ProcessRecord(Value):
    """Identity of a process: its id and its `start` (see `_start`). `created`: seconds since the epoch."""

    pid: int
    start: str
    created: float


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def as_user(user: int | None) -> dict[str, Any]:
    """Arguments of `subprocess` that run a program as that user id and no group of this process's (root only)."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def spawn(
    argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str], cwd: Path, user: int | None = None
) -> ProcessRecord:
    """Start a process in its own session, both outputs appended to `log`. `user`: run as that user id (root only).

    Raises ConfigurationError if the program is missing or not executable.
    """
    _reap()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        try:
            child = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                **as_user(user),
            )
        except (FileNotFoundError, PermissionError) as error:
            raise ConfigurationError(
                "NS-LOCAL-019",
                f"{argv[0]} cannot be run ({error.strerror}): build .venv again with `rm -rf .venv && make venv`.",
            ) from error
    _children[child.pid] = child
    process = psutil.Process(child.pid)
    return ProcessRecord(pid=child.pid, start=_start(process), created=process.create_time())


def _start(process: psutil.Process) -> str:
    """When a process started, whatever happens to the clock since: the boot, and clock ticks after it.

    Where the kernel keeps the creation time itself, as that of macOS does, it is that. Raises psutil.NoSuchProcess.
    """
    boot, stat = Path("/proc/sys/kernel/random/boot_id"), Path(f"/proc/{process.pid}/stat")
    try:
        # The name, in parentheses, may have spaces.
        ticks = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return f"{boot.read_text(encoding='utf-8').strip()} {ticks}"
    except (FileNotFoundError, ProcessLookupError):
        # On Linux, create_time moves with the clock; here there is no such process then.
        return str(process.create_time())


def _reap() -> None:
    """Reap the child processes that have ended, also those whose status was not read since, as after a crash."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)


def find(record: ProcessRecord) -> psutil.Process | None:
    """The live process of a record; None if it ended, or if its id now belongs to another process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(record.pid)
        if _start(process) == record.start and process.status() != psutil.STATUS_ZOMBIE:
            return process
    # Only now: a child that ended a moment ago is reaped as well.
    _reap()
    return None


def session(record: ProcessRecord) -> list[psutil.Process]:
    """The live processes of the session that `spawn` began: the process, and what it started and may have outlived it.

    The kernel gives the id of a process that ended to no other while processes of its session run: where another
    process has the id, the session is that one's. A zombie, which waits to be reaped, still has its own.
    """
    find(record)
    with contextlib.suppress(psutil.NoSuchProcess):
        if _start(psutil.Process(record.pid)) != record.start:
            return []
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            if os.getsid(process.pid) == record.pid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def stop(record: ProcessRecord, *, timeout: float = 20.0, interrupt: bool = False) -> bool:
    """Send SIGTERM (SIGINT with `interrupt`), wait, then kill what is left of it, its children and its session.

    Returns False if none of these was running.
    """
    process = find(record)
    family = session(record)
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
            process.send_signal(2 if interrupt else 15)
        deadline = time.monotonic() + timeout
        while find(record) is not None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        psutil.wait_procs(family, timeout=1.0)
    alive = [left for left in {*family, *session(record)} if left.is_running()]
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(alive, timeout=5.0)
    find(record)
    return bool(family)


def wait_until(
    ready: Callable[[], bool],
    *,
    record: ProcessRecord,
    name: str,
    log: Path,
    timeout: float = START_SECONDS,
    poll: float = POLL_SECONDS,
) -> None:
    """Wait until `ready()`.

    Raises ConfigurationError, with the end of the log, if the process dies or takes too long.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if find(record) is None:
            raise ConfigurationError(
                "NS-LOCAL-020", f"{name} ended while it was starting. The end of {log}:\n{tail(log)}"
            )
        if time.monotonic() > deadline:
            raise ConfigurationError(
                "NS-LOCAL-021", f"{name} was not ready after {timeout:.0f} s. The end of {log}:\n{tail(log)}"
            )
        time.sleep(poll)


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file, indented; empty if there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - 400 * lines))
        text = source.read().decode(errors="replace")
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def http_get(url: str) -> tuple[int, bytes] | None:
    """Status and body of a GET to a server on this machine, never through a proxy; None if there is no response."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""
    except OSError:
        return None


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True if a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def port_holder(port: int) -> str:
    """The process that listens on a port, for a message: name and pid if known, else "another program"."""
    try:
        for connection in psutil.net_connections(kind="inet"):
            listening = connection.status == psutil.CONN_LISTEN
            if listening and connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        pass
    return "another program"


def free_ports(count: int, *, also: int = 0) -> list[int]:
    """`count` different free ports; with `also`, the port plus that offset is free as well."""
    chosen: list[int] = []
    candidates = random.SystemRandom().sample(range(20000, 32000), 2000)
    for port in candidates:
        if len(chosen) == count:
            return chosen
        if port_is_free(port) and (not also or port_is_free(port + also)):
            chosen.append(port)
    raise ConfigurationError(
        "NS-LOCAL-022", f"There are no {count} free ports between 20000 and 32000 on this machine."
    )


def base_environment() -> dict[str, str]:
    """The environment for a service: that of this process without settings of other tools.

    Requests to this machine never go through a proxy.
    """
    dropped = ("AWS_", "PG", "AIRFLOW", "MLFLOW_", "GUNICORN_", "WEED_", "S3_")
    remaining = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    bypass = ",".join(filter(None, [remaining.get("NO_PROXY") or remaining.get("no_proxy"), "127.0.0.1,localhost"]))
    return remaining | {"NO_PROXY": bypass, "no_proxy": bypass}


def forget_ambient_stack(environment: MutableMapping[str, str]) -> None:
    """Remove the variables that `make env` prints from an environment, for tests and benchmarks, which must not use
    a stack that they did not start."""
    for name in [name for name in environment if name.startswith(STACK_VARIABLES) and name not in NO_STACK_VARIABLES]:
        del environment[name]
