"""The list of reports: Data Docs, model cards, drift reports of each night, and those made by hand."""

from __future__ import annotations

from typing import Any

from nightshift.app.page import PageContext
from nightshift.services.report_pages import NIGHTLY, ON_DEMAND, addresses


def view(context: PageContext) -> dict[str, Any]:
    """Values of reports.html.j2."""
    return {
        "title": "Reports",
        "tables": [
            ("nightly", "Of each night", NIGHTLY, addresses(context.store, context.use_case, NIGHTLY)),
            ("by-hand", "On demand", ON_DEMAND, addresses(context.store, context.use_case, ON_DEMAND)),
        ],
    }
