from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from nightshift.artifact import ArtifactRef, Manifest
from nightshift.core.evaluation import evaluate
from nightshift.core.explanations import Explanation
from nightshift.core.gates import CANDIDATE_GATES, REGISTRATION_GATES
from nightshift.core.model_card import Records, render, render_none
from nightshift.core.model_package import describe
from nightshift.core.promotion import Outcome, Rival
from nightshift.core.risk import demands
from nightshift.core.slices import slice_metrics
from nightshift.core.training_split import PARTITION
from nightshift.deployment import GateResult
from nightshift.policies import DataSource, Risk, RiskPolicy, SlicePolicy
from synthetic_training_set import SIGNATURE, training_split, use_case

SPLIT = training_split(rows_per_day=60)
EVIL = '<script>alert("boo")</script>'
CASE = dataclasses.replace(
    use_case(),
    slices=SlicePolicy(columns=("carrier",), least_rows=60),
    risk=RiskPolicy(risks=(Risk("missed", 4, 4, "nobody is warned"), Risk("cried wolf", 1, 2, "nobody listens"))),
    sources=(DataSource("toy shop", "CC0-1.0", "made up"),),
)
GATES = [
    GateResult(gate=name, verdict="pass", observed=0.5, bound=1.0, reason=f"why {name}")
    for name in (*CANDIDATE_GATES, *REGISTRATION_GATES)
]


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
    card = describe(CASE, SIGNATURE, SPLIT, holdout, role="challenger")
    fitted = {**holdout, "bytes": 200_000.0, "rows_per_second": 50_000.0}
    records = Records(
        version="2020-01-20-abcdef12",
        outcome=Outcome("shadow", "challenger", "it passed every mandatory gate"),
        winner="xgboost_small",
        teacher="xgboost",
        teacher_refused="",
        chosen_because="within the budget; chosen",
        model=_manifest("select_model", {}),
        training_set=_manifest("build_training_set", {"train": {"label_rate": 0.4321}, "holdout": {"label_rate": 0.2}}),
        card=json.dumps(card).encode(),
        verification={
            "holdout": holdout,
            "slices": slice_metrics(SPLIT.holdout, labels, scores, CASE.slices, days, seed=1),
            "calibration": [{"mean_score": 0.2, "observed_rate": 0.25, "rows": 10}],
            "disagreement": {"mean": 0.01, "p99": 0.05, "largest": 0.2, "decisions": 0.004},
            "bytes": 20_000,
        },
        metrics={
            "xgboost": fitted,
            "xgboost_small": {**holdout, "bytes": 20_000.0, "rows_per_second": 400_000.0},
        },
        rivals=[
            Rival("champion", "2020-01-10-00000000", holdout["log_loss"], metrics=holdout),
            Rival("fallback", absence="there was no fallback as of this partition"),
        ],
        gates=GATES,
        demands=demands(CASE.risk),
        explanation=Explanation(
            "TreeSHAP", "mean |contribution|", 500, tuple((f"f{i}", 1 / (i + 1)) for i in range(20))
        ),
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
    page = _Page(render(CASE, _records()))
    assert page.open == []
    for gate in GATES:
        assert f"why {gate.gate}" in page.text
    for said in (
        "2020-01-20-abcdef12",
        "On trial",
        "nobody is warned",
        "The highest score is 16 of 25: every one of the 15 gates is mandatory. A person must approve it",
        "toy shop, licence CC0-1.0: made up",
        "s3://bucket/build_training_set/",
        "build_training_set-hash",
        "sources-c0de",
        "l0c4",
        "python 3.11, xgboost-cpu 3.2.0",
        "43.2%",
        "champion 2020-01-10-00000000",
        "there was no fallback as of this partition",
        "10.0 times smaller, 8.0 times the rows a second",
        "select_trees, then prune_trees",
        "carrier ZZ",
        "0.40% of the decisions differ",
        "less than a year",
        "5 more features",
        "within 24 hours",
    ):
        assert said in page.text, said


def test_the_card_needs_nothing_but_itself() -> None:
    page = _Page(render(CASE, _records()))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert [tag for tag, _ in page.tags].count("svg") == 2
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["pareto.html"]


def test_what_came_from_outside_is_escaped() -> None:
    case = dataclasses.replace(CASE, title=EVIL, owner=EVIL)
    gates = [GateResult(gate="runtime", verdict="fail", reason=EVIL)]
    slices = [{**one, "value": EVIL} for one in _records().verification["slices"]]
    verification = {**_records().verification, "slices": slices}
    explanation = Explanation("TreeSHAP", EVIL, 1, ((EVIL, 1.0),))
    page = render(case, _records(gates=gates, verification=verification, explanation=explanation, chosen_because=EVIL))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(") >= 5
    assert "<script" not in render_none(EVIL, {EVIL: EVIL})


def test_the_same_records_give_the_same_page() -> None:
    assert render(CASE, _records()) == render(CASE, _records())


@pytest.mark.parametrize(
    ("action", "said"), [("promoted", "Champion"), ("rejected", "Rejected"), ("shelved", "Shelved")]
)
def test_the_card_begins_with_what_became_of_the_model(action: Any, said: str) -> None:
    page = _Page(render(CASE, _records(outcome=Outcome(action, "challenger", "because"))))
    assert f"{said} because" in page.text


def test_a_small_slice_and_a_gate_without_a_verdict_are_limits() -> None:
    gates = [*GATES[:-1], GateResult(gate="slices_no_worse_than_champion", verdict="not applicable", reason="none")]
    case = dataclasses.replace(CASE, risk=RiskPolicy())
    failed = GateResult(gate="memory", verdict="fail", reason="too much")
    verification = {**_records().verification}
    verification["slices"] = [{**one, "verdict": "too small"} for one in verification["slices"]]
    records = _records(gates=[*gates, failed], verification=verification, demands=demands(case.risk))
    text = _Page(render(case, records)).text
    assert "Not judged, for the reasons in the table of gates: slices_no_worse_than_champion." in text
    assert "to say how good it is for: carrier AA, carrier BB, carrier ZZ." in text
    assert "declares no risks" in text
    assert "do not make mandatory: memory." in text


def test_a_larger_model_and_a_teacher_that_was_refused_are_called_so() -> None:
    metrics = {name: dict(values) for name, values in _records().metrics.items()}
    metrics["xgboost_small"]["bytes"] = 400_000.0
    text = _Page(render(CASE, _records(metrics=metrics, teacher_refused="refused by leakage: it peeks"))).text
    assert "2.0 times larger" in text
    assert "xgboost; it may not serve itself: refused by leakage: it peeks" in text


def test_where_no_candidate_may_be_chosen_the_page_says_why() -> None:
    page = _Page(render_none("Toys: no model of 2020-01-20", {"xgboost": "parity_fitted: row 3 differs"}))
    assert page.open == []
    assert "No model" in page.text
    assert "parity_fitted: row 3 differs" in page.text
