"""The report pages: an index of partitions with links to their reports, and the files, from the object store."""

from __future__ import annotations

import html
import mimetypes
from dataclasses import dataclass

from nightshift.declare.use_case import UseCase
from nightshift.errors import UnknownUseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import parse_partition


@dataclass(frozen=True)
class Report:
    """A report: its title, the step that commits it, and its first page below the artifact."""

    title: str
    step: str
    page: str
    variant: str = ""

    @property
    def address(self) -> str:
        """Its name in links."""
        return f"{self.step}-{self.variant}" if self.variant else self.step


NIGHTLY = (
    Report("Data Docs", "validate", "data_docs/index.html"),
    Report("Model card", "report_training", "card.html"),
    Report("Drift report", "report_drift", "report.html"),
)
ON_DEMAND = (
    Report("Backtest", "backtest", "backtest.html"),
    Report("Reproduction of training", "reproduce", "reproduction.html", "training"),
    Report("Reproduction of prediction", "reproduce", "reproduction.html", "prediction"),
    Report("Search", "report_search", "search.html"),
)

PARTITIONS_SHOWN = 60

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Nightshift reports</title><style>
body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2733;background:#fff}}
table{{border-collapse:collapse;width:100%}}
th,td{{text-align:left;padding:.45rem .8rem;border-bottom:1px solid #dde3ea}}
th{{color:#5a6b7d;font-weight:600}}a{{color:#0b62c4;text-decoration:none}}a:hover{{text-decoration:underline}}
p{{color:#5a6b7d}}</style></head><body>{body}</body></html>"""


def index_page(store: ArtifactStore, use_cases: list[UseCase]) -> str:
    """HTML: for each use case its newest partitions, newest first, with links to their nightly reports,
    then the reports on demand.

    Links are relative: `files/<use case>/<report's address>/<partition>/<first page>`.
    """
    parts = []
    for use_case in use_cases:
        nightly = _table(store, use_case, NIGHTLY)
        on_demand = _table(store, use_case, ON_DEMAND)
        parts.append(
            f"<h1>{html.escape(use_case.title)}</h1>"
            + (nightly or "<p>No nights yet: trigger backfill_history, or backfill ingest.</p>")
            + (f"<h2>On-demand reports</h2>{on_demand}" if on_demand else "")
        )
    return _PAGE.format(body="".join(parts))


def _table(store: ArtifactStore, use_case: UseCase, reports: tuple[Report, ...]) -> str:
    """The newest partitions with any of the reports, a column each; "" if there are none."""
    steps = {report.step for report in reports}
    by_step = {step: set(store.folders(store.step_prefix(use_case.name, step))) for step in steps}
    newest = sorted(set().union(*by_step.values()), reverse=True)[:PARTITIONS_SHOWN]
    if not newest:
        return ""
    heads = "".join(f"<th>{html.escape(report.title)}</th>" for report in reports)
    rows = "".join(
        f"<tr><td>{html.escape(partition)}</td>"
        + "".join(f"<td>{_link(store, use_case, report, partition, by_step[report.step])}</td>" for report in reports)
        + "</tr>"
        for partition in newest
    )
    return f"<table><thead><tr><th>Partition</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _link(store: ArtifactStore, use_case: UseCase, report: Report, partition: str, present: set[str]) -> str:
    day, variant = parse_partition(partition), report.variant
    if partition not in present or (variant and not store.decision(use_case.name, report.step, day, variant=variant)):
        return "-"
    return f'<a href="files/{use_case.name}/{report.address}/{partition}/{report.page}">open</a>'


def report_file(
    store: ArtifactStore, use_cases: list[UseCase], use_case: str, step: str, partition: str, path: str
) -> tuple[bytes, str] | None:
    """A file of the current report of a partition, with its media type; None if there is none.

    Only files that the artifact's manifest names are read. Raises UnknownUseCase for an unregistered
    use case and ConfigurationError for an invalid partition.
    """
    if use_case not in {u.name for u in use_cases}:
        raise UnknownUseCase("NS-USECASE-012", f"No use case is called {use_case!r}.")
    report = next((one for one in (*NIGHTLY, *ON_DEMAND) if one.address == step), None)
    if report is None:
        return None
    decision = store.decision(use_case, report.step, parse_partition(partition), variant=report.variant)
    if decision is None or decision.ref is None:
        return None
    if path not in {entry.path for entry in store.manifest(decision.ref).files}:
        return None
    return store.read(decision.ref, path), mimetypes.guess_type(path)[0] or "application/octet-stream"
