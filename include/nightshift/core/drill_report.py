"""The report of a drill of the kill switch as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

TEMPLATE = Path(__file__).with_name("drill_report.html.j2")


def render(drill: Mapping[str, Any], *, title: str) -> bytes:
    """The page for what `drill_kill_switch` found (drill.json). Equal drills give equal pages."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(drill=drill, title=title).encode()
