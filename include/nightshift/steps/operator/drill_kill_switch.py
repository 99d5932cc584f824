"""Rehearse the kill switch on the newest published night, without touching what serves.

In a transaction that is undone: the switch is turned on, the model for the next partition must be the
fallback, it is loaded from the store and scores the night's stored features, its answers must pass
the audit that they would have to pass to be published, the switch is turned off again, and the model
of before must be back. If the switch is on for good, it is left on and only the rest is rehearsed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.artifact import ArtifactRef, canonical_json
from nightshift.core.drill_report import render
from nightshift.core.feature_computation import compute_spine
from nightshift.core.model_life import Life
from nightshift.core.onnx_model import Signature, load_session, score
from nightshift.core.score_audit import audit_scores
from nightshift.deployment import Deployment
from nightshift.errors import GateRejected, PartitionNotReady, StoreUnavailable, WarehouseUnavailable
from nightshift.io.alerts import send_alert
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.by_hand import switch_decision
from nightshift.io.curated import load_feeds
from nightshift.io.feature_store import historical_features
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase

log = logging.getLogger(__name__)

STEP = "drill_kill_switch"
FEATURES = "features.parquet"


@dataclass(frozen=True)
class Check:
    """One thing that had to be so, and what was found."""

    check: str
    passed: bool
    observed: str


class _Stopped(Exception):
    """A check failed that the next ones rest on."""


@dataclass
class _Drill:
    """What was found so far. `seconds` are of the wall clock and go into metrics only."""

    use_case: UseCase
    settings: Settings
    store: ArtifactStore
    warehouse: Warehouse
    partition: date
    checks: list[Check] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    served: dict[str, str | None] = field(default_factory=dict)
    rows: int = 0

    def check(self, what: str, work: Callable[[], tuple[bool, str]]) -> None:
        """Note whether `work` found it so; an error it raises is a finding, too. Raises _Stopped if not so."""
        start = time.perf_counter()
        try:
            passed, observed = work()
        except (StoreUnavailable, WarehouseUnavailable):
            raise
        except Exception as error:
            # Whatever breaks here would break when the switch is needed: it is a finding.
            log.exception("%s: %s", self.use_case.name, what)
            passed, observed = False, f"{type(error).__name__}: {error}"
        self.seconds[what] = time.perf_counter() - start
        self.checks.append(Check(what, passed, observed))
        if not passed:
            raise _Stopped

    def life(self, moment: str, warehouse: Warehouse) -> Life:
        """The models that answer the next partition, noted under that moment."""
        life = warehouse.life_as_of(self.partition + timedelta(days=1))
        self.served[moment] = life.serving.model_version if life.serving else None
        return life


def run(use_case: UseCase, settings: Settings, store: ArtifactStore, partition: date) -> ArtifactRef:
    """Commit `drill.json` (every check and who answered when) and `drill.html`; how long it took is in the metrics.

    `partition` is a published one. Raises GateRejected, with the report committed and an alert sent,
    if a check fails, and PartitionNotReady if the partition is not published.
    """
    drill = _Drill(use_case, settings, store, Warehouse(settings, use_case), partition)
    start = time.perf_counter()
    with suppress(_Stopped):
        _rehearse(drill)
    left = [made for made in drill.warehouse.decisions() if made.decided_by == STEP]
    drill.checks.append(Check("nothing of the drill was left behind", not left, f"{len(left)} decisions"))
    failed = [check for check in drill.checks if not check.passed]
    found: dict[str, Any] = {
        "partition": partition.isoformat(),
        "passed": not failed,
        "summary": "; ".join(f"{check.check}: {check.observed}" for check in failed)
        or f"The fallback {drill.served.get('during')} would have answered {drill.rows} rows.",
        "before": drill.served.get("before"),
        "during": drill.served.get("during"),
        "after": drill.served.get("after"),
        "rows": drill.rows,
        "checks": [asdict(check) for check in drill.checks],
    }
    ref = store.commit(
        use_case=use_case.name,
        step=STEP,
        partition=partition,
        kind="drill",
        files={"drill.json": canonical_json(found), "drill.html": render(found, title=use_case.title)},
        metrics={"passed": not failed, "seconds": time.perf_counter() - start, "seconds_of_checks": drill.seconds},
        rows=drill.rows,
    )
    if failed:
        message = (
            f"{use_case.name}: the drill of the kill switch failed after partition {partition}: {found['summary']}. "
            f"Until that is mended the switch cannot be relied on. Report: {ref.uri}drill.html"
        )
        if settings.alert_webhook_url is not None:
            send_alert(settings.alert_webhook_url, message)
        raise GateRejected(message)
    log.info("%s: the drill of the kill switch passed after partition %s", use_case.name, partition)
    return ref


def _rehearse(drill: _Drill) -> None:
    # Before the rehearsal: whoever wants to record a decision waits while it lasts.
    night = _night(drill)
    with drill.warehouse.rehearsal() as stage:
        before = drill.life("before", stage)
        is_on = before.killed is not None
        drill.check("there is a fallback", lambda: (before.fallback is not None, _named(before.fallback)))
        if not is_on:
            stage.record_deployment(switch_decision(before, drill.partition, "killed", {"why": "drill"}, STEP))
        fallback = drill.life("during", stage).serving
        drill.check(
            "with the switch on, the fallback answers", lambda: (_same(fallback, before.fallback), _named(fallback))
        )
        _check_answers(drill, fallback, night)
        if not is_on:
            stage.record_deployment(switch_decision(before, drill.partition, "restored", {"why": "drill"}, STEP))
        after = drill.life("after", stage).serving
        what = "the switch is on for good and stays on" if is_on else "with the switch off, the model of before is back"
        drill.check(what, lambda: (_same(after, before.serving), _named(after)))


def _check_answers(drill: _Drill, fallback: Deployment | None, night: ArtifactRef) -> None:
    if fallback is None or fallback.model is None:
        drill.check("the fallback is a model", lambda: (False, f"{_named(fallback)} names no artifact"))
        return
    model, store = fallback.model, drill.store
    loaded: dict[str, Any] = {}

    def load() -> tuple[bool, str]:
        loaded["signature"] = Signature.from_json(store.read(model, "signature.json"))
        loaded["session"] = load_session(store.read(model, "model.onnx"), drill.settings.threads)
        return True, model.uri

    def answer() -> tuple[bool, str]:
        table, source = _features(drill, night, loaded["signature"])
        answers = score(loaded["session"], loaded["signature"], table)
        loaded["table"], loaded["answers"], drill.rows = table, answers, len(answers)
        return len(answers) > 0, f"{len(answers)} rows, features {source}"

    def audit() -> tuple[bool, str]:
        use_case = drill.use_case
        key = [column.name for column in use_case.prediction_key]
        scores = loaded["table"].select(key).append_column(use_case.score, pa.array(loaded["answers"], pa.float64()))
        checks = audit_scores(scores, key=key, score=use_case.score, scheduled_rows=night.rows, policy=use_case.audit)
        failed = [f"{check.name}: {check.observed}, must be {check.bound}" for check in checks if not check.passed]
        return not failed, "; ".join(failed) or f"mean score {np.mean(loaded['answers']):.4f}"

    drill.check("the fallback can be loaded", load)
    drill.check("it answers the newest published night", answer)
    drill.check("its answers are probabilities that could be published", audit)


def _night(drill: _Drill) -> ArtifactRef:
    """The scores of the published night that features were stored with."""
    published = drill.warehouse.publication(drill.partition)
    if published is None:
        raise PartitionNotReady(
            f"{drill.use_case.name} has published nothing for partition {drill.partition}: rehearse on another one."
        )
    ref = ArtifactRef(
        uri=published["scores_uri"], sha256=published["scores_sha256"], kind="scores", rows=published["rows"]
    )
    manifest = drill.store.manifest(ref)
    # A night that was switched to the other model has its scores from those that were stored first.
    switched_from = manifest.inputs.get("scores")
    return switched_from[0] if switched_from else ref


def _features(drill: _Drill, night: ArtifactRef, signature: Signature) -> tuple[pa.Table, str]:
    """The night's keys with the fallback's features, and where from.

    Those that the serving model was fed are stored with the scores. If it does without one of the
    fallback's, they are read through the fallback's feature service, as `score` would.
    """
    stored = drill.store.read_table(night, FEATURES)
    if {*signature.numeric, *signature.categorical} <= set(stored.column_names):
        return stored, "as stored with the scores"
    use_case, partition = drill.use_case, drill.partition
    feeds = load_feeds(drill.store, use_case, [feed.name for feed in use_case.feeds], partition, partition)
    scheduled = compute_spine(
        use_case.scoring_spine,
        {name: feed.table for name, feed in feeds.items()},
        partition=partition,
        cutoff=use_case.cutoff,
        key=tuple(column.name for column in use_case.prediction_key),
    )
    pinned = {partition: drill.store.manifest(night).inputs["features"][0]}
    known = historical_features(
        use_case, drill.settings, drill.store, signature.feature_service, scheduled, partitions=pinned
    )
    return known, f"read through {signature.feature_service}"


def _same(one: Deployment | None, other: Deployment | None) -> bool:
    return (one and one.model_version) == (other and other.model_version)


def _named(deployment: Deployment | None) -> str:
    return deployment.model_version if deployment else "nobody"
