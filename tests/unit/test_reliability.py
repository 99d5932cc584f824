"""The page of promises names tests that exist; and what can be read off the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from nightshift.declare.discovery import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "reliability.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))


@cache
def functions(path: str) -> set[str]:
    tree = ast.parse((PROJECT_ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_named_tests_exist(path: str, name: str) -> None:
    assert name in functions(path)


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise ")]
    assert len(promises) > 30
    assert [row for row in promises if "::" not in row] == []


def test_no_step_opens_a_connection() -> None:
    """Transactions are those of one call of the warehouse: no step computes within one."""
    for path in Path(PROJECT_ROOT, "include", "nightshift", "steps").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
        assert not names & {"connect", "connection", "lock"}, path
