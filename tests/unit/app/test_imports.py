"""What a first view of the app waits for."""

from __future__ import annotations

import json
import subprocess
import sys

from nightshift.app.page import PAGES

HEAVY = {"numpy", "pandas", "pyarrow", "matplotlib", "duckdb", "sklearn", "feast", "great_expectations", "mlflow"}


def test_no_page_imports_a_data_library() -> None:
    names = [name or "overview" for name, _ in PAGES] + ["application", "use_cases", "night", "drift_column"]
    program = (
        "import importlib, json, sys\n"
        f"[importlib.import_module('nightshift.app.' + name) for name in {names}]\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout)) == set()
