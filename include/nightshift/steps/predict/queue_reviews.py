"""Queue the least certain of a partition's published predictions for a person to review.

No prediction depends on it. Artifact: `review_queue.parquet` (see core.monitoring.review_queue); also rows of
`review_queue` in the warehouse, where answers are recorded.
"""

from __future__ import annotations

import itertools
import logging

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.artifact import ArtifactRef
from nightshift.core.monitoring.review_queue import rows_to_review
from nightshift.core.parquet_file import row_batches
from nightshift.services.live_scores import SCORES
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)

QUEUE = "review_queue.parquet"


def run(context: StepContext, *, published: ArtifactRef) -> ArtifactRef:
    """Commit the queue and replace the partition's rows in the warehouse; answers that were given stay.

    If another publication of the partition has replaced `published`, the warehouse keeps that one's queue.
    """
    use_case, store, partition = context.use_case, context.store, context.partition
    (scores,) = store.manifest(published).inputs["scores"]
    with store.opened(scores, SCORES) as path, pq.ParquetFile(path) as file:
        predictions = (pa.Table.from_batches([batch]) for batch in row_batches(file))
        tables = itertools.chain([file.schema_arrow.empty_table()], predictions)
        rows = rows_to_review(tables, use_case.key_columns, use_case.score, use_case.certainty.review_rows)
    written = context.warehouse.queue_reviews(partition, scores, rows)
    state = "queued for review" if written else "not queued: the publication was replaced"
    log.info("%s %s: %d of %d predictions %s", use_case.name, partition, rows.num_rows, scores.rows, state)
    return context.commit(
        "queue_reviews",
        kind="review_queue",
        files={QUEUE: rows},
        inputs={"publication": [published], "scores": [scores]},
        parameters={"review_rows": use_case.certainty.review_rows},
        metrics={"written": written},
        rows=rows.num_rows,
        current=written,
    )
