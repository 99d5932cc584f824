"""Errors by their codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nightshift.errors import NightshiftError


@contextmanager
def raises_code(kind: type[NightshiftError], code: str, *values: object) -> Iterator[pytest.ExceptionInfo]:
    """The block raises an error of that kind with that code, whose message names each of the values."""
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.code == code, str(caught.value)
    missing = [value for value in values if str(value) not in caught.value.message]
    assert not missing, f"{missing} not in: {caught.value.message}"
