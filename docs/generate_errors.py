"""Write docs/errors.md, the codes of all errors, from the calls in the source. `make docs` runs it, a test checks."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
SOURCES = ("include", "dags", "plugins", "feature_repo")
KINDS = {"TerminalError": "terminal", "TransientError": "transient", "NightshiftError": "of a command"}
"""The kind of an error, by the base class nearest to it."""
FAULTS = dict.fromkeys(("Fault", "DeclarationFault"), "fault")
"""What `nightshift check` finds, by class; its code and text are the first arguments, too."""


class Raised(NamedTuple):
    """A call of an error class. `code`: None if it is no literal; "" if the code of a caught error is passed on."""

    code: str | None
    error: str
    kind: str
    module: str
    line: int
    template: str


def raised() -> list[Raised]:
    """Every call of a class derived from NightshiftError in the source, in the order of modules and lines."""
    paths = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    bases = {
        node.name: ast.unparse(node.bases[0])
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.bases
    }
    kinds = {name: kind for name in bases if (kind := _kind(name, bases))} | FAULTS
    return [one for module, tree in trees.items() for one in _calls(module, tree, kinds, dict(_imported(tree, trees)))]


def _imported(tree: ast.Module, trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, ast.expr]]:
    """Names that a module imports from another of the source, with their expressions."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            source = trees.get(f"include/{node.module.replace('.', '/')}.py")
            names = {alias.name for alias in node.names}
            for one in source.body if source else ():
                if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) in names:
                    yield ast.unparse(one.targets[0]), one.value


def _kind(name: str, bases: Mapping[str, str]) -> str:
    """The kind of an error class; "" for another class."""
    while name not in KINDS and name in bases:
        name = bases[name]
    return KINDS.get(name, "")


def _calls(
    module: str, tree: ast.Module, kinds: Mapping[str, str], imported: Mapping[str, ast.expr]
) -> Iterator[Raised]:
    nodes = sorted((node for node in ast.walk(tree) if isinstance(node, ast.stmt)), key=lambda node: node.lineno)
    assigned = [node for node in nodes if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in kinds]
    for call in sorted(calls, key=lambda node: node.lineno):
        first, message = (*call.args, None, None)[:2]
        code = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
        if isinstance(first, ast.Attribute) and first.attr == "code":
            code = ""
        others = [one for one in functions if not _contains(one, call)]
        visible = [one for one in assigned if not any(_contains(other, one) for other in others)]
        known = dict(imported) | {ast.unparse(one.targets[0]): one.value for one in visible if one.lineno < call.lineno}
        error = ast.unparse(call.func)
        yield Raised(code, error, kinds[error], module, call.lineno, _template(message, known))


def _contains(function: ast.FunctionDef, node: ast.stmt | ast.expr) -> bool:
    return function.lineno <= node.lineno <= (function.end_lineno or 0)


def _template(value: ast.expr | None, known: Mapping[str, ast.expr]) -> str:
    """The text of a message; what it inserts is in braces, by its first name. `known`: the expressions of names."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.JoinedStr):
        return "".join(_template(part, known) for part in value.values)
    if isinstance(value, ast.FormattedValue):
        value = value.value
    if isinstance(value, ast.Name) and isinstance(text := known.get(value.id), ast.JoinedStr | ast.Constant):
        return _template(text, {name: one for name, one in known.items() if name != value.id})
    nodes = list(ast.walk(value)) if value else []
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    named = [
        ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute) and id(node) not in functions
    ]
    plain = [name for name in named if re.fullmatch(r"[\w.]+", name) and not hasattr(builtins, name)]
    return f"{{{plain[0] if plain else '…'}}}"


def page() -> str:
    """The whole page."""
    lines = [
        "<!-- Generated by `make docs`. Edit the messages where they are raised. -->",
        "",
        "# Errors",
        "",
        "Every error that Nightshift raises on purpose has a code, which stays when its message changes. It begins the "
        "message in logs, in the reason of a rejected partition and on the command line. A terminal error fails its "
        "task at once, since a retry would fail in the same way; a transient one is retried. A fault is what "
        "`nightshift check` finds in a use case, also the errors of loading it. Braces stand for values.",
    ]
    room = ""
    for one in sorted((one for one in raised() if one.code), key=lambda one: str(one.code)):
        if room != (room := str(one.code).split("-")[1]):
            lines += ["", f"## {room}", "", "| code | error | kind | module | message |", "|---|---|---|---|---|"]
        text = re.sub(r"([|<>])", r"\\\1", " ".join(one.template.split()))
        lines.append(f"| {one.code} | `{one.error}` | {one.kind} | `{one.module}` | {text} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.relative_to(ROOT)}\n")
