"""Write docs/dags/<stage>.md from nightshift.pipeline and docstrings. `make docs` runs it, a test checks."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from nightshift.pipeline import find_stage, step_module

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = ROOT / "include"
PAGES = ROOT / "docs" / "dags"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def page(path: Path) -> str:
    """The Markdown page of one DAG file."""
    lines = [
        f"<!-- Generated from dags/{path.name} by `make docs`. Edit the docstrings. -->",
        "",
        f"# `<use case>.{path.stem}`",
        "",
        _docstring(path),
    ]
    stage = find_stage(path.stem)
    rows = [(step.name, ", ".join(f"`{earlier}`" for earlier in step.inputs.values())) for step in stage.steps]
    if stage.records_failure:
        rows.append(("record_failure", "any step that failed"))
    if rows:
        lines += ["", "| step | reads | what it does |", "|---|---|---|"]
    for name, inputs in rows:
        module = f"{step_module(name).replace('.', '/')}.py"
        summary = " ".join(_docstring(INCLUDE / module).split("\n\n")[0].split())
        lines.append(f"| [`{name}`](../../include/{module}) | {inputs} | {summary} |")
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
