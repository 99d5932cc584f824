"""The report pages: which partitions have which reports, and the files, from the object store."""

from __future__ import annotations

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
    Report("Attacks", "attack", "attacks.html"),
    Report("Reproduction of training", "reproduce", "reproduction.html", "training"),
    Report("Reproduction of prediction", "reproduce", "reproduction.html", "prediction"),
    Report("Search", "report_search", "search.html"),
)

PARTITIONS_SHOWN = 60


def addresses(store: ArtifactStore, use_case: UseCase, reports: tuple[Report, ...]) -> dict[str, list[str]]:
    """By partition, the newest first: `files/<use case>/<report's address>/<partition>/<first page>` of each report,
    or "" if the partition has none."""
    steps = {report.step for report in reports}
    by_step = {step: set(store.folders(store.step_prefix(use_case.name, step))) for step in steps}
    newest = sorted(set().union(*by_step.values()), reverse=True)[:PARTITIONS_SHOWN]

    def address(report: Report, partition: str) -> str:
        day, variant = parse_partition(partition), report.variant
        made = partition in by_step[report.step]
        if not made or (variant and not store.decision(use_case.name, report.step, day, variant=variant)):
            return ""
        return f"files/{use_case.name}/{report.address}/{partition}/{report.page}"

    return {partition: [address(report, partition) for report in reports] for partition in newest}


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
