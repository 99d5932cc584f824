-- The first version of the champion's spec is scored beside the newest one: what retraining is worth.

ALTER TABLE {schema}.shadow_predictions
    DROP CONSTRAINT shadow_predictions_role_check,
    ADD CONSTRAINT shadow_predictions_role_check CHECK (
        role IN ('champion', 'challenger', 'former', 'fallback', 'frozen'));
ALTER TABLE {schema}.performance_daily
    DROP CONSTRAINT performance_daily_role_check,
    ADD CONSTRAINT performance_daily_role_check CHECK (
        role IN ('published', 'champion', 'challenger', 'former', 'fallback', 'frozen'));
COMMENT ON COLUMN {schema}.shadow_predictions.role IS 'In which role the version scored. frozen: the first version of the champion''s spec, never refitted nor calibrated.';
COMMENT ON COLUMN {schema}.performance_daily.role IS 'published: the rows that readers saw, one row per version that answered; otherwise all rows that the version scored in that role. frozen: the first version of the champion''s spec, never refitted nor calibrated.';
