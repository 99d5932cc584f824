"""The command `nightshift review`: the queue of predictions to review, and answers to them."""

from __future__ import annotations

import argparse
import getpass
from typing import Any

from nightshift.declare.discovery import load_use_case
from nightshift.errors import ConfigurationError
from nightshift.local.use_case_commands import DAY

REVIEW_ARGUMENTS: dict[str, dict[str, Any]] = {
    "action": {"choices": ("list", "answer"), "help": "list the open reviews, or answer one"},
    "use_case": {},
    "key": {"nargs": "*", "help": "answer: the values of the prediction's key, in its order"},
    "--answer": {"type": int, "choices": (0, 1), "help": "answer: the label"},
    "--by": {"default": "", "help": "answer: who answers (default: the user of this process)"},
    "--partition": {
        **DAY,
        "help": "list: only this one. answer: the answer is known from the partition after it on (default: the newest "
        "published one)",
    },
}
"""Arguments of the command, as in `use_case_commands.COMMANDS`."""


def run(chosen: argparse.Namespace) -> None:
    """Print the open reviews, or record an answer.

    Raises ConfigurationError for an answer without a label, or before the first publication, and as `answer_review`.
    """
    from nightshift.io.artifact_store import ArtifactStore
    from nightshift.io.warehouse.warehouse import Warehouse
    from nightshift.settings import load_settings
    from nightshift.steps.context import StepContext
    from nightshift.steps.operator import answer_review

    use_case, settings = load_use_case(chosen.use_case), load_settings()
    warehouse = Warehouse(settings, use_case)
    if chosen.action == "list":
        reviews = warehouse.review_queue(chosen.partition)
        for one in reviews:
            key = " ".join(str(value) for value in one.key.values())
            print(f"{one.partition}  {key:<30} {use_case.score} {one.score:.3f}  {one.reason}")
        print(f"{len(reviews)} prediction{'' if len(reviews) == 1 else 's'} to review.")
        return
    newest = warehouse.latest_publication()
    partition = chosen.partition or (newest.partition if newest else None)
    if partition is None or chosen.answer is None:
        raise ConfigurationError(
            "NS-REVIEW-005",
            f"An answer takes --answer 0 or 1, and {use_case.name} needs a published partition; it has "
            f"{newest.partition if newest else 'none'}.",
        )
    context = StepContext(use_case, settings, ArtifactStore(settings), partition)
    who = f"hand:{chosen.by or getpass.getuser()}"
    ref = answer_review.run(context, key=chosen.key, answer=chosen.answer, decided_by=who)
    print(f"Answered: {use_case.label} of {' '.join(chosen.key)} is {chosen.answer}. {ref.uri}")
