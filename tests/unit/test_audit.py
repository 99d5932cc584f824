"""`make audit` passes only what was looked up."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"name": "six", "version": "1.17.0", "vulns": []}
BAD = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-2020-1"}]}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("libraries", "status", "printed"),
    [
        ([GOOD], 0, "1 of 1 libraries were looked up"),
        ([GOOD, SKIPPED], 3, "Not looked up: numpy"),
        ([BAD, SKIPPED], 1, "old 1.0 is known to be vulnerable: PYSEC-2020-1"),
        ([], 3, "0 of 0 libraries"),
        (None, 3, "nothing was looked up"),
    ],
    ids=["all good", "one skipped", "vulnerable", "no libraries", "no result"],
)
def test_status_says_what_was_looked_up(script, capsys, libraries, status, printed) -> None:
    """pip-audit's own output in these cases; it exits with 0 in all but two of them."""
    output = "" if libraries is None else json.dumps({"dependencies": libraries})
    command = [sys.executable, "-c", f"print({output!r})"]
    assert script.audit(command) == status
    text = capsys.readouterr().out
    assert printed in text
    # The first lock of which something is not looked up is the last.
    assert len(script.LOCKS) > 1
    assert text.count(f"{script.LOCKS[1].name}:") == (status == 0)
