"""Runs the steps of the DAGs in this process, in the order of their graphs, on real services."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from datetime import date

from nightshift.artifact import ArtifactRef
from nightshift.local.dry_run import Chain
from nightshift.usecase import partition_range


class Nights(Chain):
    """The pipeline of one use case on one store and one warehouse, without a scheduler."""

    def deliver(self, partitions: Sequence[date], change: Callable[[str, bytes], bytes] = lambda feed, body: body):
        replay = importlib.import_module(f"{self.use_case.name}.replay")
        for partition in partitions:
            for feed, dt, name, body in replay.deliveries(partition):
                self.store.put(f"landing/{self.use_case.name}/{feed}/dt={dt}/{name}", change(feed, body))

    def materialize(self, partition: date, *, online: bool = False) -> ArtifactRef:
        published = self.build_and_publish(partition)
        if online:
            self.step("load_online", partition, published=published)
        return published

    def bootstrap(self, partition: date) -> None:
        """Keep the training rows of every partition up to this one, as backfill_history does before its training."""
        for day in partition_range(self.use_case.first_partition, partition):
            self.append(day)

    def promote(self, partition: date) -> ArtifactRef:
        reviewed = self.step("review", partition)
        return self.step("advance", partition, reviewed=reviewed)

    def predict(self, partition: date) -> ArtifactRef:
        scores = self.score(partition)
        audited = self.step("audit", partition, scores=scores)
        self.step("publish_predictions", partition, scores=scores, audited=audited)
        return scores

    def fail(self, stage: str, partition: date) -> ArtifactRef:
        return self.step("record_failure", partition, stage=stage, run_id="a run", failed_tasks=["a task"])

    def check_drift(self, partition: date) -> ArtifactRef:
        drift = self.step("compare_drift", partition)
        report = self.step("report_drift", partition, drift=drift)
        return self.step("record_drift", partition, drift=drift, report=report)
