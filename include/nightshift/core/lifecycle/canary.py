"""Selection of a partition's canary rows: a function of each row's key alone, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SEPARATOR = "|"
HASH_BYTES = 8
MANTISSA_BITS = 53


def canary_bucket(key: str) -> float:
    """Map a prediction key's text to [0, 1): the first 8 bytes of its SHA-256 as a share of 2**64.

    Rounded down to float precision, so that no key maps to 1.
    """
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:HASH_BYTES], "big")
    return float((number >> (8 * HASH_BYTES - MANTISSA_BITS)) / 2**MANTISSA_BITS)


def key_texts(rows: pa.Table, key: Sequence[str]) -> list[str]:
    """Each row's key as text: its values in the key's order, joined by "|"; days as YYYY-MM-DD."""
    columns = [[str(value) for value in rows[name].to_pylist()] for name in key]
    return [SEPARATOR.join(values) for values in zip(*columns, strict=True)]


def canary_rows(rows: pa.Table, key: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Mask [n] of the canary rows: those whose key's bucket is below `share`."""
    if share <= 0:
        return np.zeros(rows.num_rows, dtype=np.bool_)
    return np.array([canary_bucket(text) < share for text in key_texts(rows, key)], dtype=np.bool_)
