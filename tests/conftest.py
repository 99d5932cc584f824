"""Hides every stack that the tests did not start, and marks every test by the folder it is in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightshift.local.layout import FOLDER_VARIABLE
from nightshift.local.processes import forget_ambient_stack

TESTS = Path(__file__).parent
KINDS = ("unit", "dags", "integration", "e2e", "compose")
LONGEST = (
    "e2e/test_two_nights.py",
    "e2e/test_app.py",
    *(
        f"integration/test_{name}.py"
        for name in ("training_nights", "chaos", "reproduce", "nights", "dry_run", "search")
    ),
)
"""Files with minutes of work: they come first, so that no worker is left alone with one at the end."""


def pytest_configure() -> None:
    forget_ambient_stack(os.environ)
    # Without the variable, the project's own stack would be found. Nothing can be made below this one.
    os.environ[FOLDER_VARIABLE] = f"{os.devnull}/no-stack"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = item.path.relative_to(TESTS).parts[0]
        if kind not in KINDS:
            raise pytest.UsageError(f"{item.path} is in none of tests/{{{','.join(KINDS)}}}: move it.")
        item.add_marker(kind)
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    path = item.path.relative_to(TESTS).as_posix()
    return LONGEST.index(path) if path in LONGEST else len(LONGEST)
