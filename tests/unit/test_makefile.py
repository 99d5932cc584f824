"""What targets of the Makefile promise beyond the commands they run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path):
    """Runs `make bench` in a project with other benchmarks, each given by its exit status."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements-dev.txt", "pyproject.toml", ".venv/.installed"):  # the environment is up to date
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(*statuses):
        (tmp_path / "benchmarks").mkdir()
        for number, status in enumerate(statuses):
            text = f"print('measured {number}')\nraise SystemExit({status})\n"
            (tmp_path / "benchmarks" / f"b{number}.py").write_text(text, encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        command = ["make", "bench", f"BIN={Path(sys.executable).parent}"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    ("statuses", "failed"), [((0, 0), []), ((1, 0, 2, 0), [0, 2]), ((0, 1), [1])], ids=["none", "earlier", "last"]
)
def test_bench_runs_every_benchmark_and_fails_if_any_did(bench, statuses, failed):
    done = bench(*statuses)
    assert done.stdout.splitlines() == [
        line for n in range(len(statuses)) for line in (f"== benchmarks/b{n}.py", f"measured {n}")
    ]
    assert (done.returncode != 0) == bool(failed), done.stderr
    assert [n for n in range(len(statuses)) if f"benchmarks/b{n}.py failed" in done.stderr] == failed
