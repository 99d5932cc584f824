"""Runs the steps of the DAGs in this process, in the order of their graphs, on real services."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.partitions import partition_range
from nightshift.pipeline import step_module
from nightshift.settings import Settings
from nightshift.steps.context import StepContext


class Nights:
    """The pipeline of one use case on one store and one warehouse, without a scheduler."""

    def __init__(self, use_case: UseCase, settings: Settings, store: ArtifactStore) -> None:
        self.use_case, self.settings, self.store = use_case, settings, store

    def step(self, name: str, partition: date, **refs: Any) -> Any:
        module = importlib.import_module(step_module(name))
        return module.run(StepContext(self.use_case, self.settings, self.store, partition), **refs)

    def deliver(self, partitions: Sequence[date], change: Callable[[str, bytes], bytes] = lambda feed, body: body):
        replay = importlib.import_module(f"{self.use_case.name}.replay")
        for partition in partitions:
            for feed, dt, name, body in replay.deliveries(partition):
                self.store.put(f"landing/{self.use_case.name}/{feed}/dt={dt}/{name}", change(feed, body))

    def ingest(self, partition: date) -> ArtifactRef:
        landed = self.step("land", partition)
        profiled = self.step("profile", partition, landed=landed)
        validated = self.step("validate", partition, landed=landed)
        return self.step("publish", partition, validated=validated, profiled=profiled)

    def materialize(self, partition: date, *, online: bool = False) -> ArtifactRef:
        built = self.step("build_features", partition)
        published = self.step("publish_features", partition, features=built)
        if online:
            self.step("load_online", partition, published=published)
        return published

    def append(self, partition: date) -> ArtifactRef:
        return self.step("append_training_rows", partition)

    def bootstrap(self, partition: date) -> None:
        """Keep the training rows of every partition up to this one, as backfill_history does before its training."""
        for day in partition_range(self.use_case.first_partition, partition):
            self.append(day)

    def fit(self, partition: date) -> tuple[ArtifactRef, list[ArtifactRef]]:
        """The training set and the fitted versions."""
        training_set = self.step("build_training_set", partition, rows=self.append(partition))
        specs = self.step("choose_specs", partition, allow_undecided=True)
        return training_set, [self.step("fit", partition, training_set=training_set, spec=spec) for spec in specs]

    def verify(self, partition: date) -> list[ArtifactRef]:
        training_set, versions = self.fit(partition)
        refs = [{"training_set": training_set, "version": one} for one in versions]
        return [self.step("verify", partition, **one, allow_undecided=True) for one in refs]

    def train(self, partition: date) -> ArtifactRef:
        return self.step("register", partition, verified=self.verify(partition))

    def promote(self, partition: date, *, allow_undecided: bool = False) -> ArtifactRef:
        reviewed = self.step("review", partition, allow_undecided=allow_undecided)
        return self.step("advance", partition, reviewed=reviewed)

    def predict(self, partition: date, *, allow_undecided: bool = False) -> ArtifactRef:
        choice = self.step("resolve_model", partition, allow_undecided=allow_undecided)
        calibration = self.step("calibrate", partition, model_choice=choice)
        scores = self.step("score", partition, model_choice=choice, calibration=calibration)
        audited = self.step("audit", partition, scores=scores)
        self.step("publish_predictions", partition, scores=scores, audited=audited)
        return scores

    def fail(self, stage: str, partition: date) -> ArtifactRef:
        return self.step("record_failure", partition, stage=stage, run_id="a run", failed_tasks=["a task"])

    def check_drift(self, partition: date) -> ArtifactRef:
        performance = self.step("record_performance", partition)
        drift = self.step("compare_drift", partition, performance=performance)
        report = self.step("report_drift", partition, drift=drift)
        recorded = self.step("record_drift", partition, drift=drift)
        return self.step("apply_rules", partition, drift=drift, recorded=recorded, report=report)
