"""Checks that a use case's declaration is complete and consistent, without data and without any service.

`check` lists every fault with its file, its line if known, and what to do. It loads the declaration, looks for the
files that it names, binds each SQL file against empty tables, and compares Feast definitions, expectations, specs,
names and policies with it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import pyarrow as pa

from nightshift.core.checks.declaration_checks import Problem, name_problems, policy_problems, spec_problems
from nightshift.core.checks.sql_contracts import feature_faults, normalise_contract, returned_columns, spine_contracts
from nightshift.declare import features, feeds, models, policies
from nightshift.declare.discovery import load_use_case, raised_at, use_case_file
from nightshift.declare.use_case import UseCase
from nightshift.errors import FeatureContractError

REFERENCE = "docs/reference.md lists what each declaration takes."


@dataclass(frozen=True)
class Fault:
    """A fault of a use case: its file and line (None: not known), and what to do."""

    file: str
    line: int | None
    what: str
    advice: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.what} {self.advice}"


def check(name: str) -> list[Fault]:
    """Every fault of the use case of that name, in the order of its files. Raises UnknownUseCase.

    A declaration that cannot be loaded has one fault, since Python stops at the first.
    """
    path = use_case_file(name)
    try:
        use_case = load_use_case(name)
    except Exception as error:  # noqa: BLE001 - whatever a declaration raises is its fault
        return [_load_fault(path, error)]
    return check_declared(use_case)


def check_declared(use_case: UseCase) -> list[Fault]:
    """Every fault of a declaration that was loaded."""
    problems = [*name_problems(use_case), *spec_problems(use_case), *policy_problems(use_case)]
    faults = [*_missing_files(use_case), *from_problems(use_case, problems)]
    faults += [Fault(str(one.file), one.line, one.what, one.advice) for one in feature_faults(use_case)]
    columns: dict[str, list[str]] = {}
    contracts = {feed.name: normalise_contract(feed) for feed in use_case.feeds}
    for contract in [*contracts.values(), *spine_contracts(use_case)]:
        if contract.file.is_file():
            schema, sql_faults = returned_columns(contract, use_case)
            faults += [Fault(str(one.file), one.line, one.what, one.advice) for one in sql_faults]
            columns |= {name: schema.names for name, one in contracts.items() if one is contract}
    faults += _expectation_faults(use_case, columns)
    if use_case.feature_repo.is_file():
        faults += _feast_faults(use_case)
    return faults


def from_problems(use_case: UseCase, problems: Iterable[Problem]) -> list[Fault]:
    """The problems as faults, with the file and line of the declaration that they name."""
    return [Fault(*declared_at(use_case.folder, *one.at), one.what, one.advice) for one in problems]


def declared_at(folder: Path, *texts: str) -> tuple[str, int | None]:
    """File and line of the first of these texts in a use case's Python files, as a string or an argument name.

    The declaration's file without a line if none occurs.
    """
    files = [folder / "use_case.py", *sorted(set(folder.glob("*.py")) - {folder / "use_case.py"})]
    for text in texts:
        for path in files:
            if line := _first_lines(path).get(text):
                return str(path), line
    return str(files[0]), None


@cache
def _first_lines(path: Path) -> dict[str, int]:
    """String constants and argument names of a Python file, with the first line of each; {} if it does not parse."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:
        return {}
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else node.arg if isinstance(node, ast.keyword) else None
        if isinstance(text, str) and isinstance(node, ast.Constant | ast.keyword):
            lines[text] = min(node.lineno, lines.get(text, node.lineno))
    return lines


def _load_fault(path: Path, error: Exception) -> Fault:
    file, line = raised_at(error, path.parent)
    advice = REFERENCE
    if isinstance(error, SyntaxError):
        advice = "Correct the Python of this line."
    elif isinstance(error, ModuleNotFoundError):
        advice = "Correct the import."
    elif unexpected := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)):
        names = _arguments(unexpected[1])
        near = get_close_matches(unexpected[2], names, 1)
        advice = f"{f'Did you mean {near[0]}? ' if near else ''}{unexpected[1]} takes {', '.join(names)}."
    if file:
        # In a long statement, the line that contains a name from the message is more precise.
        written = _first_lines(Path(file))
        lines = [written[text] for text in re.findall(r"'([^']+)'", str(error)) if text in written]
        line = next((one for one in lines if line is None or one >= line), line)
    what = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return Fault(file or str(path), line, f"{type(error).__name__}: {what.rstrip('.')}.", advice)


def _arguments(name: str) -> list[str]:
    """Argument names of a declaration class; [] if there is no such class."""
    modules = (feeds, features, policies, models)
    declared = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
    return [one.name for one in fields(declared)] if is_dataclass(declared) else []


def _missing_files(use_case: UseCase) -> Iterator[Fault]:
    features = use_case.features
    declared = {
        **{feed.normalise: f"the normalise SQL of feed {feed.name}" for feed in use_case.feeds},
        features.prelude: "the prelude",
        **{table.sql: f"the SQL of feature table {table.name}" for table in features.tables},
        use_case.training_spine: "the training spine",
        use_case.scoring_spine: "the scoring spine",
    }
    for path, what in declared.items():
        if not path.is_file():
            file, line = declared_at(use_case.folder, path.name)
            yield Fault(file, line, f"{what} is declared as {path}, but there is no such file.", "Write it there.")
    if not use_case.feature_repo.is_file():
        advice = (
            f"Write two lines: from {use_case.name}.use_case import USE_CASE, and "
            "globals().update(feast_definitions(USE_CASE)), from nightshift.io.feast.definitions."
        )
        yield Fault(str(use_case.feature_repo), None, "There are no Feast definitions: this file is missing.", advice)


def _expectation_faults(use_case: UseCase, columns: dict[str, list[str]]) -> Iterator[Fault]:
    """Faults of the expectations of feeds whose SQL can be bound; the columns of other feeds are not known."""
    from nightshift.io.expectations import declaration_faults

    columns_of = {feed.name: columns.get(feed.name) or [one.name for one in feed.curated] for feed in use_case.feeds}
    for feed in use_case.feeds:
        for expectation, what in declaration_faults(use_case, feed, columns_of) if columns.get(feed.name) else ():
            advice = f"Correct the expectation with the reason {expectation.reason!r} of feed {feed.name}."
            yield Fault(*declared_at(use_case.folder, expectation.reason, expectation.type), what, advice)


def _feast_faults(use_case: UseCase) -> list[Fault]:
    """Feature services, views, join keys and features that differ from the declaration."""
    from nightshift.io.feast.feature_store import declared_views

    repo = use_case.feature_repo
    derive = "Bind what nightshift.io.feast.definitions.feast_definitions(USE_CASE) returns."
    specs = (use_case.champion, use_case.fallback, *use_case.challengers)
    services = {"": (repo.parent, repo.stem)} | {one.feature_service: (use_case.folder, one.name) for one in specs}
    faults = []
    for service in services:
        try:
            views = declared_views(use_case, service)
        except FeatureContractError as error:
            where = declared_at(use_case.folder, service) if service else (str(repo), None)
            faults.append(Fault(*where, str(error), f"Name a service that the file defines. {derive}"))
            continue
        except Exception as error:  # noqa: BLE001 - whatever a definitions file raises is its fault
            file, line = raised_at(error, repo.parent)
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return [Fault(file or str(repo), line, f"The Feast definitions cannot be loaded: {what}.", derive)]
        if service:
            continue
        for table in use_case.features.tables:
            declared = dict.fromkeys((*table.join_keys, *table.categorical), pa.string())
            declared |= dict.fromkeys(table.numeric, pa.float64())
            view = views.pop(table.name, None)
            if view is None:
                what = f"Feature table {table.name} has no feature view in the service."
            elif view.join_keys != table.join_keys:
                what = f"View {table.name} has the join keys {view.join_keys}, but {table.join_keys} are declared."
            elif different := [n for n in {**declared, **view.fields} if declared.get(n) != view.fields.get(n)]:
                what = f"View {table.name} differs from its feature table in {', '.join(different)}."
            else:
                continue
            faults.append(Fault(str(repo), None, what, derive))
        faults += [Fault(str(repo), None, f"View {name} has no feature table.", derive) for name in views]
    return faults
