"""A desk with a past: three champions one after another, and what people decide about them by hand."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from nightshift.artifact import ArtifactRef
from nightshift.declare.models import ModelSpec
from support.desk import GOOD, POOR, SIMILAR, D, Desk, days_after

WHY = "scores are near zero for a whole branch"
ANNA = "hand:anna"


class Grown:
    """A fallback, three champions one after another, the last confirmed, and a published partition D."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.warehouse, self.store = desk, desk.warehouse, desk.store
        base = desk.use_case.champion
        self.fallback = desk.use_case.fallback
        self.first, self.second, self.third = (base.model_copy(update={"name": n}) for n in ("one", "two", "three"))
        desk.register(self.fallback, days_after(-9), POOR, role="fallback")
        for number, spec, before in (
            (-9, self.first, None),
            (-6, self.second, self.first),
            (-3, self.third, self.second),
        ):
            desk.register(spec, days_after(number), GOOD if number == -9 else SIMILAR)
            desk.decide(days_after(number), "promoted", spec, replaces=before and before.spec_id)
            if before:
                desk.decide(days_after(number + 1), "confirmed", spec, role="champion")
        desk.night(D)

    def step(self, name: str, partition: date = D, **more: Any) -> ArtifactRef:
        return self.desk.step(name, partition, **{"reason": WHY, "decided_by": ANNA, **more})

    def roll_back(self, partition: date = D, **more: Any) -> ArtifactRef:
        return self.step("rollback_model", partition, **more)

    def switch(self, state: str, partition: date = D, **more: Any) -> ArtifactRef:
        return self.step("kill_switch", partition, state=state, **more)

    def retire(self, name: str, partition: date = D) -> ArtifactRef:
        return self.step("retire_model", partition, spec_or_version=name)

    def annul(self, deployment_id: int, partition: date = D, **more: Any) -> ArtifactRef:
        return self.step("annul_decision", partition, deployment_id=deployment_id, **more)

    def newest_decision(self) -> int:
        """The number of the decision that was recorded last."""
        number = self.warehouse.decisions()[-1].deployment_id
        assert number is not None
        return number

    def read(self, ref: ArtifactRef, path: str) -> dict[str, Any]:
        return json.loads(self.store.read(ref, path))

    def primary(self, number: int) -> str:
        """The spec that serves a partition, by the step that chooses it."""
        self.desk.choose(days_after(number))
        return self.desk.choice(days_after(number)).primary.spec_id

    def version(self, spec: ModelSpec) -> str:
        found = self.warehouse.state_as_of(date.max).version(spec.spec_id)
        assert found is not None
        return found.model_version
