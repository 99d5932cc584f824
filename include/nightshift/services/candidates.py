"""The candidate specs of past searches, for backtests."""

from __future__ import annotations

from datetime import date

from nightshift.declare.models import ModelSpec
from nightshift.declare.use_case import UseCase
from nightshift.documents.search import Candidates
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import parse_partition


def candidate_specs(store: ArtifactStore, use_case: UseCase, as_of: date) -> dict[str, ModelSpec]:
    """Specs by id that failed no gate in a search up to partition `as_of`: newest search first, its choice first."""
    folders = store.folders(store.step_prefix(use_case.name, "report_search"))
    partitions = sorted((day for day in map(parse_partition, folders) if day <= as_of), reverse=True)
    decisions = store.decisions(use_case.name, "report_search", partitions)
    refs = [decision.ref for decision in decisions.values() if decision is not None and decision.ref is not None]
    specs: dict[str, ModelSpec] = {}
    for candidates in (store.read_document(ref, Candidates) for ref in refs):
        for one in candidates.specs:
            if not one.failed:
                specs.setdefault(one.spec.spec_id, one.spec)
    return specs
