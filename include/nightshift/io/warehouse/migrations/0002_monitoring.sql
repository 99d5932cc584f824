-- What became of the predictions, and how far the data moved.

CREATE TABLE {schema}.outcomes (
    {key_definitions},
    {label} smallint NOT NULL CHECK ({label} IN (0, 1)),
    partition date NOT NULL,
    PRIMARY KEY ({key})
);
COMMENT ON TABLE {schema}.outcomes IS 'What really happened, as delivered last; joins to predictions by the key.';
COMMENT ON COLUMN {schema}.outcomes.{label} IS '1 if it happened, 0 if not.';
COMMENT ON COLUMN {schema}.outcomes.partition IS 'Partition that delivered the outcome, or its last correction.';
{outcome_column_comments}

CREATE TABLE {schema}.performance_daily (
    partition date PRIMARY KEY,
    prediction_date date NOT NULL,
    model_version text NOT NULL,
    rows bigint NOT NULL,
    predictions bigint NOT NULL,
    auc double precision,
    log_loss double precision NOT NULL,
    brier double precision NOT NULL,
    mean_score double precision NOT NULL,
    label_rate double precision NOT NULL
);
COMMENT ON TABLE {schema}.performance_daily IS 'How the predictions of one day did, by the outcomes delivered with the partition.';
COMMENT ON COLUMN {schema}.performance_daily.partition IS 'Partition whose outcomes were used; later corrections do not change the row.';
COMMENT ON COLUMN {schema}.performance_daily.prediction_date IS {prediction_date_comment};
COMMENT ON COLUMN {schema}.performance_daily.rows IS 'Predictions with a known outcome.';
COMMENT ON COLUMN {schema}.performance_daily.predictions IS 'Predictions published for the day, with and without a known outcome.';
COMMENT ON COLUMN {schema}.performance_daily.auc IS 'Area under the ROC curve; null if all outcomes are alike.';
COMMENT ON COLUMN {schema}.performance_daily.log_loss IS 'Mean negative log likelihood, natural logarithm.';
COMMENT ON COLUMN {schema}.performance_daily.brier IS 'Mean squared difference between score and outcome.';

CREATE TABLE {schema}.drift_daily (
    partition date NOT NULL,
    drift text NOT NULL CHECK (drift IN ('data', 'prediction', 'label')),
    column_name text NOT NULL,
    psi double precision NOT NULL,
    threshold double precision,
    exceeds boolean NOT NULL,
    rows bigint NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('stable', 'drifted', 'not judged')),
    model_version text NOT NULL,
    comparison_uri text NOT NULL,
    PRIMARY KEY (partition, drift, column_name)
);
COMMENT ON TABLE {schema}.drift_daily IS 'Distance of one night from the training reference of the model in charge.';
COMMENT ON COLUMN {schema}.drift_daily.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.drift_daily.psi IS 'Population stability index (dimensionless, natural logarithm).';
COMMENT ON COLUMN {schema}.drift_daily.threshold IS 'The index that blocks of days of the reference themselves reach; null with too few days.';
COMMENT ON COLUMN {schema}.drift_daily.verdict IS 'Verdict on all columns of this kind of drift together.';
COMMENT ON COLUMN {schema}.drift_daily.comparison_uri IS 'Artifact with the comparison.';
