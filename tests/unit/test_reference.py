"""docs/reference.md says what the declarations say, and docs/your-use-case.md uses commands that there are."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from nightshift import cli
from support.second_use_case import ROOT as SECOND

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_up_to_date(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_USE_CASE_ROOTS", str(SECOND))
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run `make docs`"


@pytest.mark.parametrize("page", ["docs/your-use-case.md", "README.md"])
def test_commands_of_a_page_parse(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.findall(r"^\.venv/bin/nightshift ([^#\n|]+)", text, re.MULTILINE)
    assert commands
    for command in commands:
        cli._parser().parse_args(command.split())
