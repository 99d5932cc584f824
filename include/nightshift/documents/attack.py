"""Documents of attacks."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from nightshift.artifact import Document, Value
from nightshift.declare.models import ModelSpec
from nightshift.deployment import GateResult
from nightshift.errors import ArtifactCorrupt


class LoweredScores(Value):
    """Scores of `rows` rows before and after an attack. `decisions`: the positive ones before; `evaded`: how many of
    them are negative after. `mean_fall`: of the score."""

    rows: int
    decisions: int
    evaded: int
    mean_fall: float


class FlippedLabels(Value):
    """Log loss (nats) and AUC on unseen rows, fitted on the labels as they are, and with `flipped` of them flipped.

    `noticed`: codes of the rules of the change gate that stop the second version if it replaces the first at once.
    """

    flipped: int
    log_loss: float
    log_loss_after: float
    auc: float | None
    auc_after: float | None
    noticed: tuple[str, ...] = ()


class Extraction(Value):
    """Share of the variance of the log odds of other rows that a surrogate fitted on `queries` scores explains."""

    queries: int
    surrogate: str
    explained: float


class Membership(Value):
    """Rows that were fitted on against unseen ones, ranked by their loss. `found_at_1_percent`: the share of the
    former that is found if 1 % of the latter are taken for them."""

    fitted: int
    unseen: int
    auc: float
    found_at_1_percent: float


class AttackedSpec(Value):
    """What attacks achieve against a spec, fitted on `fitted` rows; None: the attack was not evaluated."""

    spec: ModelSpec
    fitted: int
    unseen: int
    evasion: LoweredScores | None = None
    back_door: LoweredScores | None = None
    poisoning: FlippedLabels | None = None
    extraction: tuple[Extraction, ...] = ()
    membership: Membership | None = None
    gates: tuple[GateResult, ...]


class AttackReport(Document):
    """Specs under attack, on rows of the partitions first to last. `demanded`: the declared risks demand that a spec
    keeps the bounds before it is nominated."""

    FILE: ClassVar[str] = "attacks.json"

    partition: date
    first: date
    last: date
    demanded: bool
    specs: tuple[AttackedSpec, ...]

    def one(self, spec_id: str) -> AttackedSpec:
        """The results of a spec. Raises ArtifactCorrupt if there are none."""
        for attacked in self.specs:
            if attacked.spec.spec_id == spec_id:
                return attacked
        raise ArtifactCorrupt("NS-ATTACK-001", f"{spec_id} was not attacked; run the backtest again with that spec.")
