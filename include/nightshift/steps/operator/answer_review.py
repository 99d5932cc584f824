"""Record the answer to a prediction in the review queue; it is a label of the training rows of the next partition.

Artifact, of the partition after: `answers.parquet`, every answer known from that partition on (key, label,
answered_by), sorted by key. append_training_rows uses it; a delivered label counts more than an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from nightshift.artifact import ArtifactRef
from nightshift.errors import ConfigurationError
from nightshift.services.manual_decisions import check_in_reach
from nightshift.services.review_answers import ANSWERS
from nightshift.services.training_rows import STEP as TRAINING_ROWS
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, key: Sequence[str], answer: int, decided_by: str) -> ArtifactRef:
    """Record that the label of the prediction with `key` is `answer` (0 or 1), and commit the answers so far.

    An answer to the same prediction replaces the one before, if no training has used it. Raises ConfigurationError if
    the prediction is not in the queue, if it is of a partition later than the context's, if that is later than the
    newest published one, or if the training rows of the partition after it are written already.
    """
    use_case, store, warehouse = context.use_case, context.store, context.warehouse
    check_in_reach(use_case, warehouse, context.partition)
    names, known_on = use_case.key_columns, context.partition + timedelta(days=1)
    if len(key) != len(names) or answer not in (0, 1):
        raise ConfigurationError(
            "NS-REVIEW-003",
            f"An answer for {use_case.name} takes the {len(names)} values {' '.join(names)} and 0 or 1, "
            f"not {' '.join(map(str, key))} and {answer}.",
        )
    if store.decision(use_case.name, TRAINING_ROWS, known_on) is not None:
        raise ConfigurationError(
            "NS-REVIEW-004",
            f"{use_case.name}: the training rows of {known_on} are written already, so an answer cannot be known from "
            "then on. Name a later partition.",
        )
    review = warehouse.answer_review(
        dict(zip(names, map(str, key), strict=True)), label=answer, by=decided_by, known_on=known_on
    )
    while True:
        rows = warehouse.review_answers(known_on)
        ref = store.commit(
            use_case=use_case.name,
            step="answer_review",
            partition=known_on,
            kind="answers",
            files={ANSWERS: rows},
            rows=rows.num_rows,
        )
        # Of two answers at once, the one that reads first may commit last.
        if warehouse.review_answers(known_on) == rows:
            break
    log.info("%s: %s is %s, by %s, known from %s on", use_case.name, review.key, answer, decided_by, known_on)
    return ref
