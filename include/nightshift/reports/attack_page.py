"""The results of attacks as one self-contained HTML page."""

from __future__ import annotations

from nightshift.documents.attack import AttackReport
from nightshift.reports.page import render_page


def render(report: AttackReport, title: str) -> bytes:
    """The page as HTML bytes. Equal inputs give equal bytes."""
    return render_page("attack.html.j2", report=report, title=f"{title}: attacks")
