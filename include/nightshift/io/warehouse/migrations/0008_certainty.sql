-- How certain each prediction is; predictions for a person to review, and the answers.

ALTER TABLE {schema}.predictions
    ADD COLUMN out_of_range smallint,
    ADD COLUMN out_of_domain boolean,
    ADD COLUMN certainty double precision,
    ADD COLUMN score_low double precision,
    ADD COLUMN score_high double precision;
COMMENT ON COLUMN {schema}.predictions.out_of_range IS 'Number of features with a value outside of the range, or not among the categories, of the rows that the version was fitted on. Null: of a version without a domain, as are all rows published before the column was there.';
COMMENT ON COLUMN {schema}.predictions.out_of_domain IS 'Whether the row as a whole is farther from the rows that the version was fitted on than rows of ordinary days are. Null as out_of_range, or if the version was fitted on too few days.';
COMMENT ON COLUMN {schema}.predictions.certainty IS 'Share of the recent days, 0 to 1, whose level, had it been this day''s, leaves the decision as it is. Null with too few days with known labels.';
COMMENT ON COLUMN {schema}.predictions.score_low IS 'Lower bound of the probability under the levels of most recent days; see docs/certainty.md. Null as certainty.';
COMMENT ON COLUMN {schema}.predictions.score_high IS 'Upper bound of the probability under the levels of most recent days. Null as certainty.';

CREATE TABLE {schema}.review_queue (
    partition date NOT NULL,
    {key_definitions},
    score double precision NOT NULL,
    certainty double precision,
    out_of_domain boolean,
    out_of_range smallint,
    reason text NOT NULL,
    answer smallint CHECK (answer IN (0, 1)),
    answered_by text,
    answered_at timestamptz,
    answer_partition date,
    PRIMARY KEY ({key}),
    CONSTRAINT answers_are_complete CHECK (
        num_nonnulls(answer, answered_by, answered_at, answer_partition) IN (0, 4)),
    CONSTRAINT answers_come_later CHECK (answer_partition > partition)
);
CREATE INDEX ON {schema}.review_queue (partition);
CREATE INDEX ON {schema}.review_queue (answer_partition) WHERE answer IS NOT NULL;
COMMENT ON TABLE {schema}.review_queue IS 'The least certain predictions of each partition, for a person to review. Answers are labels of later training rows, unless a label is delivered.';
COMMENT ON COLUMN {schema}.review_queue.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.review_queue.score IS 'Published probability.';
COMMENT ON COLUMN {schema}.review_queue.certainty IS 'As in predictions.';
COMMENT ON COLUMN {schema}.review_queue.out_of_domain IS 'As in predictions.';
COMMENT ON COLUMN {schema}.review_queue.out_of_range IS 'As in predictions.';
COMMENT ON COLUMN {schema}.review_queue.reason IS 'Why the row is in the queue.';
COMMENT ON COLUMN {schema}.review_queue.answer IS 'Label by the person who reviewed the row: 0 or 1. Null: no answer yet.';
COMMENT ON COLUMN {schema}.review_queue.answered_by IS 'The person who answered.';
COMMENT ON COLUMN {schema}.review_queue.answered_at IS 'When the answer was recorded (an instant, stored as UTC).';
COMMENT ON COLUMN {schema}.review_queue.answer_partition IS 'The partition from which on the answer is known; its training rows have the label.';
