"""Checks that a use case's declaration is complete and consistent, without data and without any service.

`check` lists every fault with its file, its line if known, and what to do. It loads the declaration, looks for the
files that it names, binds each SQL file against empty tables, and compares Feast definitions, expectations, specs,
names and policies with it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import pyarrow as pa

from nightshift.core.checks.declaration_checks import name_faults, policy_faults, spec_faults
from nightshift.core.checks.faults import DeclarationFault, Fault
from nightshift.core.checks.rule_checks import rule_faults
from nightshift.core.checks.sql_contracts import feature_faults, normalise_contract, returned_columns, spine_contracts
from nightshift.declare import features, feeds, models, policies, predictions, rules
from nightshift.declare.discovery import load_use_case, raised_at, use_case_file
from nightshift.declare.use_case import UseCase
from nightshift.errors import FeatureContractError, NightshiftError

REFERENCE = "docs/reference.md lists what each declaration takes."


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
    declared = [*name_faults(use_case), *spec_faults(use_case), *policy_faults(use_case), *rule_faults(use_case)]
    faults = [*_missing_files(use_case), *located(use_case, declared), *feature_faults(use_case)]
    columns: dict[str, list[str]] = {}
    contracts = {feed.name: normalise_contract(feed) for feed in use_case.feeds}
    for contract in [*contracts.values(), *spine_contracts(use_case)]:
        if contract.file.is_file():
            schema, sql_faults = returned_columns(contract, use_case)
            faults += sql_faults
            columns |= {name: schema.names for name, one in contracts.items() if one is contract}
    faults += _expectation_faults(use_case, columns)
    if use_case.feature_repo.is_file():
        faults += _feast_faults(use_case)
    return faults


def located(use_case: UseCase, faults: Iterable[DeclarationFault]) -> list[Fault]:
    """The faults with the file and line of the declaration that they name."""
    return [Fault(one.code, one.what, one.advice, *declared_at(use_case.folder, *one.at)) for one in faults]


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
    if isinstance(error, SyntaxError):
        what = f"It is not Python: {error.msg}."
        return Fault("NS-USECASE-050", what, "Correct this line.", file or str(path), line)
    if isinstance(error, ImportError):
        what = f"An import fails: {error}."
        return Fault("NS-USECASE-051", what, "Correct the import.", file or str(path), line)
    advice = REFERENCE
    if unexpected := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)):
        names = _arguments(unexpected[1])
        near = get_close_matches(unexpected[2], names, 1)
        advice = f"{f'Did you mean {near[0]}? ' if near else ''}{unexpected[1]} takes {', '.join(names)}."
    if file:
        # In a long statement, the line that contains a name from the message is more precise.
        written = _first_lines(Path(file))
        lines = [written[text] for text in re.findall(r"'([^']+)'", str(error)) if text in written]
        line = next((one for one in lines if line is None or one >= line), line)
    if isinstance(error, NightshiftError):
        if not file:
            # Raised when it is compared with the use cases that it reads: the message quotes what is declared.
            file, line = declared_at(path.parent, *re.findall(r"'([^']+)'", error.message))
        return Fault(error.code, error.message, advice, file or str(path), line)
    what = f"Loading it raises {type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}."
    return Fault("NS-USECASE-052", what, advice, file or str(path), line)


def _arguments(name: str) -> list[str]:
    """Argument names of a declaration class; [] if there is no such class."""
    modules = (feeds, features, policies, models, predictions, rules)
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
            missing = f"{what} is declared as {path}, but there is no such file."
            yield Fault("NS-USECASE-053", missing, "Write it there.", *declared_at(use_case.folder, path.name))
    if not use_case.feature_repo.is_file():
        advice = (
            f"Write two lines: from {use_case.name}.use_case import USE_CASE, and "
            "globals().update(feast_definitions(USE_CASE)), from nightshift.io.feast.definitions."
        )
        missing = "There are no Feast definitions: this file is missing."
        yield Fault("NS-USECASE-054", missing, advice, str(use_case.feature_repo))


def _expectation_faults(use_case: UseCase, columns: dict[str, list[str]]) -> Iterator[Fault]:
    """Faults of the expectations of feeds whose SQL can be bound; the columns of other feeds are not known."""
    from nightshift.io.expectations import declaration_faults

    columns_of = {feed.name: columns.get(feed.name) or [one.name for one in feed.curated] for feed in use_case.feeds}
    for feed in use_case.feeds:
        for expectation, error in declaration_faults(use_case, feed, columns_of) if columns.get(feed.name) else ():
            advice = f"Correct the expectation with the reason {expectation.reason!r} of feed {feed.name}."
            at = declared_at(use_case.folder, expectation.reason, expectation.type)
            yield Fault(error.code, " ".join(error.message.split()), advice, *at)


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
            advice = f"Name a service that the file defines. {derive}"
            faults.append(Fault(error.code, error.message, advice, *where))
            continue
        except Exception as error:  # noqa: BLE001 - whatever a definitions file raises is its fault
            file, line = raised_at(error, repo.parent)
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            what = f"The Feast definitions cannot be loaded: {why}."
            return [Fault("NS-USECASE-055", what, derive, file or str(repo), line)]
        if service:
            continue
        for table in use_case.features.tables:
            declared = dict.fromkeys((*table.join_keys, *table.categorical), pa.string())
            declared |= dict.fromkeys(table.numeric, pa.float64())
            view = views.pop(table.name, None)
            if view is None:
                what = f"Feature table {table.name} has no feature view in the service."
                faults.append(Fault("NS-USECASE-056", what, derive, str(repo)))
            elif view.join_keys != table.join_keys:
                what = f"View {table.name} has the join keys {view.join_keys}, but {table.join_keys} are declared."
                faults.append(Fault("NS-USECASE-057", what, derive, str(repo)))
            elif different := [n for n in {**declared, **view.fields} if declared.get(n) != view.fields.get(n)]:
                what = f"View {table.name} differs from its feature table in {', '.join(different)}."
                faults.append(Fault("NS-USECASE-058", what, derive, str(repo)))
        faults += [Fault("NS-USECASE-059", f"View {name} has no feature table.", derive, str(repo)) for name in views]
    return faults
