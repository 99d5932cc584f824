-- Performance by slice and with the loss that scores promise; drift of every column by statistics of days.

ALTER TABLE {schema}.performance_daily
    ADD COLUMN slice_column text NOT NULL DEFAULT '',
    ADD COLUMN slice_value text NOT NULL DEFAULT '',
    ADD COLUMN expected_log_loss double precision,
    DROP CONSTRAINT performance_daily_pkey,
    ADD PRIMARY KEY (prediction_date, role, model_version, slice_column, slice_value);
COMMENT ON COLUMN {schema}.performance_daily.slice_column IS 'Declared slice column; empty in the row about all rows. Slices are those of published rows.';
COMMENT ON COLUMN {schema}.performance_daily.slice_value IS 'Value of the slice column; empty in the row about all rows.';
COMMENT ON COLUMN {schema}.performance_daily.expected_log_loss IS 'Log loss that the scores promise: the mean of their entropies, natural logarithm. Null in rows written before it was recorded.';
CREATE INDEX ON {schema}.performance_daily (partition);

-- What it held was measured against the training reference of a version, by another statistic.
DROP TABLE {schema}.drift_daily;
CREATE TABLE {schema}.drift_daily (
    partition date NOT NULL,
    drift text NOT NULL CHECK (drift IN ('data', 'prediction', 'label', 'concept')),
    source text NOT NULL,
    column_name text NOT NULL,
    statistic text NOT NULL,
    days integer NOT NULL,
    value double precision NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    excess double precision NOT NULL,
    drifted boolean NOT NULL,
    since date,
    comparison_uri text NOT NULL,
    PRIMARY KEY (partition, drift, source, column_name)
);
COMMENT ON TABLE {schema}.drift_daily IS 'How far each column of a partition is outside the range of the partitions before it: its furthest statistic.';
COMMENT ON COLUMN {schema}.drift_daily.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.drift_daily.drift IS 'data: feeds and features; prediction: scores; label: share of positive labels; concept: residuals and losses.';
COMMENT ON COLUMN {schema}.drift_daily.source IS 'Feed, feature view, scores or outcomes.';
COMMENT ON COLUMN {schema}.drift_daily.column_name IS 'Empty: the number of rows. Of outcomes: name=value of a slice; empty: all rows.';
COMMENT ON COLUMN {schema}.drift_daily.statistic IS 'What is compared; docs/drift.md lists the statistics.';
COMMENT ON COLUMN {schema}.drift_daily.days IS 'Length of the window, in days up to the partition.';
COMMENT ON COLUMN {schema}.drift_daily.low IS 'Smallest value in windows of the reference.';
COMMENT ON COLUMN {schema}.drift_daily.high IS 'Largest value in windows of the reference.';
COMMENT ON COLUMN {schema}.drift_daily.excess IS 'How far outside the range, as a multiple of what is tolerated; beyond 1 or -1 it has drifted.';
COMMENT ON COLUMN {schema}.drift_daily.since IS 'First partition of the drift that goes on; null unless drifted.';
COMMENT ON COLUMN {schema}.drift_daily.comparison_uri IS 'Artifact with the comparison.';
