"""The model card's page."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import date
from html.parser import HTMLParser
from typing import Any

import numpy as np

from nightshift.artifact import ArtifactRef, Manifest
from nightshift.core.evaluation import evaluate
from nightshift.core.gates.risk import demands
from nightshift.core.gates.slices import slice_metrics
from nightshift.core.gates.verification import VERSION_GATES
from nightshift.core.models.explanations import Explanation
from nightshift.core.models.training_split import PARTITION
from nightshift.core.versions.package import describe
from nightshift.declare.policies import DataSource, Risk, RiskPolicy, SlicePolicy
from nightshift.deployment import GateResult
from nightshift.documents.train import CalibrationBin, Registration, TrainingSet, Verification
from nightshift.reports.model_card import Records, render
from support.synthetic_training_set import SIGNATURE, training_split, use_case

SPLIT = training_split(rows_per_day=60)
EVIL = '<script>alert("boo")</script>'
CASE = dataclasses.replace(
    use_case(),
    slices=SlicePolicy(columns=("carrier",), least_rows=60),
    risk=RiskPolicy(risks=(Risk("missed", 4, 4, "nobody is warned"), Risk("cried wolf", 1, 2, "nobody listens"))),
    sources=(DataSource("toy shop", "CC0-1.0", "made up"),),
)
GATES = [GateResult(gate=name, verdict="pass", observed=0.5, bound=1.0, reason=f"why {name}") for name in VERSION_GATES]


REF = ArtifactRef(uri="s3://bucket/rows/", sha256="rows-hash", kind="training_rows")
ENTRY = Registration.Entry(
    role="champion",
    spec_id="trees-01234567",
    model_version="2020-01-20-abcdef12",
    model=REF,
    action="registered",
    why="it passed every mandatory gate",
)
UNUSABLE = Verification(spec_id=ENTRY.spec_id, gates=(), unusable="no graph")


def _manifest(step: str, metrics: Mapping[str, Any]) -> Manifest:
    ref = ArtifactRef(uri=f"s3://bucket/{step}/", sha256=f"{step}-hash", kind=step)
    return Manifest(
        use_case="toy",
        stage="train",
        step=step,
        partition="2020-01-20",
        ref=ref,
        metrics=metrics,
        code_version="sources-c0de",
        lock_sha256="l0c4",
        libraries={"xgboost-cpu": "3.2.0", "python": "3.11"},
    )


def _records(**changed: Any) -> Records:
    labels = SPLIT.holdout_labels
    scores = np.clip(np.random.default_rng(1).normal(0.35, 0.1, len(labels)) + 0.2 * labels, 0.01, 0.99)
    holdout = evaluate(labels, scores)
    days = SPLIT.holdout[PARTITION].to_numpy()
    card = describe(CASE, SIGNATURE, SPLIT, holdout, role="champion", spec=CASE.champion)
    records = Records(
        entry=ENTRY,
        version=_manifest("fit", {}),
        training_set=TrainingSet(
            partition=date(2020, 1, 20),
            parts=(REF,),
            rows=1_234,
            first=date(2020, 1, 1),
            last=date(2020, 1, 20),
            label="is_late",
            missing={"2020-01-07": "half a file"},
        ),
        card=card,
        verification=Verification(
            spec_id=ENTRY.spec_id,
            gates=(),
            holdout=holdout,
            slices=slice_metrics(SPLIT.holdout, labels, scores, CASE.slices, days),
            calibration=(CalibrationBin(mean_score=0.2, observed_rate=0.25, rows=10),),
            bytes=20_000,
        ),
        gates=GATES,
        demands=demands(CASE.risk),
        explanation=Explanation(500, tuple((f"f{i}", 1 / (i + 1)) for i in range(20))),
        others={"fallback-01234567": "card-fallback-01234567.html"},
    )
    return dataclasses.replace(records, **changed)


class _Page(HTMLParser):
    """Tags and text of a page; fails on tags closed in another order than opened."""

    VOID = ("meta", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_the_card_says_everything_that_was_recorded() -> None:
    page = _Page(render(CASE, _records()).decode())
    assert page.open == []
    for gate in GATES:
        assert f"why {gate.gate}" in page.text
    for said in (
        "2020-01-20-abcdef12",
        "Registered",
        "nobody is warned",
        "The highest score is 16 of 25: every one of the 14 gates is mandatory. A person must approve",
        "toy shop, licence CC0-1.0: made up",
        "1,234 rows in 1 files",
        "2020-01-07 (half a file)",
        "trees-01234567",
        "sources-c0de",
        "l0c4",
        "python 3.11, xgboost-cpu 3.2.0",
        "carrier ZZ",
        "less than a year",
        "5 less important features",
    ):
        assert said in page.text, said


def test_the_card_needs_nothing_but_itself() -> None:
    page = _Page(render(CASE, _records()).decode())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert [tag for tag, _ in page.tags].count("svg") == 2
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["card-fallback-01234567.html"]


def test_what_came_from_outside_is_escaped() -> None:
    case = dataclasses.replace(CASE, title=EVIL, owner=EVIL)
    gates = [GateResult(gate="runtime", verdict="fail", reason=EVIL)]
    recorded = _records().verification
    slices = tuple(one.model_copy(update={"value": EVIL}) for one in recorded.slices)
    verification = recorded.model_copy(update={"slices": slices})
    explanation = Explanation(1, ((EVIL, 1.0),))
    page = render(case, _records(gates=gates, verification=verification, explanation=explanation)).decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(") >= 5


def test_the_same_records_give_the_same_page() -> None:
    assert render(CASE, _records()) == render(CASE, _records())


def test_unusable_version_has_a_model_card() -> None:
    entry = ENTRY.model_copy(update={"action": "rejected", "why": "runtime: no graph"})
    page = _Page(render(CASE, _records(entry=entry, verification=UNUSABLE, explanation=None)).decode())
    assert "Rejected runtime: no graph" in page.text


def test_a_small_slice_and_a_gate_without_a_verdict_are_limits() -> None:
    gates = [*GATES[:-1], GateResult(gate="change", verdict="not applicable", reason="none")]
    case = dataclasses.replace(CASE, risk=RiskPolicy())
    failed = GateResult(gate="memory", verdict="fail", reason="too much")
    recorded = _records().verification
    slices = tuple(one.model_copy(update={"verdict": "too small"}) for one in recorded.slices)
    verification = recorded.model_copy(update={"slices": slices})
    records = _records(gates=[*gates, failed], verification=verification, demands=demands(case.risk))
    text = _Page(render(case, records).decode()).text
    assert "Not applicable, for the reasons in the table of gates: change." in text
    assert "to say how good it is for: carrier AA, carrier BB, carrier ZZ." in text
    assert "declares no risks" in text
    assert "do not make mandatory: memory." in text
