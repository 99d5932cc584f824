"""The judgement of one trial as one HTML page, readable without any server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

TEMPLATE = Path(__file__).with_name("trial_report.html.j2")

HEADLINES = {
    "nothing": "No trial",
    "hold": "The trial goes on",
    "canary": "On to the canary",
    "promote": "Ready to be champion",
    "withdraw": "Withdrawn",
    "roll_back": "Rolled back",
    "confirm": "Confirmed",
}
TONES = {"canary": "good", "promote": "good", "confirm": "good", "withdraw": "bad", "roll_back": "bad"}
STAGES = {
    "shadow": "The challenger is scored beside the model that serves; nothing of it is published.",
    "canary": "The challenger answers {share:.0%} of the rows; both models are asked about all of them.",
    "standby": "The champion is fresh; its predecessor is still asked about every row and can take over again.",
}


def render(trial: Mapping[str, Any], *, title: str, sources: Sequence[tuple[str, str]]) -> bytes:
    """The page for one trial.json, as `judge_trial` commits it. Equal inputs give an equal page."""
    stage = trial["stage"]
    page = {
        "title": title,
        "headline": HEADLINES[trial["decision"]],
        "tone": TONES.get(trial["decision"], "none"),
        "about": STAGES[stage].format(share=trial["share"]) if stage else "No model is on trial.",
        "judged_is_beside": stage != "standby",
        "sources": sources,
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=page, trial=trial).encode()
