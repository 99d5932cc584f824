"""Starting, finding and stopping processes."""

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from nightshift.errors import ConfigurationError
from nightshift.local import processes
from nightshift.local.processes import ProcessRecord
from support.errors import raises_code

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time, signal\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
    " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)",
]


def start(command, tmp_path):
    tmp_path.mkdir(exist_ok=True)
    log = tmp_path / "log"
    record = processes.spawn(command, log=log, env=os.environ, cwd=tmp_path)
    processes.wait_until(lambda: log.read_text() != "", record=record, name="it", log=log, timeout=20)
    return record, log


def test_stop_ends_the_process_and_a_second_stop_finds_nothing(tmp_path):
    record, _ = start(SLEEPER, tmp_path)
    assert processes.find(record) is not None
    assert processes.stop(record)
    assert processes.find(record) is None
    assert not processes.stop(record)


def test_a_process_that_ignores_the_request_is_killed(tmp_path):
    record, _ = start(STUBBORN, tmp_path)
    assert processes.stop(record, timeout=0.3)
    assert processes.find(record) is None


def test_stop_leaves_no_children_behind(tmp_path):
    record, log = start(PARENT, tmp_path)
    child = int(log.read_text())
    assert processes.stop(record)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_what_a_killed_process_left_behind_is_found_and_stopped(tmp_path):
    record, log = start(PARENT, tmp_path)
    child = int(log.read_text())
    os.kill(record.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(record.pid)], timeout=5)
    assert processes.find(record) is None
    assert [process.pid for process in processes.session(record)] == [child]
    assert processes.stop(record)
    assert processes.session(record) == []
    assert not processes.stop(record)


def test_a_recycled_process_id_is_not_ours(tmp_path):
    record, _ = start(SLEEPER, tmp_path)
    earlier = ProcessRecord(pid=record.pid, start="an earlier one", created=record.created - 3600)
    assert processes.find(earlier) is None
    assert not processes.stop(earlier)
    assert processes.find(record) is not None
    processes.stop(record)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there the kernel keeps the creation time")
def test_a_change_of_the_clock_loses_no_process(tmp_path, monkeypatch):
    record, _ = start(SLEEPER, tmp_path)
    # On Linux, psutil adds the time since the boot to the time of the boot, which moves with the clock.
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: record.created + 60)
    assert processes.stop(record)
    assert processes.find(record) is None


def test_a_process_that_was_killed_is_seen_as_gone(tmp_path):
    record, _ = start(SLEEPER, tmp_path)
    os.kill(record.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(record.pid)], timeout=5)
    assert processes.find(record) is None


def test_the_next_start_reaps_a_killed_process(tmp_path):
    killed, _ = start(SLEEPER, tmp_path / "killed")
    os.kill(killed.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(killed.pid)], timeout=5)
    other, _ = start(SLEEPER, tmp_path / "other")
    processes.stop(other)
    # Else Python warns at exit of a process that it believes to be running.
    assert not processes._children.keys() & {killed.pid, other.pid}


def test_process_that_dies_shows_the_end_of_its_log(tmp_path):
    log = tmp_path / "log"
    record = processes.spawn(
        [sys.executable, "-c", "print('disk is on fire'); raise SystemExit(3)"], log=log, env=os.environ, cwd=tmp_path
    )
    with raises_code(ConfigurationError, "NS-LOCAL-020", "disk is on fire"):
        processes.wait_until(lambda: False, record=record, name="it", log=log, timeout=20)


def test_waiting_has_an_end(tmp_path):
    record, log = start(SLEEPER, tmp_path)
    with raises_code(ConfigurationError, "NS-LOCAL-021"):
        processes.wait_until(lambda: False, record=record, name="it", log=log, timeout=0.2)
    processes.stop(record)


def test_a_missing_program_is_named(tmp_path):
    with raises_code(ConfigurationError, "NS-LOCAL-019", "no-such-program"):
        processes.spawn([tmp_path / "no-such-program"], log=tmp_path / "log", env={}, cwd=tmp_path)


def test_a_busy_port_is_not_free_and_its_holder_is_named():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not processes.port_is_free(port)
        assert f"(pid {os.getpid()})" in processes.port_holder(port)
    assert processes.port_is_free(port)


def test_free_ports_are_distinct_and_free_with_their_offset():
    ports = processes.free_ports(5, also=10_000)
    assert len(set(ports)) == 5
    assert all(processes.port_is_free(p) and processes.port_is_free(p + 10_000) for p in ports)


def test_base_environment_drops_settings_and_proxies(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("NIGHTSHIFT_THREADS", "3")
    monkeypatch.setenv("NO_PROXY", "intranet")
    environment = processes.base_environment()
    assert not {"AWS_PROFILE", "PGHOST", "AIRFLOW__CORE__EXECUTOR"} & set(environment)
    assert environment["NIGHTSHIFT_THREADS"] == "3"
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def test_tail_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert processes.tail(log) == ""
    log.write_text("".join(f"line {n}\n" for n in range(1000)))
    assert processes.tail(log, lines=2) == "    line 998\n    line 999"
