"""Find and load use cases; report what is wrong with those that cannot be loaded."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from nightshift.declare.upstreams import check_upstreams
from nightshift.declare.use_case import UseCase
from nightshift.errors import ConfigurationError, UnknownUseCase

ROOTS_VARIABLE = "NIGHTSHIFT_USE_CASE_ROOTS"
USE_CASE_FILES = "include/*/use_case.py"
PROJECT_ROOT = Path(__file__).resolve().parents[3]


def use_case_roots() -> list[Path]:
    """Folders that hold `include/<use case>/use_case.py` and `feature_repo/<use case>.py`.

    The project itself, and every folder named in NIGHTSHIFT_USE_CASE_ROOTS (separated as in PATH).
    """
    extra = [Path(p) for p in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if p]
    return [PROJECT_ROOT, *extra]


def load_use_case(name: str) -> UseCase:
    """The use case of that name; of others, those are imported whose predictions it reads.

    Raises UnknownUseCase, ConfigurationError for a faulty declaration, and whatever importing its `use_case.py` raises.
    """
    return _load(use_case_file(name))


def all_use_cases() -> list[UseCase]:
    """Every use case that can be loaded, sorted by name; `broken_use_cases` reports the others."""
    return sorted(
        (_load(path) for path in _files().values() if _fault(path) is None), key=lambda use_case: use_case.name
    )


def broken_use_cases() -> dict[str, str]:
    """What is wrong, with file and line, by the path of each `use_case.py` or root that cannot be used."""
    faults = {str(path): _fault(path) for path in _files().values()}
    roots = {
        str(root): f"is in {ROOTS_VARIABLE} and has no include/<use case>/use_case.py"
        for root in use_case_roots()[1:]
        if not any(root.glob(USE_CASE_FILES))
    }
    return roots | {path: fault for path, fault in faults.items() if fault is not None}


def check_loadable(names: Collection[str] = ()) -> None:
    """Raise ConfigurationError if a use case, or one of those named, or a root cannot be used; and UnknownUseCase."""
    chosen = {str(use_case_file(name)) for name in names}
    broken = [f"{path}: {fault}" for path, fault in broken_use_cases().items() if not chosen or path in chosen]
    if broken:
        raise ConfigurationError("NS-USECASE-011", "; ".join(broken))


def load_fault(name: str) -> str | None:
    """Why the use case of that name cannot be loaded; None if it can. Raises UnknownUseCase."""
    return _fault(use_case_file(name))


def _files() -> dict[str, Path]:
    """The `use_case.py` of each use case by name; of two with one name, that of the first root."""
    files = [path for root in use_case_roots() for path in sorted(root.glob(USE_CASE_FILES))]
    return {path.parent.name: path for path in reversed(files)}


@cache
def _fault(path: Path) -> str | None:
    """Why a use case cannot be loaded: the error and the last line of its own folder that led to it."""
    return _raised(_load, path)


@cache
def _import_fault(path: Path) -> str | None:
    """The same for the file alone, without the use cases whose predictions it reads."""
    return _raised(_declared, path)


def _raised(load: Callable[[Path], UseCase], path: Path) -> str | None:
    try:
        load(path)
    except Exception as error:  # noqa: BLE001 - an error in one declaration must not stop other use cases
        file, line = raised_at(error, path.parent)
        where = f"{file}, line {line}: " if file else ""
        return f"{where}{type(error).__name__}: {error}"
    return None


def raised_at(error: BaseException, folder: Path) -> tuple[str, int | None]:
    """File and line of the last statement in a folder that led to an error; ("", None) if none there did."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if str(folder) in frame.filename]
    return (own[-1].filename, own[-1].lineno) if own else ("", None)


def use_case_file(name: str) -> Path:
    """The `use_case.py` of that name, whether it can be loaded or not. Raises UnknownUseCase."""
    files = _files()
    if name not in files:
        raise UnknownUseCase(
            "NS-USECASE-001",
            f"No use case is called {name!r}; known are {sorted(files)}. "
            f"A use case is a folder include/<name>/ with a use_case.py, here or below {ROOTS_VARIABLE}.",
        )
    return files[name]


@cache
def _load(path: Path) -> UseCase:
    declared = _declared(path)
    check_upstreams(declared, _find)
    return declared


def _find(name: str) -> UseCase | None:
    """The declaration of that name, its own upstreams unchecked; None if it cannot be imported."""
    path = use_case_file(name)
    return None if _import_fault(path) else _declared(path)


@cache
def _declared(path: Path) -> UseCase:
    include = str(path.parent.parent)
    if include not in sys.path:
        sys.path.append(include)
    module = importlib.import_module(f"{path.parent.name}.use_case")
    declared = getattr(module, "USE_CASE", None)
    if not isinstance(declared, UseCase):
        raise ConfigurationError(
            "NS-USECASE-002", f"{path} must bind USE_CASE to a nightshift.declare.use_case.UseCase."
        )
    if declared.name != path.parent.name:
        raise ConfigurationError(
            "NS-USECASE-003",
            f"{path} declares the name {declared.name!r}; it must be its folder's name, {path.parent.name!r}.",
        )
    return declared
