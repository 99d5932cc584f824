"""Write docs/dags/<stage>.md from the docstrings of DAG files and steps. `make docs` runs it, a test checks."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from nightshift.pipeline import step_module

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = ROOT / "include"
PAGES = ROOT / "docs" / "dags"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _steps_of(path: Path) -> list[str]:
    """Names of the steps a DAG file runs, in the order it names them."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    named = []
    for call in (call for call in calls if isinstance(call.func, ast.Name)):
        if call.func.id == "decide_on_failure":
            named.append((call.lineno, "record_failure"))
        elif call.func.id == "step" and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
            named.append((call.lineno, call.args[1].value))
    return [str(name) for _, name in sorted(named)]


def page(path: Path) -> str:
    """The Markdown page of one DAG file."""
    lines = [
        f"<!-- Generated from dags/{path.name} by `make docs`. Edit the docstrings. -->",
        "",
        f"# `<use case>.{path.stem}`",
        "",
        _docstring(path),
    ]
    if steps := _steps_of(path):
        lines += ["", "| step | what it does |", "|---|---|"]
        for name in steps:
            module = f"{step_module(name).replace('.', '/')}.py"
            summary = " ".join(_docstring(INCLUDE / module).split("\n\n")[0].split())
            lines.append(f"| [`{name}`](../../include/{module}) | {summary} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Every page by its path."""
    files = (path for path in sorted((ROOT / "dags").glob("*.py")) if path.stem != "broken_use_cases")
    return {PAGES / f"{path.stem}.md": page(path) for path in files}


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for target, text in pages().items():
        target.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {target.relative_to(ROOT)}\n")
