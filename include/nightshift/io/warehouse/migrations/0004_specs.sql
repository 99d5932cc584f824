-- Specs and versions: decisions name the spec, calibration is an artifact of its own, backtests are kept.

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM {schema}.deployments) THEN
        RAISE EXCEPTION 'this warehouse holds models of an earlier version of Nightshift, which had no specs'
            USING ERRCODE = 'feature_not_supported',
            HINT = 'Keep it as it is and give this version another database (NIGHTSHIFT_WAREHOUSE_URL) and bucket, or on a local stack run make clean; then load the history again.';
    END IF;
END
$$;

ALTER TABLE {schema}.deployments
    DROP CONSTRAINT deployments_action_check,
    DROP CONSTRAINT deployments_role_check,
    DROP CONSTRAINT deployments_name_a_model,
    ADD COLUMN spec_id text NOT NULL DEFAULT '',
    ADD COLUMN spec jsonb,
    ADD CONSTRAINT deployments_action_check CHECK (action IN (
        'registered', 'rejected', 'failed', 'backtest_failed', 'shadow', 'canary', 'awaiting_approval', 'approved',
        'declined', 'approval_timed_out', 'promoted', 'confirmed', 'withdrawn', 'rolled_back', 'held', 'killed',
        'restored', 'retired')),
    ADD CONSTRAINT deployments_role_check CHECK (role IN ('champion', 'challenger', 'former', 'fallback')),
    ADD CONSTRAINT deployments_registered_has_model CHECK (action <> 'registered' OR model IS NOT NULL),
    ADD CONSTRAINT deployments_name_a_spec CHECK (
        action NOT IN ('registered', 'shadow', 'canary', 'promoted', 'rolled_back') OR spec_id <> '');
COMMENT ON TABLE {schema}.deployments IS 'Append-only: decisions about specs and versions, when, why and by whom. Which version serves follows from all rows.';
COMMENT ON COLUMN {schema}.deployments.spec_id IS 'Spec that is decided about: <name>-<first 8 hex digits of the hash of what it declares>.';
COMMENT ON COLUMN {schema}.deployments.spec IS 'What the spec declares, in the first row that names it.';
COMMENT ON COLUMN {schema}.deployments.model_version IS 'Version that is decided about: <training partition>-<first 8 hex digits of its hash>; empty for decisions about a spec.';
COMMENT ON COLUMN {schema}.deployments.replaces IS 'Spec id of the champion that a promoted or rolled back spec takes over from; null if there was none.';

ALTER TABLE {schema}.publications
    DROP CONSTRAINT publications_role_check,
    ADD CONSTRAINT publications_role_check CHECK (role IN ('champion', 'former', 'fallback')),
    ADD COLUMN spec_id text NOT NULL,
    ADD COLUMN calibration_uri text NOT NULL,
    ADD COLUMN calibration_sha256 text NOT NULL;
COMMENT ON COLUMN {schema}.publications.publish_id IS 'SHA-256 over the partition and the hashes of version, calibration and scores.';
COMMENT ON COLUMN {schema}.publications.role IS 'In which role the primary version scored: champion or fallback.';
COMMENT ON COLUMN {schema}.publications.model_version IS 'Primary version; rows of a canary name their own in predictions.';
COMMENT ON COLUMN {schema}.publications.spec_id IS 'Spec of the version in model_version.';
COMMENT ON COLUMN {schema}.publications.calibration_uri IS 'Artifact of the calibration that was applied to the graph''s answers.';

DROP TABLE {schema}.shadow_predictions;
CREATE TABLE {schema}.shadow_predictions (
    partition date NOT NULL,
    {key_definitions},
    role text NOT NULL CHECK (role IN ('champion', 'challenger', 'former', 'fallback')),
    spec_id text NOT NULL,
    model_version text NOT NULL,
    raw_score double precision NOT NULL CHECK (raw_score >= 0 AND raw_score <= 1),
    score double precision NOT NULL CHECK (score >= 0 AND score <= 1),
    PRIMARY KEY (partition, spec_id, {key})
);
COMMENT ON TABLE {schema}.shadow_predictions IS 'Scores of every version that scored a partition beside the primary.';
COMMENT ON COLUMN {schema}.shadow_predictions.raw_score IS 'Answer of the graph, before calibration.';
COMMENT ON COLUMN {schema}.shadow_predictions.score IS 'Calibrated score.';

DROP TABLE {schema}.trial_nights;

DROP TABLE {schema}.performance_daily;
CREATE TABLE {schema}.performance_daily (
    partition date NOT NULL,
    prediction_date date NOT NULL,
    role text NOT NULL CHECK (role IN ('published', 'champion', 'challenger', 'former', 'fallback')),
    spec_id text NOT NULL,
    model_version text NOT NULL,
    known_on date NOT NULL,
    rows bigint NOT NULL,
    predictions bigint NOT NULL,
    auc double precision,
    log_loss double precision NOT NULL,
    brier double precision NOT NULL,
    mean_score double precision NOT NULL,
    label_rate double precision NOT NULL,
    PRIMARY KEY (prediction_date, role, model_version)
);
COMMENT ON TABLE {schema}.performance_daily IS 'How the scores of one day did. A row is replaced when labels arrive or are corrected later.';
COMMENT ON COLUMN {schema}.performance_daily.partition IS 'Partition that made the predictions.';
COMMENT ON COLUMN {schema}.performance_daily.prediction_date IS {prediction_date_comment};
COMMENT ON COLUMN {schema}.performance_daily.role IS 'published: the rows that readers saw, one row per version that answered; otherwise all rows that the version scored in that role.';
COMMENT ON COLUMN {schema}.performance_daily.known_on IS 'Partition whose labels were the last ones used.';
COMMENT ON COLUMN {schema}.performance_daily.rows IS 'Predictions with a known outcome.';
COMMENT ON COLUMN {schema}.performance_daily.predictions IS 'Predictions, with and without a known outcome; rows / predictions says how mature the row is.';
COMMENT ON COLUMN {schema}.performance_daily.auc IS 'Area under the ROC curve; null if all outcomes are alike.';
COMMENT ON COLUMN {schema}.performance_daily.log_loss IS 'Mean negative log likelihood, natural logarithm.';
COMMENT ON COLUMN {schema}.performance_daily.brier IS 'Mean squared difference between score and outcome.';

CREATE TABLE {schema}.backtests (
    backtest_id text NOT NULL,
    spec_id text NOT NULL,
    baseline text NOT NULL,
    partition date NOT NULL,
    prediction_date date NOT NULL,
    trained_on date NOT NULL,
    rows bigint NOT NULL,
    log_loss double precision NOT NULL,
    brier double precision NOT NULL,
    auc double precision,
    mean_score double precision NOT NULL,
    label_rate double precision NOT NULL,
    PRIMARY KEY (backtest_id, spec_id, baseline, partition)
);
COMMENT ON TABLE {schema}.backtests IS 'Walk-forward results: one row per backtest, spec and partition.';
COMMENT ON COLUMN {schema}.backtests.backtest_id IS 'First 16 hex digits of the hash of the backtest''s artifact.';
COMMENT ON COLUMN {schema}.backtests.baseline IS 'Empty, or frozen: the version of the first origin, never refitted nor calibrated, or frozen_calibrated: the same, calibrated nightly.';
COMMENT ON COLUMN {schema}.backtests.partition IS 'Partition that would have made the predictions.';
COMMENT ON COLUMN {schema}.backtests.trained_on IS 'Partition whose training made the version.';
