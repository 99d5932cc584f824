"""Partitions that a fault left behind: which to run again, whose deliveries changed, whose features are outdated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from nightshift.artifact import ArtifactRef, Decision
from nightshift.declare.feeds import Feed
from nightshift.declare.use_case import UseCase
from nightshift.documents.ingest import CatchUp
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.landing import delivered_files, unsettled_age
from nightshift.io.object_store import in_parallel
from nightshift.partitions import parse_partition
from nightshift.pipeline import find_stage
from nightshift.services.curated import STEP as PUBLISH
from nightshift.services.upstream import is_undecided
from nightshift.settings import Settings

STEP = "catch_up"
TRIES = 2
"""How often nights run a partition again: a fault that stays is left to a person."""

_UNDELIVERED = ("NS-LAND-020", "NS-UPSTREAM-009")


def why_again(
    settings: Settings, store: ArtifactStore, use_case: UseCase, window: Sequence[date], changed: Sequence[date]
) -> dict[date, str]:
    """The partitions of the window to ingest again, with the reason: those that a settled delivery is there for, and

    - that ingest did not decide, as while no scheduler ran, or rejected because a task failed, or nothing was there;
    - that ingest rejected because of their data, if the delivery is among `changed` since;
    - that materialize did not decide, or that it or predict rejected because a task failed.

    Left out are those that earlier nights ran again TRIES times.
    """
    stages = {name: find_stage(name).decided_by for name in ("ingest", "materialize", "predict")}
    statuses = {name: store.decisions(use_case.name, step, window) for name, step in stages.items()}
    earlier = _refs(store, use_case, STEP, window).values()
    documents = in_parallel(lambda ref: store.read_document(ref, CatchUp), earlier)
    reasons = {}
    for day in window:
        ingest, features, predict = (statuses[name][day] for name in stages)
        if reason := _reason(ingest, features, predict, delivered_again=day in changed):
            tries = sum(day in document.run_again for document in documents)
            if tries < TRIES and is_delivered(settings, store, use_case, day):
                reasons[day] = reason
    return reasons


def _reason(
    ingest: Decision | None, features: Decision | None, predict: Decision | None, *, delivered_again: bool
) -> str:
    if ingest is None:
        return "ingest did not decide it"
    if ingest.published is None:
        again = delivered_again or _failed(ingest) or ingest.reason.startswith(_UNDELIVERED)
        return ingest.reason if again else ""
    if features is None:
        return "materialize did not decide it"
    return next((one.reason for one in (features, predict) if one is not None and _failed(one)), "")


def _failed(decision: Decision) -> bool:
    """Whether it was rejected by record_failure, after a task failed, and not because of its data."""
    return decision.published is None and decision.ref is not None and decision.ref.kind == "failure"


def is_delivered(settings: Settings, store: ArtifactStore, use_case: UseCase, partition: date) -> bool:
    """Whether every feed has a complete, settled delivery for the partition, or is of predictions that are decided."""

    def has(feed: Feed) -> bool:
        if feed.source is not None:
            return not is_undecided(settings, store, feed.source, partition)
        _, files, complete = delivered_files(store, use_case, feed, partition)
        return complete and unsettled_age(store, feed, files, settings.settle_seconds) is None

    return all(map(has, use_case.feeds))


def changed_files(store: ArtifactStore, use_case: UseCase, partition: date) -> dict[str, str]:
    """The SHA-256 of landed files that were added or changed since the partition was landed, by uri; {} if it was not.

    Of a partition that was rejected while it was landed, those that came since. Files that are gone are left out:
    producers may remove what was read. Only files that were written since the landing began are read, in parts.
    """
    feeds = [feed for feed in use_case.feeds if feed.source is None]
    files = [info for feed in feeds for info in delivered_files(store, use_case, feed, partition)[1]]
    decision = store.decision(use_case.name, "land", partition)
    if decision is None or decision.published is None:
        rejected_at = _rejected_at(store, use_case, partition)
        known: dict[str, str] = {}
        since = [info for info in files if rejected_at is not None and info.modified > rejected_at]
    else:
        landed = store.manifest(decision.published)
        known = {ref.uri: ref.sha256 for refs in landed.inputs.values() for ref in refs}
        landed_at = next(one.modified for one in store.list(store.key(landed.ref.uri) + "manifest.json"))
        # The store's times are whole seconds.
        read_after = landed_at - timedelta(seconds=landed.attempt.seconds + 1)
        since = [info for info in files if info.modified >= read_after or store.uri(info.key) not in known]
    uris = sorted(store.uri(info.key) for info in since)
    hashes = zip(uris, in_parallel(lambda uri: store.sha256(store.key(uri)), uris), strict=True)
    return {uri: sha256 for uri, sha256 in hashes if sha256 is not None and sha256 != known.get(uri)}


def _rejected_at(store: ArtifactStore, use_case: UseCase, partition: date) -> datetime | None:
    """When ingest rejected a partition because of what was delivered; None if it did not."""
    decision = store.decision(use_case.name, PUBLISH, partition)
    if decision is None or decision.published or _failed(decision) or decision.reason.startswith(_UNDELIVERED):
        return None
    return store.decided_at(use_case.name, PUBLISH, partition)


def outdated_features(
    store: ArtifactStore, use_case: UseCase, partitions: Sequence[date]
) -> dict[date, tuple[date, ...]]:
    """Partitions with features, each with those of `partitions` that its features lack as they are published now."""
    lookback = timedelta(days=use_case.features.lookback_days)
    published = _refs(store, use_case, PUBLISH, partitions)
    if not published:
        return {}
    first, last = min(published), max(published) + lookback
    built = sorted(map(parse_partition, store.folders(store.step_prefix(use_case.name, "build_features"))))
    features = _refs(store, use_case, "build_features", [day for day in built if first < day < last])
    read = dict(zip(features, in_parallel(store.manifest, features.values()), strict=True))
    outdated = {}
    for day, manifest in read.items():
        used = {ref.sha256 for ref in manifest.inputs["curated"]}
        lacks = [one for one, ref in published.items() if one < day < one + lookback and ref.sha256 not in used]
        if lacks:
            outdated[day] = tuple(lacks)
    return outdated


def _refs(store: ArtifactStore, use_case: UseCase, step: str, partitions: Sequence[date]) -> dict[date, ArtifactRef]:
    statuses = store.decisions(use_case.name, step, partitions)
    return {day: one.published for day, one in statuses.items() if one is not None and one.published is not None}
