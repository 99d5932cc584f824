"""What the local stack remembers of services that died."""

import os
import signal
import sys

import psutil

from nightshift.local import layout as layouts
from nightshift.local import processes
from nightshift.local.layout import Layout, State
from nightshift.local.stack import STORES, Stack

SCHEDULER_WITH_A_WORKER = (
    "import subprocess, sys, time\n"
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
    "time.sleep(60)"
)


def test_workers_of_a_killed_scheduler_outlive_the_next_start_and_end_with_the_stack(tmp_path, monkeypatch):
    for variable in layouts.PORT_VARIABLES.values():
        monkeypatch.setenv(variable, "0")
    layout, said = Layout(tmp_path / "local"), []
    layout.folder.mkdir()
    command = [sys.executable, "-c", SCHEDULER_WITH_A_WORKER]
    scheduler = processes.spawn(command, log=layout.log("scheduler"), env=os.environ, cwd=tmp_path)
    log = layout.log("scheduler")
    processes.wait_until(lambda: log.read_text() != "", record=scheduler, name="scheduler", log=log, timeout=20)
    layout.save(State(processes={"scheduler": scheduler}))
    os.kill(scheduler.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(scheduler.pid)], timeout=5)

    stack = Stack(layout, say=said.append)
    stack._up(STORES, lambda *_: None)
    assert [worker.pid for worker in processes.session(scheduler)] == [int(log.read_text())]
    assert layout.state().dead == [scheduler]
    stack._up(STORES, lambda *_: None)
    assert layout.state().dead == [scheduler]

    stack.down()
    assert processes.session(scheduler) == []
    assert layout.state().dead == []
    assert "Stopped processes that services left behind when they died." in said
