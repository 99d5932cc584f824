"""Pickles whose bytes depend on values alone, not on what else the process has imported.

Two things would make them differ. Pickle writes a string it has met before as a back reference and
knows strings by identity, and which equal strings are one object differs between processes. And
importing dill, as Feast does, changes how the standard library's pickler treats classes.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType, NoneType
from typing import Any, ClassVar

_STANDARD: Any = pickle._Pickler


class _ValuePickler(_STANDARD):
    """The standard library's pickler in Python, as it is without dill, taking equal strings for the same one."""

    dispatch: ClassVar[dict[type, Any]] = {
        NoneType: _STANDARD.save_none,
        bool: _STANDARD.save_bool,
        int: _STANDARD.save_long,
        float: _STANDARD.save_float,
        bytes: _STANDARD.save_bytes,
        bytearray: _STANDARD.save_bytearray,
        pickle.PickleBuffer: _STANDARD.save_picklebuffer,
        str: _STANDARD.save_str,
        tuple: _STANDARD.save_tuple,
        list: _STANDARD.save_list,
        dict: _STANDARD.save_dict,
        set: _STANDARD.save_set,
        frozenset: _STANDARD.save_frozenset,
        FunctionType: _STANDARD.save_global,
        type: _STANDARD.save_type,
    }

    def __init__(self, sink: io.BytesIO) -> None:
        super().__init__(sink, protocol=5)
        self._strings: dict[str, str] = {}

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is str:
            obj = self._strings.setdefault(obj, obj)
        super().save(obj, save_persistent_id)

    def save_bytearray(self, obj: bytes | bytearray) -> None:
        # The standard pickler gives the bytes of an array and takes them for new; those of all empty arrays, and of
        # all arrays of the same one byte, are one object.
        super().save_bytearray(bytearray(obj) if len(obj) <= 1 else obj)


def dumps(value: Any) -> bytes:
    """The value as a pickle: equal values built the same way give equal bytes, in every process."""
    sink = io.BytesIO()
    _ValuePickler(sink).dump(value)
    return sink.getvalue()
