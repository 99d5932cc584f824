"""Faults that `nightshift check` finds, each with a stable code as errors have: docs/errors.md lists both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault of a use case, how to correct it, its file and line (None: not known)."""

    code: str
    what: str
    advice: str
    file: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.code}: {self.what} {self.advice}".rstrip()


@dataclass(frozen=True)
class DeclarationFault:
    """A fault whose line is not known yet. `at`: texts or argument names of the declaration that locate it, best
    first."""

    code: str
    what: str
    advice: str
    at: tuple[str, ...]
