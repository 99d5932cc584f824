"""The pages a person reads: an index of the nights with the reports each left, from the object store."""

from __future__ import annotations

import html
import mimetypes

from nightshift.errors import UnknownUseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.usecase import UseCase, parse_partition

REPORTS = (
    ("validate", "Data Docs", "data_docs/index.html"),
    ("register", "Candidates", "pareto.html"),
    ("register", "Model card", "card.html"),
    ("judge_trial", "Trial", "trial.html"),
    ("report_drift", "Drift report", "report.html"),
)
"""Step, what a person calls its report, and the report's first page below the artifact."""

NIGHTS_SHOWN = 60

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Nightshift reports</title><style>
body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2733;background:#fff}}
table{{border-collapse:collapse;width:100%}}
th,td{{text-align:left;padding:.45rem .8rem;border-bottom:1px solid #dde3ea}}
th{{color:#5a6b7d;font-weight:600}}a{{color:#0b62c4;text-decoration:none}}a:hover{{text-decoration:underline}}
p{{color:#5a6b7d}}</style></head><body>{body}</body></html>"""


def index_page(store: ArtifactStore, use_cases: list[UseCase]) -> str:
    """HTML: for each use case its newest nights, newest first, with links to their reports.

    Links are relative: `files/<use case>/<step>/<partition>/<first page>`.
    """
    parts = []
    for use_case in use_cases:
        nights = {step: set(store.folders(store.step_prefix(use_case.name, step))) for step, _, _ in REPORTS}
        newest = sorted(set().union(*nights.values()), reverse=True)[:NIGHTS_SHOWN]
        heads = "".join(f"<th>{html.escape(title)}</th>" for _, title, _ in REPORTS)
        rows = "".join(
            f"<tr><td>{html.escape(night)}</td>"
            + "".join(
                f'<td><a href="files/{use_case.name}/{step}/{night}/{page}">open</a></td>'
                if night in nights[step]
                else "<td>-</td>"
                for step, _, page in REPORTS
            )
            + "</tr>"
            for night in newest
        )
        parts.append(
            f"<h1>{html.escape(use_case.title)}</h1>"
            + (
                f"<p>The newest {len(newest)} nights.</p>"
                f"<table><thead><tr><th>Partition</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
                if newest
                else "<p>No nights yet: trigger backfill_history, or backfill ingest.</p>"
            )
        )
    return _PAGE.format(body="".join(parts))


def report_file(
    store: ArtifactStore, use_cases: list[UseCase], use_case: str, step: str, partition: str, path: str
) -> tuple[bytes, str] | None:
    """A file of the report that counts for a partition, with its media type; None if there is none.

    Only files that the artifact's manifest names are read. Raises UnknownUseCase for an unregistered
    use case and ConfigurationError for a partition that is none.
    """
    if use_case not in {u.name for u in use_cases}:
        raise UnknownUseCase(f"No use case is called {use_case!r}.")
    if step not in {reported for reported, _, _ in REPORTS}:
        return None
    decision = store.decision(use_case, step, parse_partition(partition))
    if decision is None or decision.ref is None:
        return None
    if path not in {entry.path for entry in store.manifest(decision.ref).files}:
        return None
    return store.read(decision.ref, path), mimetypes.guess_type(path)[0] or "application/octet-stream"
