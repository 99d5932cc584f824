"""What artifacts are written from: bytes, or local files, which are never in memory as a whole.

Put here: what treats the two alike. Keep out: the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nightshift.artifact import sha256_hex

Content = bytes | Path


@contextmanager
def content_opened(content: Content) -> Iterator[bytes | BinaryIO]:
    """The content as the body of a request."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        yield file


def content_sha256(content: Content) -> str:
    """SHA-256 in hexadecimal."""
    if isinstance(content, bytes):
        return sha256_hex(content)
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_size(content: Content) -> int:
    """Its number of bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
