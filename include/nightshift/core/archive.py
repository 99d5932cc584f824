"""A zip archive that is the same, byte for byte, whenever and wherever it is made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

FIRST_MOMENT_OF_ZIP = (1980, 1, 1, 0, 0, 0)
READABLE_BY_ALL = 0o100644 << 16


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """The files by path as one zip, sorted by path, without times.

    Not compressed: what a compressor makes of the same bytes depends on its version.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path, body in sorted(files.items()):
            entry = zipfile.ZipInfo(path, FIRST_MOMENT_OF_ZIP)
            entry.external_attr = READABLE_BY_ALL
            entry.create_system = 3
            archive.writestr(entry, body)
    return sink.getvalue()
